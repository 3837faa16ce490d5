"""What a process does again and again, from its first connection to its end.

Among it, looks that nobody stays who may not: that a person is removed from a room or deactivated, or her token
revoked, is told to every process at once (`chat.announcements`). But the channel layer delivers at most once, and the
database can be changed by something that sends no signal; so what is told is also looked up, every few seconds.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from django.conf import settings

from chat import auth, database, limits, messages, protocol, rooms
from chat.hub import hub
from chat.presence import keeper
from chat.protocol import ChatError, CloseCode, ErrorCode

logger = logging.getLogger(__name__)

CHECK = {"check": True}
"""The notice that asks every process to look at once."""

LIMITS_INTERVAL = 1.0
"""Seconds between two reports of who is busy."""


class Watch:
    """The chores of a process, each with a task of its own; one a process."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._look_now = asyncio.Event()
        hub.on_notice(self._hear)
        hub.on_notice(limits.people.hear)

    def start(self) -> None:
        """Begin, unless it has begun."""
        if not self._tasks:
            chores: list[tuple[Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]] = [
                (self._wait_to_look, look),
                (_pause(settings.PRESENCE_BEAT), keeper.beat),
                (_pause(settings.DELIVERY_INTERVAL), note_deliveries),
                (_pause(LIMITS_INTERVAL), report_limits),
            ]
            self._tasks = [asyncio.create_task(_again_and_again(wait, work)) for wait, work in chores]

    async def stop(self) -> None:
        """End the chores, and do once more what must not be left undone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(ChatError):
            await note_deliveries()

    def _hear(self, notice: dict) -> None:
        if notice == CHECK:
            self._look_now.set()

    async def _wait_to_look(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._look_now.wait(), settings.CHECK_INTERVAL)
        self._look_now.clear()


async def _again_and_again(wait: Callable[[], Awaitable[None]], work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await wait()
        try:
            await work()
        except ChatError:
            continue
        except Exception:
            logger.exception("%s failed", work.__name__)


def _pause(seconds: float) -> Callable[[], Awaitable[None]]:
    return lambda: asyncio.sleep(seconds)


async def look() -> None:
    """Close the connections of who may no longer be here, and put out of rooms who is no longer a member."""
    connected = {connection for here in hub.people().values() for connection in here}
    if connected:
        refused = await database.query(auth.refused, {_evidence(connection.identity) for connection in connected})
        error = protocol.encode_error(
            ChatError(ErrorCode.REVOKED, "Your account was deactivated or your token revoked; log in again.")
        )
        for connection in connected:
            if _evidence(connection.identity) in refused:
                connection.send(error)
                connection.close(CloseCode.UNAUTHENTICATED)
    if joined := hub.joined():
        for room_id, user_id in await database.query(rooms.strangers, joined):
            hub.expel(room_id, user_id)


def _evidence(identity: auth.Identity) -> tuple[int, object, str]:
    return identity.person.id, identity.issued_at, identity.digest


async def note_deliveries() -> None:
    """Write down what has reached people's devices."""
    if arrivals := hub.arrivals():
        try:
            await database.query(messages.mark_delivered, arrivals)
        except ChatError:
            hub.remember(arrivals)
            raise


async def report_limits() -> None:
    """Tell the other processes who is busy here."""
    if report := limits.people.report():
        await hub.notify(report)


watch = Watch()
