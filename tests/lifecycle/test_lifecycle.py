"""Releases come and go while fifty people write: nothing is lost or doubled, and what is bad goes back by itself.

The tests are a story, and each goes on where the one before it has ended.
"""

import asyncio

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="session")

COPY, INSTALL, MIGRATE, ACTIVATE = (
    f"daphne : {name}"
    for name in (
        "Copy it",
        "Install it",
        "Ask which migrations are to come",
        "Make it current, one process after the other",
    )
)


async def assert_runs(releases, commit):
    current, running = await releases()
    assert commit in current
    assert running == {current}


async def test_a_new_version(application, controller, under_load, releases):
    commit = application.change("A new version")
    looked = await controller.play("deploy", "--check")
    assert looked.status == 0, looked.said
    assert f"{commit}-py" in looked.sentence
    run = await under_load("deploy", lambda: controller.play("deploy"))
    assert run.status == 0, run.said
    controller.note("deploy under load", run)
    await assert_runs(releases, commit)


async def test_the_same_version_again_changes_nothing(application, controller, releases):
    before = await releases()
    run = await controller.play("deploy")
    assert run.status == 0, run.said
    assert "changed=0" in run.said
    assert "already" in run.sentence
    assert await releases() == before


async def test_a_new_version_without_load(application, controller, releases):
    commit = application.change("Another new version")
    run = await controller.play("deploy")
    assert run.status == 0, run.said
    controller.note("deploy", run)
    await assert_runs(releases, commit)


async def test_what_is_not_committed(application, controller, releases):
    before = await releases()
    application.append("chat/__init__.py", "\n# not committed\n")
    run = await controller.play("deploy")
    assert run.status != 0
    assert "changes that are in no commit: app/chat/__init__.py" in run.sentence
    application.git("checkout", "--quiet", ".")
    assert await releases() == before


@pytest.mark.parametrize(
    ("path", "text", "sign"),
    [
        (
            "salon/eventloop.py",
            "\nraise RuntimeError('This version does not start.')\n",
            "This version does not start.",
        ),
        ("chat/conversation.py", "\n\nasync def say(draft):\n    raise RuntimeError('It is mute.')\n", "It is mute."),
    ],
    ids=["does not start", "starts and is mute"],
)
async def test_a_version_that_does_not_work(application, controller, under_load, releases, path, text, sign):
    good = application.git("rev-parse", "HEAD")
    before, _ = await releases()
    application.append(path, text)
    bad = application.commit("A bad version")
    # One that is mute refuses those who happen to be on its first process.
    run = await under_load("bad-deploy", lambda: controller.play("deploy"), silence=30, may_refuse=True)
    assert run.status != 0
    assert "daphne@1: " in run.sentence
    assert f"Release {before} is back, and runs everywhere." in run.sentence
    assert sign in run.said
    assert await releases() == (before, {before})

    again = await controller.play("deploy")
    assert again.status != 0
    assert "was found bad: it did not come up" in again.sentence
    assert bad in again.said
    application.back_to(good)


async def test_a_version_whose_migration_fails(application, controller, under_load, releases, host):
    good = application.git("rev-parse", "HEAD")
    before = await releases()
    application.migration("0900_broken", application.newest_migration(), "SELECT 1 / 0")
    application.commit("A migration that fails")
    looked = await controller.play("deploy", "--check")
    assert "chat.0900_broken" in looked.sentence
    run = await under_load("bad-migration", lambda: controller.play("deploy"))
    assert run.status != 0
    assert "division by zero" in run.said
    assert "The migration that failed has changed nothing" in run.sentence
    assert await releases() == before
    assert "[ ] 0900" not in await host.shell("salon showmigrations chat")
    application.back_to(good)


async def test_a_rollback(application, controller, under_load, releases):
    before, _ = await releases()
    commit = application.change("A version that nobody likes")
    assert (await controller.play("deploy")).status == 0
    await assert_runs(releases, commit)
    run = await under_load("rollback", lambda: controller.play("rollback"))
    assert run.status == 0, run.said
    assert await releases() == (before, {before})
    controller.note("rollback under load", run)
    refused = await controller.play("deploy")
    assert "was found bad: it was rolled back" in refused.sentence

    there = await controller.play("deploy", "--extra-vars", "daphne_again=true")
    assert there.status == 0, there.said
    run = await controller.play("rollback")
    controller.note("rollback", run)
    assert await releases() == (before, {before})


async def test_expand_and_contract(application, controller, under_load, releases):
    before, _ = await releases()
    newest = application.newest_migration()
    expand, contract = "0901_expand", "0902_contract"
    application.migration(expand, newest, "ALTER TABLE chat_school ADD COLUMN motto text")
    first = application.commit("Expand")
    application.migration(contract, expand, "ALTER TABLE chat_school DROP COLUMN motto", contract_after=expand)
    second = application.commit("Contract")

    # At once, the code that runs could not live with it.
    run = await controller.play("deploy")
    assert run.status != 0
    assert f"chat.{contract} takes away what release {before}, which runs, still uses" in run.sentence
    assert (await releases())[0] == before

    for commit in (first, second):
        application.back_to(commit)
        run = await under_load("deploy-with-migration", lambda: controller.play("deploy"))
        assert run.status == 0, run.said
        await assert_runs(releases, commit)

    refused = await controller.play("rollback", "--extra-vars", f"rollback_to={before}")
    assert refused.status != 0
    assert f"Release {before} cannot run with the database of now" in refused.sentence
    assert f"chat.{contract} has taken away what it uses. The way out is forward" in refused.sentence
    await assert_runs(releases, second)

    allowed = await controller.play("rollback")
    assert allowed.status == 0, allowed.said
    await assert_runs(releases, first)


async def test_two_at_once(application, controller, releases, host):
    commit = application.change("At the same time")
    first = asyncio.create_task(controller.play("deploy"))
    await host.shell("until test -e /run/salon-release/lock.json; do sleep 0.1; done")
    second = await controller.play("deploy")
    assert second.status != 0
    assert "holds the lock, since" in second.sentence
    assert (await first).status == 0, first.result().said
    await assert_runs(releases, commit)


@pytest.mark.parametrize("task", [COPY, INSTALL, MIGRATE, ACTIVATE], ids=lambda task: task.split(" : ")[1].split()[0])
async def test_killed_and_run_again(application, controller, under_load, releases, host, task):
    commit = application.change(f"Killed at {task}")

    async def kill_and_run_again():
        await controller.kill_at(task, "deploy")
        return await controller.play("deploy")

    run = await under_load(f"killed-at-{task.split()[2].lower()}", kill_and_run_again)
    assert run.status == 0, run.said
    await assert_runs(releases, commit)
    left = "ls -A /opt/salon/releases /opt/salon/environments | grep -E '^[.](new|old|brought)' || true"
    assert await host.shell(left) == ""
    assert await host.shell("test ! -e /run/salon-release/lock.json && echo free") == "free\n"


async def test_five_releases_stay(host):
    assert int(await host.shell("ls /opt/salon/releases | wc -l")) <= 5
