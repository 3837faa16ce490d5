"""Who is here: right with three tabs, a reload, and a process that dies without a word.

Each process keeps, in the database, a row for each person who is connected to it, and says every few seconds that it
lives itself. A person is as present as the most present of her rows at living processes. A row of a process that has
not been heard of for `PRESENCE_TIMEOUT` seconds counts no more; the first process that notices clears it away.
"""

import asyncio
import contextlib
import functools
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4
from weakref import WeakValueDictionary

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from chat import database, protocol, rooms, sql
from chat.batches import Batches, slices
from chat.connection import Connection
from chat.deadlines import Deadline, deadlines
from chat.hub import hub
from chat.models import Presence, ServerProcess, User
from chat.protocol import ChatError, ErrorCode, Status, UserStatus, UserStatusData
from salon import measures

logger = logging.getLogger(__name__)

RANK: dict[Status, int] = {"offline": 0, "away": 1, "online": 2}

MAX_BATCH = 200
"""People of one transaction, and rooms that are looked at together."""


class BusyError(Exception):
    """Somebody else has a hold of her row in the database."""


@dataclass(frozen=True)
class Here:
    """How present a person is at a process; `status` None: not at all. `is_told`: even if it changes nothing."""

    user_id: int
    status: Status | None
    connections: int
    is_told: bool = False

    @property
    def stored(self) -> tuple[str, int]:
        """The columns of her row."""
        return "" if self.status == "offline" else self.status, self.connections


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


def _open(user_id: int) -> list[Connection]:
    """Her connections to this process."""
    return [each for each in hub.connections(user_id) if not each.is_closing]


def most_present(statuses: list[Status]) -> Status:
    """How present a person is who is there in several places; offline when she is nowhere."""
    return max(statuses, key=RANK.__getitem__, default="offline")


LOCK = "SELECT id FROM chat_user WHERE id IN ({user_ids}) ORDER BY id"
LOCK_AND_WAIT = f"{LOCK} FOR NO KEY UPDATE"
LOCK_OR_SKIP = f"{LOCK} FOR NO KEY UPDATE SKIP LOCKED"
LIVING = """
    SELECT presence.user_id, presence.process_id, presence.status, presence.connections
    FROM chat_presence AS presence
    JOIN chat_serverprocess AS process ON process.uuid = presence.process_id
    WHERE presence.user_id IN ({user_ids}) AND process.expires_at > {now}
"""
KEEP = """
    INSERT INTO chat_presence (process_id, user_id, status, connections) VALUES {rows}
    ON CONFLICT (process_id, user_id) DO UPDATE SET status = excluded.status, connections = excluded.connections
"""
FORGET = "DELETE FROM chat_presence WHERE process_id = {process} AND user_id IN ({user_ids})"
SEE = "UPDATE chat_user SET last_seen = {now} WHERE id IN ({user_ids})"
SEE_LATER = """
    UPDATE chat_user SET last_seen = {then} WHERE id IN ({user_ids}) AND (last_seen IS NULL OR last_seen < {then})
"""
STATES = """
    SELECT membership.room_id, users.id, users.last_seen,
        CASE WHEN process.uuid IS NULL THEN '' ELSE presence.status END
    FROM chat_membership AS membership
    JOIN chat_user AS users ON users.id = membership.user_id
    LEFT JOIN chat_presence AS presence ON presence.user_id = users.id
    LEFT JOIN chat_serverprocess AS process ON process.uuid = presence.process_id AND process.expires_at > {now}
    WHERE membership.room_id IN ({room_ids}) AND users.is_active AND users.last_seen IS NOT NULL
"""

Rows = dict[UUID | str, tuple[str, int]]
"""For each living process that a person is connected to, the columns of her row there."""


def _locked(user_ids: list[int], *, can_wait: bool) -> set[int]:
    """Lock the rows of people, in the order of their ids; those that are locked now."""
    statement = LOCK_AND_WAIT if can_wait else LOCK_OR_SKIP
    if not connection.features.has_select_for_update:
        # SQLite lets one transaction write at a time.
        statement = LOCK
    return {user_id for (user_id,) in sql.rows(statement, user_ids=user_ids)}


def _living(user_ids: list[int]) -> defaultdict[int, Rows]:
    found: defaultdict[int, Rows] = defaultdict(dict)
    for user_id, process, *columns in sql.rows(LIVING, user_ids=user_ids, now=timezone.now()):
        found[user_id][process] = tuple(columns)
    return found


def _status(rows: Rows) -> Status:
    return most_present([status or "offline" for status, _ in rows.values()])


