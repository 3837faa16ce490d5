"""The end of a process: everybody is told to come back, and nothing that somebody has said is lost."""

import asyncio
import http.client
import itertools
import json
import os
import select
import signal
import socket
import time
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress

import psycopg
import pytest
from client import connected
from echo_server import echo_process
from raw import CLOSE, TEXT, Raw, close, frame, get, request
from school import School
from target import salon
from test_inherited_socket import healthz, listening, start  # noqa: F401 (a fixture)
from websockets.exceptions import ConnectionClosed

from chat.protocol import CloseCode
from waiting import wait_until

RESTART = (CLOSE, CloseCode.SERVICE_RESTART.to_bytes(2, "big"))
PATIENCE = 30
"""Seconds after which a test gives up on the end of a process."""
AT_ONCE = 4
"""Seconds that are clearly less than what a drain waits for an application."""


@pytest.fixture
def echo(tmp_path):
    with echo_process(tmp_path) as (process, port):
        yield process, port


def end(process):
    """Let it end by itself; it says that all is well."""
    assert process.wait(PATIENCE) == 0


class Crowd:
    """Clients that answer a close, each as soon as it has heard it."""

    def __init__(self, port, count):
        self.members = {peer.socket.fileno(): peer for peer in (Raw(port).open("/crowd") for _ in range(count))}
        self.order = list(self.members)
        self.closed = {}
        """When each was closed, in that order."""
        self.heard = []
        self._poll = select.poll()
        for number in self.members:
            self._poll.register(number, select.POLLIN)

    def listen(self):
        """Take what has come, from whoever it has come to."""
        for number, _ in self._poll.poll(1000):
            peer = self.members[number]
            opcode, payload = peer.frame()
            if opcode == TEXT:
                self.heard.append(payload)
                continue
            assert (opcode, payload) == RESTART
            self.closed[number] = time.monotonic()
            self._poll.unregister(number)
            peer.send(close(CloseCode.SERVICE_RESTART))

    def leave(self):
        for peer in self.members.values():
            peer.socket.close()


def test_a_crowd_is_closed_bit_by_bit_in_no_order_and_talks_meanwhile(echo):
    process, port = echo
    crowd = Crowd(port, 300)
    process.terminate()
    while not crowd.closed:
        crowd.listen()
    # Those who are still there hear each other.
    early = set(crowd.closed)
    for number in set(crowd.members) - early:
        crowd.members[number].send(frame(TEXT, "still here"))
    while len(crowd.closed) < len(crowd.members):
        crowd.listen()
    assert len(crowd.heard) > len(crowd.members)
    moments = list(crowd.closed.values())
    # So many take 0.6 seconds.
    assert moments[-1] - moments[0] > 0.3
    assert list(crowd.closed) != crowd.order
    for peer in crowd.members.values():
        assert peer.rest() == []
    end(process)
    crowd.leave()


def record(directory):
    return [json.loads(line) for line in (directory / "record").read_text().splitlines()]


def test_what_is_said_until_the_close_is_answered_still_counts(echo, tmp_path):
    process, port = echo
    with Raw(port) as peer:
        peer.open("/record")
        peer.send(frame(TEXT, "before"))
        process.terminate()
        assert peer.frame() == RESTART
        peer.send(frame(TEXT, "crossed"), frame(TEXT, "in two"), close(CloseCode.SERVICE_RESTART))
        assert peer.rest() == []
    end(process)
    *said, last = record(tmp_path)
    assert [each["text"] for each in said] == ["before", "crossed", "in two"]
    assert (last["type"], last["code"]) == ("websocket.disconnect", CloseCode.SERVICE_RESTART)


def test_what_the_application_had_no_room_for_is_handled(echo):
    """The gate opens only when another connection has been closed."""
    process, port = echo
    with Raw(port) as flood, Raw(port) as opener:
        flood.open("/gated")
        opener.open("/opener")
        flood.send(b"".join(frame(TEXT, f"{number:08}") for number in range(2000)))
        process.terminate()
        assert opener.frame() == RESTART
        opener.send(close(CloseCode.SERVICE_RESTART))
        assert flood.frame() == RESTART
        flood.send(close(CloseCode.SERVICE_RESTART))
        # It is answered only behind all that was said.
        assert flood.rest() == []
    end(process)


