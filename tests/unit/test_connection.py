"""A connection, with the server's direct way and without."""

import asyncio

import pytest
from django.conf import settings

from chat.connection import Connection
from chat.protocol import CloseCode
from salon import frames


@pytest.fixture(autouse=True)
def bound(monkeypatch):
    """How much may wait for a connection."""
    monkeypatch.setattr(settings, "MAX_QUEUED_BYTES", 1000)


class Asgi:
    """ASGI's `send` of a server that lets its application wait while a client does not read."""

    def __init__(self):
        self.sent = []
        self.reads = asyncio.Event()
        self.reads.set()

    async def __call__(self, message):
        await self.reads.wait()
        self.sent.append(message)

    @property
    def texts(self):
        return [message["text"] for message in self.sent if message["type"] == "websocket.send"]


class Socket:
    def __init__(self):
        self.data = b""
        self.codes = []

    def send_frames(self, data):
        self.data += data

    def close(self, code):
        self.codes.append(code)


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


async def test_without_a_direct_way_everything_goes_through_send_in_order():
    asgi = Asgi()
    connection = Connection(asgi)
    connection.send("one", "two")
    connection.send("three")
    connection.close(CloseCode.INTERNAL)
    connection.send("too late")
    await settle()
    assert asgi.texts == ["one", "two", "three"]
    assert asgi.sent[-1] == {"type": "websocket.close", "code": CloseCode.INTERNAL}


async def test_who_does_not_read_is_closed_with_4408():
    asgi = Asgi()
    asgi.reads.clear()
    connection = Connection(asgi)
    for _ in range(10):
        connection.send("x" * 100)
        await settle()
    connection.send("x")
    assert not connection.is_closing
    connection.send("y")
    assert connection.is_closing
    asgi.reads.set()
    await settle()
    # The one that was on its way, and nothing of what waited.
    assert asgi.texts == ["x" * 100]
    assert asgi.sent[-1] == {"type": "websocket.close", "code": CloseCode.SLOW_READER}


async def test_much_at_once_is_not_reading_too_slowly():
    asgi = Asgi()
    connection = Connection(asgi)
    connection.send(*["x" * 500] * 5)
    await settle()
    connection.send("y")
    await settle()
    assert len(asgi.texts) == 6


async def test_who_reads_again_in_time_goes_on():
    asgi = Asgi()
    connection = Connection(asgi)
    for _ in range(3):
        asgi.reads.clear()
        for _ in range(9):
            connection.send("x" * 100)
        asgi.reads.set()
        await settle()
    assert len(asgi.texts) == 27
    assert not connection.is_closing


async def test_with_a_direct_way_frames_are_ready_made_and_nothing_waits():
    asgi, socket = Asgi(), Socket()
    connection = Connection(asgi, socket)
    connection.send("é", "x" * 200)
    connection.close(CloseCode.RATE_LIMITED)
    connection.send("too late")
    assert socket.data == frames.text("é".encode()) + frames.text(b"x" * 200)
    assert socket.codes == [4429]
    await settle()
    assert asgi.sent == []
