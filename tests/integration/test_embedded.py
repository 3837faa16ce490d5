"""`make run`: the embedded server as a frontend developer starts it."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from client import connected
from target import DEMO, PROJECT, SERVER, Target, free_port, running, salon

from waiting import wait_until

APP = PROJECT / "app"


@contextmanager
def demo(directory, *arguments, host="localhost"):
    """The embedded server, ready: the target, its process and what it has printed."""
    port = free_port()
    log = directory / f"demo-{port}.log"
    environment = {"SALON_DATA_DIR": str(directory / "var")}
    command = [*DEMO, "--port", str(port), *arguments]
    # With an output that is buffered, as it is in any pipe.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with running(command, log, cwd=APP, env={**inherited, **environment}) as process:
        target = Target([f"http://{host}:{port}"], [sys.executable, str(APP / "manage.py")], environment)
        wait_until(
            lambda: "NEXT_PUBLIC_API_BASE_URL" in log.read_text() or process.poll() is not None, "the server", 60
        )
        yield target, process, log.read_text()


def variables(printed):
    """The lines for `.env.local`, as a frontend would read them."""
    return dict(re.findall(r"^(NEXT_PUBLIC_\w+)=(.*)$", printed, re.MULTILINE))


def test_it_runs_on_uvloop(embedded):
    """Daphne is an application of Django's, and makes a loop of its own when it is loaded before somebody else has."""
    for process in embedded.processes:
        assert "/uvloop/" in Path(f"/proc/{process.pid}/maps").read_text()


async def test_what_it_prints_is_all_that_a_frontend_needs(tmp_path):
    with demo(tmp_path) as (target, _, printed):
        found = variables(printed)
        host = found["NEXT_PUBLIC_WS_HOST"]
        assert found == {
            "NEXT_PUBLIC_WS_HOST": host,
            "NEXT_PUBLIC_WS_PROTOCOL": "ws",
            "NEXT_PUBLIC_API_TOKEN": found["NEXT_PUBLIC_API_TOKEN"],
            "NEXT_PUBLIC_API_BASE_URL": f"http://{host}",
        }
        assert target.urls == [f"http://{host}"]
        # A frontend's development server is another origin on this machine.
        async with connected(target, found["NEXT_PUBLIC_API_TOKEN"], origin="http://localhost:3000") as alice:
            await alice.join(1)
            await alice.say(1, "from another origin")
            message = (await alice.expect("message"))["data"]
            assert message["sender_info"] == {"id": 1, "name": "Alice Martin", "role": "teacher", "avatar": None}
            await alice.join(2)


async def test_bob_is_in_the_first_room_only(tmp_path):
    with demo(tmp_path) as (target, _, _):
        async with connected(target, target.manage("create_token", "bob")) as bob:
            await bob.join(1)
            await bob.send("join_room", {"room_id": 2})
            await bob.error("invalid_room")


async def test_a_second_run_keeps_what_was_said(tmp_path):
    with demo(tmp_path) as (target, _, printed):
        async with connected(target, variables(printed)["NEXT_PUBLIC_API_TOKEN"]) as alice:
            await alice.say(1, "kept")
            first = (await alice.expect("message"))["data"]
    with demo(tmp_path) as (target, _, _):
        # The token of the first run is still good: the keys are kept too.
        async with connected(target, variables(printed)["NEXT_PUBLIC_API_TOKEN"]) as alice:
            await alice.say(1, "after it")
            second = (await alice.expect("message"))["data"]
            assert second["seq"] == first["seq"] + 1


def assert_untroubled(log):
    """Only that people have come and gone is told."""
    lines = [json.loads(line) for line in log.splitlines()]
    assert {line["level"] for line in lines} == {"info"}
    assert {line["event"] for line in lines} <= {"connection.opened", "connection.closed", "connection.refused"}


async def test_control_c_ends_it_cleanly_while_people_talk(tmp_path):
    with demo(tmp_path) as (target, process, printed):
        token = variables(printed)["NEXT_PUBLIC_API_TOKEN"]
        async with connected(target, token) as joined, connected(target, token) as idle, connected(target):
            await joined.join(1)
            await idle.settle()
            process.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(process.wait, 30) == 0
        log = next(tmp_path.glob("demo-*.log")).read_text()
        assert log.startswith(printed)
        assert_untroubled(log.removeprefix(printed))


async def test_sigterm_ends_a_server_cleanly_while_people_talk(tmp_path):
    with salon(tmp_path, {}, command=SERVER) as target:
        target.manage("create_user", "ann")
        room = int(target.manage("create_room", "Room", "--member", "ann"))
        async with connected(target, target.manage("create_token", "ann")) as joined, connected(target):
            await joined.join(room)
            (process,) = target.processes
            process.terminate()
            assert await asyncio.to_thread(process.wait, 30) == 0
        assert_untroubled(next(tmp_path.glob("server-*.log")).read_text())


def refusal(directory, *arguments):
    """The one line that `make run` ends with when it cannot start."""
    done = subprocess.run(
        [*DEMO, *arguments],
        cwd=APP,
        env={**os.environ, "SALON_DATA_DIR": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_spoilt_key_is_named(tmp_path):
    (tmp_path / "token_key").write_text("")
    assert f"{tmp_path}/token_key holds 0 characters" in refusal(tmp_path)


def test_a_port_in_use_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(tmp_path, "--port", str(port))
    assert f"localhost:{port}" in said
    assert f"make run PORT={port + 1}" in said


def test_a_host_that_does_not_exist_is_named(tmp_path):
    assert "no-such-host.invalid:8000" in refusal(tmp_path, "--host", "no-such-host.invalid")


def test_host_is_honoured(tmp_path):
    with demo(tmp_path, "--host", "127.0.0.2", host="127.0.0.2") as (target, _, printed):
        assert variables(printed)["NEXT_PUBLIC_API_BASE_URL"] == target.urls[0]
        assert target.ready()[0] == 200


def test_every_address_answers_whatever_it_is_called(tmp_path):
    with demo(tmp_path, "--host", "0.0.0.0") as (target, _, printed):
        status, _, _ = target.request("GET", "/login/", headers={"Host": "my-laptop.local"})
        assert status == 200
        assert "Whoever can reach this address can log in" in printed
        # What it prints is of use on another machine too.
        own = urlsplit(variables(printed)["NEXT_PUBLIC_API_BASE_URL"])
        assert own.hostname not in ("0.0.0.0", "localhost")
        target.urls = [own.geturl()]
        assert target.ready()[0] == 200


def test_a_server_for_the_world_gets_nobody_whose_password_is_known(tmp_path):
    environment = os.environ | {
        "SALON_DATA_DIR": str(tmp_path),
        "SALON_PUBLIC_URL": "https://chat.example.org",
        "SALON_SECRET_KEY": "s" * 50,
        "SALON_TOKEN_KEY": "t" * 50,
    }
    done = subprocess.run(DEMO, cwd=APP, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "create_user" in done.stderr
    assert list(tmp_path.iterdir()) == []
