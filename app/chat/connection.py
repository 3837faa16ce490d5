"""One WebSocket, as the rest of the process sees it."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable

from chat.auth import Identity
from chat.protocol import SenderInfo, Status

logger = logging.getLogger(__name__)


class Attendance:
    """One socket in one room.

    Messages up to the sequence number `after` are known to it, and are not sent to it again. While what it has missed
    is looked up, the room's events are `held`, each with the sequence number of its message, or None.
    """

    __slots__ = ("after", "arrived", "held", "told")

    def __init__(self, arrived: int, *, is_held: bool) -> None:
        self.after = 0
        self.arrived = arrived
        """The newest message that had come to this process before; it has not been delivered to this socket."""
        self.held: list[tuple[int | None, str]] | None = [] if is_held else None
        self.told: set[int] = set()
        """The people whose presence was told to this socket while events were held."""


class Connection:
    """Who a WebSocket belongs to, the rooms it has joined, and what is still to be sent to it, in order."""

    def __init__(self, send: Callable[[dict], Awaitable[None]]) -> None:
        self.since = time.monotonic()
        self.identity: Identity | None = None
        self.status: Status = "online"
        self.rooms: dict[int, Attendance] = {}
        self.typing: dict[int, float] = {}
        """The rooms in which she types at this socket, with the loop's time of when that was last told."""
        self.is_closing = False
        self._send = send
        self._outbox: deque[dict] = deque()
        self._writer: asyncio.Task[None] | None = None

    @property
    def person(self) -> SenderInfo | None:
        return self.identity.person if self.identity else None

    def send(self, text: str) -> None:
        """Send a text frame, after all that was given before; nothing after `close`."""
        self._put({"type": "websocket.send", "text": text})

    def close(self, code: int) -> None:
        """Close with this code once all that was given before is sent."""
        self._put({"type": "websocket.close", "code": int(code)})
        self.is_closing = True

    async def abandon(self) -> None:
        """The socket is gone: forget what is still to be sent."""
        self.is_closing = True
        self._outbox.clear()
        if self._writer:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer

    def _put(self, message: dict) -> None:
        if self.is_closing:
            return
        self._outbox.append(message)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._outbox:
                await self._send(self._outbox.popleft())
        except Exception as error:  # noqa: BLE001 (servers differ in what they raise when the peer is gone)
            self.is_closing = True
            self._outbox.clear()
            logger.info("A socket went away while it was written to: %r", error)
        finally:
            self._writer = None
