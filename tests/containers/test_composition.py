"""The services of compose.yaml: what each may do, and what becomes of a conversation when one is stopped."""

import asyncio
import os
import subprocess
import time
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import pytest
from api import Api, File
from client import connected
from test_drain import writing

from chat.protocol import CloseCode
from composition import ROOT
from waiting import wait_until

LASTING = {"app", "nginx", "redis", "postgresql"}
ONCE = {"secrets", "certificate", "database", "migrate"}
GRACE = 30
"""Seconds that compose.yaml gives the application to end."""


def test_those_that_serve_are_healthy_and_the_others_have_ended_well(composition):
    wait_until(
        lambda: all(composition.containers()[name]["State"]["Health"]["Status"] == "healthy" for name in LASTING),
        "all to be healthy",
    )
    found = composition.containers()
    assert found.keys() == LASTING | ONCE
    for name in ONCE:
        assert (found[name]["State"]["Status"], found[name]["State"]["ExitCode"]) == ("exited", 0), name


@pytest.mark.parametrize("name", sorted(LASTING | ONCE))
def test_none_may_more_than_it_needs(composition, name):
    container = composition.containers()[name]
    host = container["HostConfig"]
    assert container["Config"]["User"] not in ("", "0", "root")
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["PidsLimit"] > 0
    assert not host["Privileged"]
    assert host["LogConfig"]["Config"]["max-size"]
    # nginx alone is reached from outside, and reaches anybody.
    assert (host["NetworkMode"] == "none") == (name != "nginx")
    if name in LASTING:
        assert host["Memory"] > 0
        assert host["RestartPolicy"]["Name"] == "unless-stopped"


def test_a_secret_is_seen_by_the_application_alone(composition):
    keys = composition.compose("exec", "--no-TTY", "app", "sh", "-c", "cat /etc/salon/secrets/*").split()
    assert [len(key) for key in keys] == [64, 64]
    described = str(composition.containers())
    assert not [key for key in keys if key in described]
    for name in ("nginx", "redis", "postgresql"):
        mounted = {mount["Destination"] for mount in composition.containers()[name]["Mounts"]}
        assert "/etc/salon/secrets" not in mounted, name
    # Whose certificates browsers trust is decided by a key that nginx has not.
    assert composition.compose("exec", "--no-TTY", "nginx", "ls", "/etc/salon/tls").split() == ["ca.pem", "salon.pem"]


def test_the_application_cannot_change_its_tables(composition):
    script = (
        "from django.db import connection; cursor = connection.cursor(); cursor.execute('DROP TABLE chat_chatmessage')"
    )
    command = ["exec", "--no-TTY", "app", "sh", "-c", f'salon shell --command "{script}" 2>&1 || true']
    assert "must be owner of table chat_chatmessage" in composition.compose(*command)


def test_what_comes_by_http_is_sent_to_https(composition, target):
    port = os.environ["SALON_HTTP_PORT"]
    plain = type(target)(urls=[f"http://localhost:{port}"], manage_command=[], address=composition.address)
    status, headers, _ = plain.request("GET", "/docs/?a=b")
    assert (status, headers["Location"]) == (308, f"{composition.url}/docs/?a=b")
    # A browser that insists on TLS does so for all of localhost, a frontend's own server included.
    _, headers, _ = target.request("GET", "/readyz")
    assert headers["Strict-Transport-Security"] == "max-age=0"


async def test_who_is_in_a_process_that_is_stopped_is_sent_away_and_loses_nothing(composition, target, school):
    """All are told to come back, and what was stored until then is what the others have heard."""
    people = [school.person(f"Writer{number}") for number in range(4)]
    room = school.room("Stopped", *people)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(target, person.token)) for person in people]
        for client in clients:
            await client.join(room)
        diaries = [
            await stack.enter_async_context(writing(client, room, f"w{number}"))
            for number, client in enumerate(clients)
        ]
        await asyncio.to_thread(wait_until, lambda: all(each for _, each, _ in diaries), "everybody's first words")
        began = time.monotonic()
        await asyncio.to_thread(composition.compose, "stop", "app")
    assert time.monotonic() - began < GRACE
    assert [codes for _, _, codes in diaries] == [[CloseCode.SERVICE_RESTART]] * len(diaries)
    assert composition.containers()["app"]["State"]["ExitCode"] == 0
    status, headers, _ = target.request("GET", "/readyz")
    assert (status, headers["Retry-After"]) == (503, "5")
    composition.compose("start", "app")
    wait_until(lambda: target.ready()[0] == 200, "the application")
    acknowledged = sorted(content for _, each, _ in diaries for content in each)
    async with connected(target, people[0].token) as client:
        await client.send("join_room", {"room_id": room, "since": 0})
        stored, complete = [], False
        while not complete:
            event = await client.expect("history")
            stored += [message["content"] for message in event["data"]["messages"]]
            complete = event["data"]["complete"]
    assert len(stored) == len(set(stored))
    assert set(acknowledged) <= set(stored) <= {content for each, _, _ in diaries for content in each}


def test_a_process_that_dies_is_started_again_and_finds_its_place(composition, target):
    before = composition.containers()["app"]
    # All that is there but the one that reaps them.
    composition.compose("exec", "--detach", "app", "sh", "-c", "kill -KILL -1")
    wait_until(
        lambda: (
            (now := composition.containers()["app"])["RestartCount"] > before["RestartCount"]
            and now["State"]["Health"]["Status"] == "healthy"
        ),
        "it to be back",
    )
    assert target.ready()[0] == 200


def documented(mark):
    """The commands of docs/containers.md below a mark."""
    text = (ROOT / "docs/containers.md").read_text()
    block = text.partition(f"<!-- {mark} -->\n")[2].partition("\n\n")[0]
    assert "docker compose" in block
    return f'docker() {{ shift; {ROOT}/tests/containers/compose "$@"; }}\n{block}'


def run(script, directory):
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=directory,
        env={**os.environ, "COMPOSE_FILE": str(ROOT / "compose.yaml")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_of_it_comes_back_from_a_backup(composition, target, school, tmp_path):
    """It goes the way of docs/containers.md. The last one: it ends all that runs."""
    person = school.person("Kept")
    room = school.room("Kept", person)
    content = os.urandom(100_000)
    file = {"attachment": File("kept.bin", content)}
    sent = Api(target, person).ok(
        "POST", "/chats/messages/create/", {"chat_room_id": room}, files=file.items(), status=201
    )
    run(documented("backup"), tmp_path)
    target.close()
    composition.compose("down", "--volumes", "--timeout", "10")
    run(documented("restore"), tmp_path)
    wait_until(lambda: target.ready()[0] == 200, "the application")
    # Her token counts, so the keys are the same; and whoever trusted the authority still does.
    [message] = Api(target, person).ok("GET", f"/chats/messages/?room_id={room}")["results"]
    assert message["id"] == sent["id"]
    headers = {"Authorization": f"Bearer {person.token}"}
    status, _, found = target.request("GET", urlsplit(sent["attachment_url"]).path, headers=headers, raw=True)
    assert (status, found) == (200, content)
    # And it goes on.
    Api(target, person).ok("POST", "/chats/messages/create/", {"chat_room_id": room, "content": "more"}, status=201)
