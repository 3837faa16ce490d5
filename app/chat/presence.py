"""Who is here: right with three tabs, a reload, and a process that dies without a word.

Each process keeps, in the database, a row for each person who is connected to it, and says every few seconds that it
lives itself. A person is as present as the most present of her rows at living processes. A row of a process that has
not been heard of for `PRESENCE_TIMEOUT` seconds counts no more; the first process that notices clears it away.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4
from weakref import WeakValueDictionary

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from chat import database, protocol, rooms
from chat.connection import Connection
from chat.hub import hub
from chat.models import Presence, ServerProcess, User
from chat.protocol import ChatError, ErrorCode, Status, UserStatus, UserStatusData

logger = logging.getLogger(__name__)

RANK: dict[Status, int] = {"offline": 0, "away": 1, "online": 2}


@dataclass(frozen=True)
class Change:
    """How present a person is after something happened, how present she was before, and whom that concerns."""

    user_id: int
    before: Status
    after: Status
    last_seen: datetime
    others: list[int]

    @property
    def event(self) -> UserStatus:
        return UserStatus(UserStatusData(self.user_id, self.after, protocol.timestamp(self.last_seen)))


def most_present(statuses: list[Status]) -> Status:
    """How present a person is who is there in several places; offline when she is nowhere."""
    return max(statuses, key=RANK.__getitem__, default="offline")


def _living() -> QuerySet[Presence]:
    return Presence.objects.filter(process__expires_at__gt=timezone.now())


def _status(rows: list[Presence]) -> Status:
    return most_present([row.status or "offline" for row in rows])


@transaction.atomic
def record(process: str, user_id: int, status: Status | None, connections: int, is_told: bool) -> Change:
    """Write down how present she is at a process; `status` None: not at all. `is_told`: even if it changes nothing.

    Raises `ChatError` (`too_many_connections`) when her connections at all living processes together are more than
    `CONNECTIONS_PER_PERSON` and more than they were; `revoked` when she is not there any more.
    """
    # Her row is the lock: of two processes that see her come and go, each knows what the other has written.
    if (user := User.objects.select_for_update(no_key=True).filter(pk=user_id).first()) is None:
        raise ChatError(ErrorCode.REVOKED, "This account is not there any more.")
    rows = list(_living().filter(user=user))
    before = _status(rows)
    elsewhere = [row for row in rows if str(row.process_id) != process]
    mine = next((row for row in rows if str(row.process_id) == process), None)
    if connections > (mine.connections if mine else 0):
        _require_few(connections + sum(row.connections for row in elsewhere))
    if status is None:
        Presence.objects.filter(process=process, user=user).delete()
        after = _status(elsewhere)
    else:
        stored = "" if status == "offline" else status
        Presence.objects.update_or_create(
            process_id=process, user=user, defaults={"status": stored, "connections": connections}
        )
        after = most_present([status, _status(elsewhere)])
    now = timezone.now()
    if before != after:
        User.objects.filter(pk=user_id).update(last_seen=now)
    others = rooms.people_sharing_a_room(user_id) if is_told or before != after else []
    return Change(user_id, before, after, now, others)


def _require_few(connections: int) -> None:
    if connections > settings.CONNECTIONS_PER_PERSON:
        raise ChatError(
            ErrorCode.TOO_MANY_CONNECTIONS,
            f"You have {settings.CONNECTIONS_PER_PERSON} connections already; close one and connect again.",
        )


def states(room_id: int, user_id: int) -> list[UserStatus]:
    """How present the other members of a room are, those who were never here left out."""
    members = User.objects.filter(memberships__room_id=room_id, is_active=True).exclude(pk=user_id)
    members = dict(members.filter(last_seen__isnull=False).values_list("pk", "last_seen"))
    present: dict[int, list[Presence]] = {}
    for row in _living().filter(user_id__in=members):
        present.setdefault(row.user_id, []).append(row)
    return [
        UserStatus(UserStatusData(pk, _status(present.get(pk, [])), protocol.timestamp(last_seen)))
        for pk, last_seen in members.items()
    ]


def beat(process: str) -> bool:
    """Say that a process lives; whether it was known, and not yet given up."""
    expires_at = timezone.now() + timedelta(seconds=settings.PRESENCE_TIMEOUT)
    if ServerProcess.objects.filter(pk=process).update(expires_at=expires_at):
        return True
    ServerProcess.objects.get_or_create(pk=process, defaults={"expires_at": expires_at})
    return False


def retire(process: str) -> None:
    """The process ends. Its people have a moment to come back to another one before they count as gone."""
    now = timezone.now()
    User.objects.filter(presences__process=process).update(last_seen=now)
    expires_at = now + timedelta(seconds=settings.PRESENCE_GRACE * 2)
    ServerProcess.objects.filter(pk=process).update(expires_at=expires_at)


def clear() -> list[Change]:
    """Clear away the processes that have died, and say who is gone with them."""
    left: dict[int, datetime] = {}
    with transaction.atomic():
        dead = ServerProcess.objects.select_for_update(skip_locked=True).filter(expires_at__lte=timezone.now())
        for process in dead:
            for row in process.presences.exclude(status=""):
                # The last sign of life.
                left[row.user_id] = process.expires_at - timedelta(seconds=settings.PRESENCE_TIMEOUT)
        ServerProcess.objects.filter(pk__in=[process.pk for process in dead]).delete()
    return [change for user_id, last_seen in left.items() if (change := _gone(user_id, last_seen))]


@transaction.atomic
def _gone(user_id: int, last_seen: datetime) -> Change | None:
    if not User.objects.select_for_update(no_key=True).filter(pk=user_id).exists():
        return None
    after = _status(list(_living().filter(user_id=user_id)))
    if after == "online":
        return None
    User.objects.filter(pk=user_id).filter(Q(last_seen__lt=last_seen) | Q(last_seen=None)).update(last_seen=last_seen)
    return Change(user_id, "online", after, last_seen, rooms.people_sharing_a_room(user_id))


class Keeper:
    """Keeps the rows of this process true, and tells the others what changes; one a process."""

    def __init__(self) -> None:
        self._process = str(uuid4())
        self._is_known = False
        self._last_beat = 0.0
        self._locks: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._departures: dict[int, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def arrived(self, connection: Connection) -> None:
        """She has a new connection here. Raises `ChatError`: `too_many_connections`, `revoked`, `unavailable`."""
        change = await self._record(connection.person.id)
        if change.before != change.after:
            await hub.publish_to_people(change.others, change.event)

    async def said(self, connection: Connection, status: Status) -> None:
        """She said at a connection how present she is there. Raises `ChatError` (`unavailable`).

        It is told even when it changes nothing; unless she is more present elsewhere. That she is offline is told after
        the same moment as if the connection had gone: pages say so when they are reloaded.
        """
        connection.status = status
        if status == "offline":
            self.left(connection)
            return
        change = await self._record(connection.person.id, is_told=True)
        if change.after == status or change.before != change.after:
            await hub.publish_to_people(change.others, change.event)

    def left(self, connection: Connection) -> None:
        """A connection of hers has gone: unless she is back in a moment, that is told."""
        self._depart_later(connection.person.id)

    async def beat(self) -> None:
        """Say that this process lives, and clear away those that do not. Raises `ChatError` (`unavailable`)."""
        now = asyncio.get_running_loop().time()
        await self._live()
        was_steady = now - self._last_beat < settings.PRESENCE_TIMEOUT / 2
        self._last_beat = now
        if was_steady:
            # Else the database was away, and the others have had no chance either to say that they live.
            for change in await database.query(clear):
                await hub.publish_to_people(change.others, change.event)

    async def stop(self) -> None:
        """The process ends."""
        for timer in self._departures.values():
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._is_known:
            with contextlib.suppress(ChatError):
                await database.query(retire, self._process)

    def _depart_later(self, user_id: int) -> None:
        if timer := self._departures.pop(user_id, None):
            timer.cancel()
        loop = asyncio.get_running_loop()
        self._departures[user_id] = loop.call_later(settings.PRESENCE_GRACE, self._depart_now, user_id)

    def _depart_now(self, user_id: int) -> None:
        task = asyncio.create_task(self._depart(user_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _depart(self, user_id: int) -> None:
        self._departures.pop(user_id, None)
        try:
            change = await self._record(user_id)
            if change.before != change.after:
                await hub.publish_to_people(change.others, change.event)
        except ChatError as error:
            # When the database is back, she must not be taken for present. Who has no account any more is not.
            if error.code is not ErrorCode.REVOKED:
                self._depart_later(user_id)
        except Exception:
            logger.exception("A presence could not be written down")

    async def _record(self, user_id: int, *, is_told: bool = False) -> Change:
        if not self._is_known:
            await self._live()
        # One after the other, and each with what is true when its turn comes.
        async with self._locks.setdefault(user_id, asyncio.Lock()):
            try:
                return await database.query(record, self._process, user_id, *self._here(user_id), is_told)
            except IntegrityError:
                # This process was given up a moment ago.
                await self._live()
                return await database.query(record, self._process, user_id, *self._here(user_id), is_told)

    async def _live(self) -> None:
        if not await database.query(beat, self._process) and self._is_known:
            # It was given up, while it was stopped or the database was out of its reach; and with it all who are here.
            for user_id in list(hub.people()):
                self._depart_now(user_id)
        self._is_known = True

    def _here(self, user_id: int) -> tuple[Status | None, int]:
        here = [each for each in hub.connections(user_id) if not each.is_closing]
        return (most_present([each.status for each in here]) if here else None), len(here)


keeper = Keeper()