@transaction.atomic
def record(process: str, people: list[Here], *, can_wait: bool = True) -> list[Change | Exception]:
    """Write down how present people, each of them once, are at a process; what came of it for each, in their order.

    Who is not written down gets a `ChatError`: `too_many_connections` when her connections at all living processes
    together are more than `CONNECTIONS_PER_PERSON` and more than they were; `revoked` when she is not there any more.
    Without `can_wait`, who is not there, or whose row somebody else has a hold of, gets `BusyError`.
    """
    # Their rows are the locks: of two processes that see one come and go, each knows what the other has written.
    locked = _locked([here.user_id for here in people], can_wait=can_wait)
    living = _living(list(locked)) if locked else {}
    at = ServerProcess._meta.pk.get_db_prep_value(process, connection)
    refused: dict[int, Exception] = {}
    kept, gone, changes, told = [], [], {}, []
    now = timezone.now()
    for here in people:
        if here.user_id not in locked:
            refused[here.user_id] = _unknown() if can_wait else BusyError()
            continue
        rows = living[here.user_id]
        before, mine = _status(rows), rows.pop(at, None)
        if error := _refusal(here, mine, rows):
            refused[here.user_id] = error
            continue
        if here.status is None:
            gone.append(here.user_id)
        elif mine != here.stored:
            kept.append((at, here.user_id, *here.stored))
        after = most_present([here.status or "offline", _status(rows)])
        changes[here.user_id] = before, after
        if here.is_told or before != after:
            told.append(here.user_id)
    if kept:
        sql.execute(KEEP, rows=kept)
    if gone:
        sql.execute(FORGET, process=at, user_ids=gone)
    if changed := [user_id for user_id, (before, after) in changes.items() if before != after]:
        sql.execute(SEE, now=now, user_ids=changed)
    others = rooms.people_sharing_rooms(told) if told else {}
    return [
        refused.get(here.user_id) or Change(here.user_id, *changes[here.user_id], now, others.get(here.user_id, []))
        for here in people
    ]


def _unknown() -> ChatError:
    return ChatError(ErrorCode.REVOKED, "This account is not there any more.")


def _refusal(here: Here, mine: tuple[str, int] | None, elsewhere: Rows) -> ChatError | None:
    """Why so many connections are too many, or None; `mine` is her row at the process until now."""
    together = here.connections + sum(connections for _, connections in elsewhere.values())
    if here.connections <= (mine[1] if mine else 0) or together <= settings.CONNECTIONS_PER_PERSON:
        return None
    return _too_many()


def _too_many() -> ChatError:
    return ChatError(
        ErrorCode.TOO_MANY_CONNECTIONS,
        f"You have {settings.CONNECTIONS_PER_PERSON} connections already; close one and connect again.",
    )


def states(room_ids: list[int]) -> dict[int, list[UserStatus]]:
    """How present the members of each room are, those who were never here left out."""
    found: dict[int, dict[int, tuple[datetime, list[Status]]]] = {room_id: {} for room_id in room_ids}
    for room_id, user_id, last_seen, status in sql.rows(STATES, room_ids=room_ids, now=timezone.now()):
        found[room_id].setdefault(user_id, (last_seen, []))[1].append(status or "offline")
    return {
        room_id: [
            UserStatus(UserStatusData(user_id, most_present(statuses), protocol.timestamp(sql.moment(last_seen))))
            for user_id, (last_seen, statuses) in members.items()
        ]
        for room_id, members in found.items()
    }


async def states_for(user_id: int, room_id: int) -> list[UserStatus]:
    """How present the others in a room are, looked up with what others ask. Raises `ChatError` (`unavailable`)."""
    return others_than(user_id, await database.in_time(_states.ask(room_id)))


def others_than(user_id: int, found: list[UserStatus]) -> list[UserStatus]:
    return [state for state in found if state.data.user_id != user_id]


async def _states_of(room_ids: list[int]) -> list[list[UserStatus]]:
    found = await database.look_up(states, list(set(room_ids)))
    return [found[room_id] for room_id in room_ids]


_states: Batches[int, list[UserStatus]] = Batches(
    _states_of, MAX_BATCH, database.PACE, longest_pace=database.LONGEST_PACE
)
measures.queues["presences"] = lambda: _states.length


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
    with transaction.atomic():
        people = sorted(User.objects.filter(presences__process=process).values_list("pk", flat=True))
        for user_ids in slices(people, MAX_BATCH):
            locked = _locked(user_ids, can_wait=True)
            User.objects.filter(pk__in=locked).update(last_seen=now)
        # They are as present as they were, but their connections here are gone, and they may have as many elsewhere.
        Presence.objects.filter(process=process).update(connections=0)
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
    people = sorted(left)
    some = slices(people, MAX_BATCH)
    return [change for user_ids in some for change in _gone({user_id: left[user_id] for user_id in user_ids})]


@transaction.atomic
def _gone(left: dict[int, datetime]) -> list[Change]:
    """Those of the people, each with when her process last gave a sign of life, who are less present without it."""
    locked = _locked(list(left), can_wait=True)
    living = _living(list(locked)) if locked else {}
    after = {user_id: _status(living[user_id]) for user_id in locked}
    gone = [user_id for user_id in left if user_id in locked and after[user_id] != "online"]
    for last_seen in {left[user_id] for user_id in gone}:
        sql.execute(SEE_LATER, then=last_seen, user_ids=[user_id for user_id in gone if left[user_id] == last_seen])
    others = rooms.people_sharing_rooms(gone) if gone else {}
    return [Change(user_id, "online", after[user_id], left[user_id], others.get(user_id, [])) for user_id in gone]


