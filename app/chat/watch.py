"""What a process does again and again, from its first connection to its end.

Among it, sees that nobody stays who may not. What changes is told to every process at once (`chat.announcements`); but
the channel layer delivers at most once, and the database can be changed by something that sends no signal. So the
database's log of changes is read, twice a second, and those whom it concerns are looked at.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace

from django.conf import settings

from chat import auth, database, follow, limits, messages, protocol, rooms, services
from chat.auth import Identity
from chat.batches import slices
from chat.changes import NOTHING, Changes, feed
from chat.connection import Connection
from chat.hub import hub
from chat.people import persons
from chat.presence import keeper
from chat.protocol import ChatError, CloseCode, ErrorCode
from chat.roster import roster
from salon.logs import nobodys

logger = logging.getLogger(__name__)

CHECK = {"check": True}
"""The notice that asks every process to look at once."""

LIMITS_INTERVAL = 1.0
"""Seconds between two reports of who is busy."""

LISTEN_INTERVAL = 1.0
"""Seconds between two tries to hear of what could not be heard of when it was wanted."""

IDENTIFICATION = 2 * (settings.DATABASE_TIMEOUT + settings.CHANNEL_LAYER_TIMEOUT)
"""Seconds that can pass, on a busy machine too, from the look-up of who is at a connection until the hub knows it."""

SLICE = 200
"""Connections, or memberships, that are looked at together; between two of them the others have their turn."""


class Watch:
    """The chores of a process, each with a task of its own; one a process."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._poll_now = asyncio.Event()
        self._is_due = asyncio.Event()
        self._due = NOTHING
        self._recent: deque[tuple[float, Changes]] = deque()
        feed.on_changes(self._changed)
        hub.on_notice(self._hear)
        hub.on_notice(limits.people.hear)
        hub.on_removal(_forget)
        services.database.on_suspicion(self._suspect)
        services.database.on_loss(self.start)

    def start(self) -> None:
        """Begin, unless it has begun."""
        if not self._tasks:
            chores: list[tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[None]]]] = [
                (self._wait_to_poll, feed.poll),
                (self._is_due.wait, self._look),
                (_pause(settings.CHANGES_KEPT), feed.prune),
                (hub.gaps.wait_to_look, hub.gaps.look),
                (_pause(LISTEN_INTERVAL), hub.listen_to_missing),
                (_pause(settings.PRESENCE_BEAT), keeper.beat),
                (_pause(settings.DELIVERY_INTERVAL), note_deliveries),
                (_pause(LIMITS_INTERVAL), report_limits),
                (_pause(settings.REFUSED_RETRY), look_at_storage),
            ]
            self._poll_now.set()
            self._tasks = [
                asyncio.create_task(_again_and_again(wait, work), context=nobodys()) for wait, work in chores
            ]

    async def stop(self) -> None:
        """End the chores, and do once more what must not be left undone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(ChatError):
            await note_deliveries()

    def identified(self, connection: Connection) -> None:
        """Who is at the connection was looked up a moment ago, and is known to the hub from now on."""
        identity = connection.identity
        looked_up = max(connection.since, time.monotonic() - IDENTIFICATION)
        for moment, changes in reversed(self._recent):
            if moment <= looked_up:
                break
            # Nobody has looked at her for what came between.
            if _concern(changes, identity):
                self._look_soon(Changes(people=frozenset([identity.person.id])))
                break

    def _hear(self, notice: dict) -> None:
        if notice == CHECK:
            self._poll_now.set()

    def _changed(self, changes: Changes) -> None:
        if changes.marks:
            follow.heed(changes.marks)
            if not (changes := replace(changes, marks=())):
                return
        now = time.monotonic()
        while self._recent and self._recent[0][0] < now - IDENTIFICATION:
            self._recent.popleft()
        self._recent.append((now, changes))
        self._look_soon(changes)

    def _look_soon(self, changes: Changes) -> None:
        self._due |= changes
        self._is_due.set()

    def _suspect(self) -> None:
        self.start()
        if not services.database.is_away:
            self._poll_now.set()

    async def _wait_to_poll(self) -> None:
        seconds = settings.PROBE_RETRY if services.database.is_away else settings.CHANGES_INTERVAL
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._poll_now.wait(), seconds)
        self._poll_now.clear()

    async def _look(self) -> None:
        due, self._due = self._due, NOTHING
        self._is_due.clear()
        try:
            await look(due)
        except Exception:
            self._due |= due
            # Later: with the database away, at once would be again and again.
            asyncio.get_running_loop().call_later(settings.CHANGES_INTERVAL, self._is_due.set)
            raise


def _concern(changes: Changes, identity: Identity) -> bool:
    return changes.everything or identity.person.id in changes.people or identity.digest in changes.tokens


def _forget(room_id: int, user_ids: Collection[int] | None) -> None:
    """What is told of a removal holds at once, and not only when it is read in the log."""
    if user_ids is None:
        roster.forget(Changes(rooms=frozenset([room_id])))
    else:
        roster.forget(Changes(memberships=frozenset((room_id, user_id) for user_id in user_ids)))


async def _again_and_again(wait: Callable[[], Awaitable[object]], work: Callable[[], Awaitable[None]]) -> None:
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


async def look(changes: Changes) -> None:
    """See to those whom changes concern: close the connections of who may no longer be here, put out of rooms who is no
    longer a member, and know the others as they are now.

    Raises `ChatError` (`unavailable`).
    """
    for some in slices(_connections(changes), SLICE):
        await _look_at_connections(some)
    for some in slices(_joined(changes), SLICE):
        for room_id, user_id in await database.look_up(rooms.strangers, some):
            hub.expel(room_id, user_id)


async def _look_at_connections(connected: Sequence[Connection]) -> None:
    refused = await database.look_up(auth.refused, {_evidence(connection.identity) for connection in connected})
    people = await database.look_up(persons, {connection.identity.person.id for connection in connected})
    error = protocol.encode_error(
        ChatError(ErrorCode.REVOKED, "Your account was deactivated, or your token or session has ended; log in again.")
    )
    for connection in connected:
        identity = connection.identity
        if _evidence(identity) in refused:
            connection.send(error)
            connection.close(CloseCode.UNAUTHENTICATED)
        elif (person := people.get(identity.person.id)) not in (None, identity.person):
            connection.identity = replace(identity, person=person)


def _connections(changes: Changes) -> list[Connection]:
    """The connections here that may have to end, or whose person may be called otherwise."""
    if changes.everything:
        return [connection for here in hub.people().values() for connection in here]
    found = [connection for user_id in changes.people for connection in hub.connections(user_id)]
    if changes.tokens:
        everybody = (connection for here in hub.people().values() for connection in here)
        found += (connection for connection in everybody if connection.identity.digest in changes.tokens)
    return found


def _joined(changes: Changes) -> list[tuple[int, int]]:
    """Who has joined what here (room id, person id), of whom it may be no longer true that she is a member."""
    if changes.everything:
        return sorted(hub.joined())
    found = {(room_id, user_id) for room_id in changes.rooms for user_id in hub.present(room_id)}
    for room_id, user_id in changes.memberships:
        if any(room_id in connection.rooms for connection in hub.connections(user_id)):
            found.add((room_id, user_id))
    # One room after the other: the fewer there are in a slice, the shorter is its query.
    return sorted(found)


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


async def look_at_storage() -> None:
    """Find out whether messages can be stored again: it may be that nobody sends one to a process that says it is not
    ready. Raises `ChatError` (`unavailable`) where they cannot."""
    if services.storage.is_away:
        await database.query(messages.try_to_store)
        services.storage.answered()


watch = Watch()
