"""One WebSocket, as the rest of the process sees it."""

import asyncio
import contextlib
import itertools
import logging
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from django.conf import settings

from chat.auth import Identity
from chat.protocol import CloseCode, SenderInfo, Status
from salon import frames, measures
from salon.logs import Caller, about

logger = logging.getLogger(__name__)

_PROCESS = f"{secrets.token_hex(4)}-"
_numbers = itertools.count(1)


class Socket(Protocol):
    """What `salon.server` offers in place of ASGI's `send`: the extension `salon.direct` of a connection's scope.

    Nothing here waits: what the kernel does not take at once is queued, up to a bound that closes the connection.
    """

    def send_frames(self, data: bytes) -> None:
        """Send ready-made frames (`salon.frames`), after all that was given before; nothing after `close`."""

    def close(self, code: int) -> None:
        """Close with this code once all that was given before is sent."""

    @staticmethod
    def broadcast(sockets: Iterable["Socket"], data: bytes) -> None:
        """`send_frames` on each of the sockets."""


class Attendance:
    """One socket in one room.

    Messages up to the sequence number `after` are known to it, and are not sent to it again. While what it has missed
    is looked up, the room's events are `held`, each with the sequence number of its message, or None. Where the room's
    order began meanwhile, `begun` is the number up to which it passes nothing on.
    """

    __slots__ = ("after", "arrived", "begun", "held", "told")

    def __init__(self, arrived: int, *, is_held: bool) -> None:
        self.after = self.begun = 0
        self.arrived = arrived
        """The newest message that had come to this process before; it has not been delivered to this socket."""
        self.held: list[tuple[int | None, str]] | None = [] if is_held else None
        self.told: set[int] | None = set() if is_held else None
        """The people whose presence was told to this socket while events were held."""


class Connection:
    """Who a WebSocket belongs to, the rooms it has joined, and the way to it.

    `name` is what the log calls it. `socket` is the server's direct way, where it has one; without it everything goes
    through ASGI's `send`, in order.
    """

    __slots__ = (
        "_outbox",
        "_queued",
        "_send",
        "_writer",
        "caller",
        "identity",
        "is_closing",
        "rooms",
        "since",
        "socket",
        "status",
        "typing",
    )

    def __init__(
        self, send: Callable[[dict], Awaitable[None]], socket: Socket | None = None, name: str | None = None
    ) -> None:
        self.since = time.monotonic()
        self.caller = Caller("connection", name or f"{_PROCESS}{next(_numbers):x}")
        self.identity: Identity | None = None
        self.status: Status = "online"
        self.rooms: dict[int, Attendance] = {}
        self.typing: dict[int, float] = {}
        """The rooms in which she types at this socket, with the loop's time of when that was last told."""
        self.is_closing = False
        self.socket = socket
        self._send = send
        self._outbox: deque[dict] | None = None if socket else deque()
        self._queued = 0
        self._writer: asyncio.Task[None] | None = None

    @property
    def person(self) -> SenderInfo | None:
        return self.identity.person if self.identity else None

    def send(self, *texts: str) -> None:
        """Send text frames, after all that was given before; nothing after `close`."""
        if self.is_closing:
            return
        measures.counts.delivered_others += len(texts)
        if self.socket:
            self.socket.send_frames(b"".join([frames.text(text.encode()) for text in texts]))
        else:
            self._put(*({"type": "websocket.send", "text": text} for text in texts))

    def close(self, code: int) -> None:
        """Close with this code once all that was given before is sent."""
        if self.is_closing:
            return
        if self.socket:
            self.socket.close(int(code))
        else:
            self._put({"type": "websocket.close", "code": int(code)})
        self.is_closing = True

    async def abandon(self) -> None:
        """The socket is gone: forget what is still to be sent."""
        self.is_closing = True
        if self._outbox:
            self._outbox.clear()
        if self._writer:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer

    def _put(self, *messages: dict) -> None:
        # What is given at once may be more than that, as a long history is: it has had no time to be read.
        is_too_much = self._queued > settings.MAX_QUEUED_BYTES
        self._outbox.extend(messages)
        self._queued += sum(len(message.get("text", "")) for message in messages)
        if is_too_much and not self.is_closing:
            self._give_up()
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())

    def _give_up(self) -> None:
        """It reads too slowly: what waits for it is dropped, and it is closed."""
        measures.counts.slow_readers += 1
        logger.warning(
            "A WebSocket was closed with %d: %d bytes waited to be read by it",
            CloseCode.SLOW_READER,
            self._queued,
            extra=about("connection.slow"),
        )
        self._outbox.clear()
        self._outbox.append({"type": "websocket.close", "code": int(CloseCode.SLOW_READER)})
        self.is_closing = True

    async def _write(self) -> None:
        try:
            while self._outbox:
                message = self._outbox.popleft()
                await self._send(message)
                self._queued -= len(message.get("text", ""))
        except Exception as error:  # noqa: BLE001 (servers differ in what they raise when the peer is gone)
            self.is_closing = True
            self._outbox.clear()
            logger.info("A socket went away while it was written to: %s", type(error).__name__)
        finally:
            self._writer = None
