"""A host with fifty people on it, an application to be shipped there, and the playbooks that do it."""

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/integration")]

from faults import population  # noqa: E402 (it is found once the path says where)
from faults.catalogue import Fault, in_all  # noqa: E402
from faults.crowd import Crowd  # noqa: E402
from faults.events import Told, read  # noqa: E402
from faults.rounds import WELL, Ring  # noqa: E402
from faults.testhost import Host  # noqa: E402

LOGS = ROOT / "build/lifecycle"
NAME = "salon-lifecycle"
LONGEST = 240
"""Seconds that a playbook may take."""

RESTORE = "for number in 1 2; do systemctl start daphne@$number.service; done"


class Application:
    """The application in a repository of its own, where commits are made for the tests."""

    def __init__(self, root):
        self.root = root
        self.source = root / "app"
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(ROOT / "app", self.source, ignore=ignored)
        self.git("init", "--quiet")
        self.base = self.commit("The application as it is")

    def git(self, *arguments):
        names = ["-c", "user.name=Anna", "-c", "user.email=anna@example.org"]
        done = subprocess.run(["git", *names, "-C", self.root, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, subject):
        """Commit what was changed; the beginning of its hash, as a release has it."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", subject)
        return self.git("rev-parse", "HEAD")[:10]

    def append(self, path, text):
        with (self.source / path).open("a") as file:
            file.write(text)

    def change(self, subject):
        """A commit that changes something that nobody sees."""
        self.append("chat/__init__.py", f"\n# {subject}\n")
        return self.commit(subject)

    def migration(self, name, after, sql, contract_after=""):
        mark = f'    contract_after = "{contract_after}"\n' if contract_after else ""
        self.source.joinpath(f"chat/migrations/{name}.py").write_text(
            "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n"
            f'{mark}    dependencies = [("chat", "{after}")]\n'
            f'    operations = [migrations.RunSQL("{sql}", migrations.RunSQL.noop)]\n'
        )

    def newest_migration(self):
        return max(path.stem for path in (self.source / "chat/migrations").glob("0*.py"))

    def back_to(self, commit):
        """Go on from an earlier commit."""
        self.git("checkout", "--quiet", "--detach", commit)


@dataclass
class Run:
    """A run of a playbook: what it said, and how it ended."""

    said: str = ""
    status: int | None = None
    seconds: float = 0.0
    sentence: str = field(init=False, default="")

    def finish(self, said, status, began):
        self.said, self.status, self.seconds = said, status, time.monotonic() - began
        self.sentence = " ".join(said.split())


class Controller:
    """Runs playbooks as an operator does."""

    def __init__(self, inventory, application):
        self.inventory = inventory
        self.application = application

    def note(self, what, run):
        """Keep how long something took."""
        with (LOGS / "figures.txt").open("a") as file:
            file.write(f"{what}: {run.seconds:.1f} s\n")

    async def start(self, name, *arguments):
        return await asyncio.create_subprocess_exec(
            *("ansible-playbook", ROOT / f"playbooks/{name}.yml", "--inventory", self.inventory),
            *("--extra-vars", f"daphne_source={self.application.source} daphne_uncommitted=false", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=2**24,
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"},
        )

    async def play(self, name, *arguments):
        """Run a playbook to its end."""
        run, began = Run(), time.monotonic()
        process = await self.start(name, *arguments)
        async with asyncio.timeout(LONGEST):
            said, _ = await process.communicate()
        run.finish(said.decode(), process.returncode, began)
        return run

    async def kill_at(self, task, name, *arguments):
        """Kill a run as a task begins; what it had said."""
        process = await self.start(name, "-v", *arguments)
        said = ""
        async with asyncio.timeout(LONGEST):
            async for line in process.stdout:
                said += line.decode()
                if f"TASK [{task}]" in line.decode():
                    break
            else:
                raise AssertionError(f"{task} was never begun:\n{said}")
            process.send_signal(signal.SIGKILL)
            # What it has started may still have the pipe open.
            await process.wait()
        return said


@pytest.fixture(scope="session")
def application(tmp_path_factory):
    return Application(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="session")
def controller(application):
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    inventory = Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent
    return Controller(inventory, application)


@pytest.fixture(scope="session")
def host():
    return Host(NAME)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def crowd(host):
    """Fifty people, connected all the time."""
    seats = population.seats(await host.shell("salon shell --verbosity 0", population.script()))
    async with Crowd(seats, await host.door(), random.randrange(2**32)) as crowd:
        await crowd.all_here(WELL)
        yield crowd


@pytest.fixture(scope="session")
def under_load(host, crowd, controller):
    """Do something while everybody writes; nothing may be lost or doubled, and nobody may be kept waiting for long."""
    ring = Ring(host, crowd, LOGS, RESTORE)

    async def under_load(name, deed, *, silence=3.0, may_refuse=False):
        outcome = []

        async def begin(_host):
            outcome.append(await deed())

        fault = Fault(name, name, begin, allowed=in_all(silence))
        result = await ring.hold(fault, 1, 0)
        sys.stdout.write(f"{result.line()}\n")
        assert result.is_good, "\n".join([*result.details(), *(getattr(each, "said", "") for each in outcome)])
        if not may_refuse:
            diaries, _ = read(result.log)
            over_http = [event for each in diaries for event in each.events if isinstance(event, Told)]
            assert [event for event in over_http if event.connection == 0] == []
        return outcome[0]

    return under_load


@pytest.fixture(scope="session")
def releases(host):
    """Which release is current, and what each process runs."""

    async def releases():
        said = await host.shell("salon-release look --id none --environment none")
        looked = json.loads(said)
        return looked["current"], set(looked["running"].values())

    return releases