def test_what_was_read_of_a_client_that_does_not_answer_is_handled_too(echo, tmp_path):
    """More than the application has room for at once."""
    process, port = echo
    said = [f"{number}" for number in range(200)]
    with Raw(port) as peer:
        peer.open("/sleep")
        peer.send(b"".join(frame(TEXT, each) for each in said))
        process.terminate()
        assert peer.rest() == [RESTART]
    end(process)
    *found, last = record(tmp_path)
    assert [each["text"] for each in found] == said
    assert (last["type"], last["code"]) == ("websocket.disconnect", CloseCode.SERVICE_RESTART)


def test_who_does_not_answer_holds_up_nobody(echo):
    process, port = echo
    with Raw(port) as silent, Raw(port) as good:
        silent.open()
        good.open()
        process.terminate()
        assert good.frame() == RESTART
        good.send(close(CloseCode.SERVICE_RESTART))
        assert good.rest() == []
        begun = time.monotonic()
        end(process)
        assert time.monotonic() - begun < AT_ONCE
        assert silent.rest() == [RESTART]


def plain(path="/x"):
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def test_requests_are_answered_and_are_the_last_on_their_connections(echo):
    """The gate opens only when a WebSocket has been closed: one request is there before, the others come late."""
    process, port = echo
    with ExitStack() as stack:
        idle, silent, early, half, late, websocket = (stack.enter_context(Raw(port)) for _ in range(6))
        idle.send(plain())
        assert idle.head()[0] == 200
        early.send(plain("/patient"))
        wait_until(lambda: get(port)["waiting"] == 1, "the request")
        half.send(plain()[:20])
        late.send(request()[:20])
        websocket.open("/opener")
        process.terminate()
        assert websocket.frame() == RESTART
        half.send(plain()[20:])
        late.send(request()[20:])
        status, headers = late.head()
        assert (status, headers["connection"], headers["retry-after"]) == (503, "close", "1")
        websocket.send(close(CloseCode.SERVICE_RESTART))
        for peer in (early, half):
            status, headers = peer.head()
            assert (status, headers["connection"].lower()) == (200, "close")
            assert json.loads(peer.until_end())["waiting"] == 1
        for peer in (idle, silent):
            peer.until_end()
        end(process)


def test_an_application_that_does_not_end_is_cancelled(echo, tmp_path):
    process, port = echo
    with Raw(port) as websocket, Raw(port) as visitor:
        websocket.open("/stubborn")
        visitor.send(plain("/stubborn"))
        wait_until(lambda: get(port)["waiting"] == 1, "the request")
        process.terminate()
        assert websocket.frame() == RESTART
        end(process)
    log = (tmp_path / "server.log").read_text()
    assert "1 applications of WebSockets took too long to end" in log
    assert "1 requests took too long to be answered" in log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(echo, number):
    process, port = echo
    with Raw(port) as websocket:
        websocket.open("/stubborn")
        process.send_signal(number)
        assert websocket.frame() == RESTART
        process.send_signal(number)
        assert process.wait(AT_ONCE) == -number


def test_who_comes_meanwhile_is_served_by_the_next_process(listening, tmp_path):  # noqa: F811 (a fixture)
    path = tmp_path / "salon.sock"
    process = start(listening, tmp_path)
    wait_until(lambda: b"200 OK" in healthz(path), "an answer")
    with Raw(0, family=socket.AF_UNIX, address=str(path)) as held, socket.socket(socket.AF_UNIX) as waiting:
        held.open("/ws/chat/")
        process.terminate()
        assert held.frame() == RESTART
        # It is closed and not answered: the process is still there.
        waiting.settimeout(PATIENCE)
        waiting.connect(str(path))
        waiting.sendall(plain("/healthz"))
        assert process.poll() is None
        end(process)
        process = start(listening, tmp_path)
        assert b"200 OK" in waiting.recv(1024)
    process.terminate()
    end(process)