class Keeper:
    """Keeps the rows of this process true, and tells the others what changes; one a process."""

    def __init__(self) -> None:
        self._process = str(uuid4())
        self._is_known = False
        self._last_beat = 0.0
        self._locks: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._departures: dict[int, Deadline] = {}
        self._untold: set[int] = set()
        """Whose going could not be written down in time; it may have been, and nobody was told."""
        self._free: Batches[tuple[int, bool], Change] = Batches(
            self._write, MAX_BATCH, database.PACE, longest_pace=database.LONGEST_PACE
        )
        self._busy: Batches[tuple[int, bool], Change] = Batches(self._write_patiently, MAX_BATCH)
        measures.queues["arrivals"] = lambda: self._free.length + self._busy.length
        self._tasks: set[asyncio.Task[None]] = set()

    async def arrived(self, connection: Connection) -> None:
        """She has a new connection here. Raises `ChatError`: `too_many_connections`, `revoked`, `unavailable`."""
        # Who has too many at this process alone is refused before she waits in a line for the database: thousands at
        # once would be long in it, and none of the first would be let in as long as the others count.
        if len(_open(connection.person.id)) > settings.CONNECTIONS_PER_PERSON:
            raise _too_many()
        await self._record_and_tell(connection.person.id)

    async def said(self, connection: Connection, status: Status) -> None:
        """She said at a connection how present she is there. Raises `ChatError` (`unavailable`).

        It is told even when it changes nothing; unless she is more present elsewhere. That she is offline is told after
        the same moment as if the connection had gone: pages say so when they are reloaded.
        """
        connection.status = status
        if status == "offline":
            self.left(connection)
            return
        try:
            change = await self._record(connection.person.id, is_told=True)
        except ChatError as error:
            if error.code is ErrorCode.UNAVAILABLE:
                # It is told when it can be, if it is still true.
                self._untold.add(connection.person.id)
                self.left(connection)
            raise
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
            changes = await database.query(clear)
            for some in slices(changes, MAX_BATCH):
                await asyncio.gather(*(hub.publish_to_people(change.others, change.event) for change in some))

    async def stop(self) -> None:
        """The process ends."""
        for deadline in self._departures.values():
            deadline.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._is_known:
            with contextlib.suppress(ChatError):
                await database.query(retire, self._process)

    def _depart_later(self, user_id: int) -> None:
        if deadline := self._departures.get(user_id):
            deadline.cancel()
        self._departures[user_id] = deadlines.after(
            settings.PRESENCE_GRACE, functools.partial(self._depart_now, user_id)
        )

    def _depart_now(self, user_id: int) -> None:
        task = asyncio.create_task(self._depart(user_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _depart(self, user_id: int) -> None:
        self._departures.pop(user_id, None)
        try:
            await self._record_and_tell(user_id, is_told=user_id in self._untold)
            self._untold.discard(user_id)
        except ChatError as error:
            self._untold.discard(user_id)
            # When the database is back, she must not be taken for present. Who has no account any more is not.
            if error.code is not ErrorCode.REVOKED:
                self._untold.add(user_id)
                self._depart_later(user_id)
        except Exception:
            logger.exception("A presence could not be written down")

    async def _record_and_tell(self, user_id: int, *, is_told: bool = False) -> None:
        change = await self._record(user_id, is_told=is_told)
        if is_told or change.before != change.after:
            await hub.publish_to_people(change.others, change.event)

    async def _record(self, user_id: int, *, is_told: bool = False) -> Change:
        # One after the other, and each with what is true when its turn comes.
        async with self._locks.setdefault(user_id, asyncio.Lock()):
            try:
                return await database.in_time(self._free.ask((user_id, is_told)))
            except BusyError:
                # Nobody else waits for whoever has a hold of her row.
                return await database.in_time(self._busy.ask((user_id, is_told)))

    async def _write_patiently(self, asked: list[tuple[int, bool]]) -> Sequence[Change | Exception]:
        return await self._write(asked, can_wait=True)

    async def _write(self, asked: list[tuple[int, bool]], *, can_wait: bool = False) -> Sequence[Change | Exception]:
        if not self._is_known:
            await self._live()
        try:
            return await database.query(record, self._process, self._here(asked), can_wait=can_wait)
        except IntegrityError:
            # This process was given up a moment ago.
            await self._live()
            return await database.query(record, self._process, self._here(asked), can_wait=can_wait)

    async def _live(self) -> None:
        if not await database.query(beat, self._process) and self._is_known:
            # It was given up, while it was stopped or the database was out of its reach; and with it all who are here.
            for user_id in list(hub.people()):
                self._depart_now(user_id)
        self._is_known = True

    def _here(self, asked: list[tuple[int, bool]]) -> list[Here]:
        found = []
        for user_id, is_told in asked:
            here = [each.status for each in _open(user_id)]
            found.append(Here(user_id, most_present(here) if here else None, len(here), is_told))
        return found


keeper = Keeper()
