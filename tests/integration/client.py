"""A person at a WebSocket, as the tests see her: the `websockets` library with the contract's envelope around it."""

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from wire_document import WireDocument

DEADLINE = 15
"""Seconds after which a test gives up on an event: far beyond what a busy machine needs."""


class Client:
    def __init__(self, socket: ClientConnection, document: WireDocument):
        self.socket = socket
        self.document = document

    async def send(self, kind, data=None, **beside):
        """Send an event that the server's document allows; what it does not allow goes through `raw`."""
        event = {"type": kind, "data": data or {}, "timestamp": datetime.now(UTC).isoformat(), **beside}
        self.document.check_sent(event)
        await self.raw(json.dumps(event))

    async def raw(self, frame, **options):
        """Send a frame, whatever it is."""
        await self.socket.send(frame, **options)

    async def receive(self, within=DEADLINE):
        """The next event, whatever it is, as long as the server's document describes it."""
        async with asyncio.timeout(within):
            frame = await self.socket.recv()
        assert isinstance(frame, str)
        event = json.loads(frame)
        self.document.check_received(event)
        assert_timestamp(event["timestamp"])
        return event

    async def expect(self, kind, within=DEADLINE):
        """The next event, which is of this type; who comes, goes and stops typing in the meantime is passed over."""
        event = await self.receive(within)
        while event["type"] != kind and _is_passing(event):
            event = await self.receive(within)
        assert event["type"] == kind, event
        return event

    async def until(self, kind):
        """All events up to the next one of this type."""
        found = [await self.receive()]
        while found[-1]["type"] != kind:
            found.append(await self.receive())
        return found

    async def status(self, person, status):
        """The event that this person is now so present, all others passed over."""
        wanted = person.id, status
        while True:
            event = await self.receive()
            if event["type"] == "user_status" and (event["data"]["user_id"], event["data"]["status"]) == wanted:
                return event

    async def error(self, code):
        """The next event, which is an error with this code."""
        event = await self.expect("error")
        assert event["data"]["code"] == code, event
        # What is away for the moment is worth another try, and it says when.
        assert event["data"].keys() == {"error", "code", *(("retry_after",) if code == "unavailable" else ())}
        assert event["data"]["error"]
        return event["data"]["error"]

    async def settle(self):
        """All that was sent before is handled, and nothing has come of it for this client."""
        await self.send("ping")
        await self.expect("pong")

    async def join(self, room_id):
        await self.send("join_room", {"room_id": room_id}, room_id=room_id)
        await self.settle()

    async def say(self, room_id, content):
        await self.send("message", {"room_id": room_id, "content": content}, room_id=room_id)

    async def closed(self):
        """The code that the server closes with, nothing but who comes and goes having been received before."""
        try:
            while _is_passing(event := await self.receive()):
                pass
        except ConnectionClosed as close:
            if not close.rcvd:
                return 1006
            self.document.check_closed(close.rcvd.code)
            return close.rcvd.code
        raise AssertionError(f"received {event!r}")

    async def closed_by(self, frame):
        """The code that the server closes with on this frame, which it may not let arrive whole."""
        with suppress(ConnectionClosed):
            await self.raw(frame)
        return await self.closed()


def _is_passing(event):
    """Whether it can come of what somebody did before, such as close her connection."""
    return event["type"] == "user_status" or (event["type"] == "typing" and not event["data"]["is_typing"])


@asynccontextmanager
async def connected(target, token=None, *, process=0, **options):
    """A connection to the target; `process` chooses one of its server processes, where it has several."""
    url = target.websocket_urls[process % len(target.websocket_urls)]
    if token:
        url += f"?token={token}"
    document = target.document
    async with connect(url, ssl=target.ssl, proxy=None, max_size=None, **target.connect_options, **options) as socket:
        yield Client(socket, document)


@asynccontextmanager
async def settled(target, token, **options):
    """A connection that the server knows the person of: from now on, what concerns her reaches it."""
    async with connected(target, token, **options) as client:
        await client.settle()
        yield client


@asynccontextmanager
async def in_the_room(target, people_and_room, processes):
    """Connections of people who have joined a room, which is named behind them, each at one of the processes."""
    *people, room = people_and_room
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connected(target, person.token, process=process))
            for person, process in zip(people, processes, strict=True)
        ]
        for client in clients:
            await client.join(room)
        yield clients


def assert_timestamp(value):
    """ISO 8601 in UTC, always of the same precision."""
    assert datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%f%z")
    assert len(value) == len("2024-01-15T10:00:00.000000Z")