@pytest.fixture
def manager(tmp_path):
    """What systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(PATIENCE)
        manager.bind(str(tmp_path / "notify"))
        yield manager


def told(manager, state):
    """The number of messages before the next one with this state."""
    count = 0
    while state not in manager.recv(1024).decode().splitlines():
        count += 1
    return count


def forget(manager):
    """Whatever has come until now."""
    manager.setblocking(False)
    with suppress(BlockingIOError):
        while manager.recv(1024):
            pass
    manager.settimeout(PATIENCE)


def test_the_service_manager_hears_of_it(manager, tmp_path):
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
    with echo_process(tmp_path, environment=environment) as (process, port):
        assert told(manager, "READY=1") == 0
        for _ in range(3):
            assert told(manager, "WATCHDOG=1") == 0
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT), "it to stand still")
        forget(manager)
        manager.settimeout(1)
        with pytest.raises(TimeoutError):
            manager.recv(1024)
        manager.settimeout(PATIENCE)
        process.send_signal(signal.SIGCONT)
        assert told(manager, "WATCHDOG=1") == 0
        with Raw(port) as silent:
            silent.open()
            process.terminate()
            told(manager, "STOPPING=1")
            # It is fed until the end.
            assert silent.frame() == RESTART
            assert told(manager, "WATCHDOG=1") == 0
            end(process)


def test_a_watchdog_of_another_process_is_not_fed(manager, tmp_path):
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
    with echo_process(tmp_path, environment=environment) as (process, port):
        get(port)
        process.terminate()
        assert [told(manager, "READY=1"), told(manager, "STOPPING=1")] == [0, 0]
        end(process)


def test_a_process_that_hangs_says_where(manager, tmp_path):
    """SIGABRT is what the watchdog ends it with."""
    with echo_process(tmp_path) as (process, _):
        process.send_signal(signal.SIGABRT)
        assert process.wait(PATIENCE) == -signal.SIGABRT
    assert "in run" in (tmp_path / "server.log").read_text()


def test_where_nobody_watches_a_process_that_hangs_ends_itself_and_says_where(tmp_path):
    with echo_process(tmp_path, environment={"WATCHDOG_USEC": "1000000"}) as (process, port):
        get(port)
        with suppress(OSError, http.client.HTTPException):
            get(port, "/hang")
        assert process.wait(PATIENCE) == 1
    log = (tmp_path / "server.log").read_text()
    assert "Timeout (0:00:01)!" in log
    assert "in hang" in log


def test_it_is_left_alone_while_it_drains(tmp_path):
    """Which takes longer, where somebody does not answer."""
    with echo_process(tmp_path, environment={"WATCHDOG_USEC": "500000"}) as (process, port), Raw(port) as silent:
        silent.open()
        process.terminate()
        assert silent.frame() == RESTART
        end(process)


# The chat itself


@pytest.fixture
def two(tmp_path, services):
    """Two processes of the test's own, with the database and Redis of the others."""
    environment = {name: services.environment[name] for name in ("REDIS_URL", "DATABASE_URL")}
    with salon(tmp_path, environment, processes=2) as target:
        yield target


@asynccontextmanager
async def writing(client, room, name):
    """Write all the time; gives what was sent, and what came back."""
    sent, acknowledged, codes = [], [], []

    async def write():
        with suppress(ConnectionClosed):
            for number in itertools.count():
                content = f"{name} {number}"
                await client.say(room, content)
                sent.append(content)
                # As fast as one may for long.
                await asyncio.sleep(0.05)

    async def read():
        try:
            while True:
                event = await client.receive()
                if event["type"] == "message" and event["data"]["content"].startswith(f"{name} "):
                    acknowledged.append(event["data"]["content"])
        except ConnectionClosed as closed:
            codes.append(closed.rcvd.code if closed.rcvd else 1006)

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        group.create_task(read())
        yield sent, acknowledged, codes


async def test_under_load_nothing_is_lost(two):
    """Whatever a client could send before it heard of the close is stored, and heard at the other process."""
    school = School(two)
    people = [school.person(f"Writer{number} W") for number in range(8)]
    reader = school.person("Rita Read")
    room = school.room("R", reader, *people)
    async with connected(two, reader.token, process=1) as r:
        await r.join(room)
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connected(two, person.token)) for person in people]
            for client in clients:
                await client.join(room)
            diaries = [
                await stack.enter_async_context(writing(client, room, f"w{number}"))
                for number, client in enumerate(clients)
            ]
            # Everybody's first words, in whatever order.
            heard = set()
            while len(heard & {f"w{number} 0" for number in range(len(people))}) < len(people):
                heard.add((await r.expect("message"))["data"]["content"])
            two.processes[0].terminate()
        assert [codes for _, _, codes in diaries] == [[CloseCode.SERVICE_RESTART]] * len(diaries)
        assert await asyncio.to_thread(two.processes[0].wait, PATIENCE) == 0
        sent = {content for each, _, _ in diaries for content in each}
        assert sent >= {content for _, each, _ in diaries for content in each}
        while heard != sent:
            heard.add((await r.expect("message"))["data"]["content"])
    with psycopg.connect(two.environment["DATABASE_URL"]) as connection:
        stored = connection.execute("SELECT content FROM chat_chatmessage WHERE room_id = %s", [room]).fetchall()
    assert sorted(content for (content,) in stored) == sorted(sent)
