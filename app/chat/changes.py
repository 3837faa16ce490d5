"""The database's log of changes, as a process follows it: who may be where, and who is who, no longer as before.

Triggers write the log, whoever makes the change: this server, the admin, another program, SQL. So a process that has
just read it knows that what it remembers of people and rooms is true.

On PostgreSQL, lines become visible in the order in which their transactions end, which is not that of their numbers. So
the place up to which the log was read is not a number but a snapshot: new is what was not visible in the last one.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from django.conf import settings
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from chat import database, follow
from chat.models import Change

MANY = 10_000
"""Lines read at once beyond which it is cheaper to look at everything than at each of them."""

READ_ON_POSTGRESQL = """
SELECT present.snapshot::text, line.id, line.room_id, line.user_id, line.digest, line.pruned_to
FROM (SELECT pg_current_snapshot() AS snapshot) AS present
LEFT JOIN (
    SELECT * FROM chat_change
    WHERE transaction >= %(oldest)s
    -- No line is newer than that, but those that were brought here from another cluster can look it.
    AND transaction < pg_snapshot_xmax(pg_current_snapshot())::text::bigint
    AND NOT pg_visible_in_snapshot(transaction::text::xid8, %(snapshot)s)
    LIMIT %(limit)s
) AS line ON true
"""

READ_ON_SQLITE = """
SELECT id, room_id, user_id, digest, pruned_to FROM chat_change WHERE id >= %s ORDER BY id LIMIT %s
"""

Line = tuple[int, int | None, int | None, str | None, int | None]


@dataclass(frozen=True, slots=True)
class Place:
    """How far the log was read.

    On PostgreSQL `snapshot` is what was visible, `oldest` the number of the oldest transaction of which lines can still
    come, and `next` that of the first one that had not begun. On SQLite, where one writes at a time, both are the
    number of the first line that is to come.
    """

    oldest: int
    next: int
    snapshot: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed: memberships (room id, person id), rooms, people, tokens that were revoked and sessions that
    have ended, by their digests; or `everything`. `marks` say who is followed (`chat.follow`)."""

    memberships: frozenset[tuple[int, int]] = frozenset()
    rooms: frozenset[int] = frozenset()
    people: frozenset[int] = frozenset()
    tokens: frozenset[str] = frozenset()
    everything: bool = False
    marks: tuple[str, ...] = ()

    def concern(self, user_id: int, room_id: int) -> bool:
        """Whether this person may not be in this room any more, or not be called as before."""
        return (
            self.everything or user_id in self.people or room_id in self.rooms or (room_id, user_id) in self.memberships
        )

    def __bool__(self) -> bool:
        return self.everything or bool(self.memberships or self.rooms or self.people or self.tokens or self.marks)

    def __or__(self, other: "Changes") -> "Changes":
        return Changes(
            self.memberships | other.memberships,
            self.rooms | other.rooms,
            self.people | other.people,
            self.tokens | other.tokens,
            self.everything or other.everything,
            self.marks + other.marks,
        )


NOTHING = Changes()
EVERYTHING = Changes(everything=True)


class Feed:
    """The changes that this process has heard of; one a process."""

    def __init__(self) -> None:
        self._receivers: list[Callable[[Changes], None]] = []
        self._place: Place | None = None
        self._read_at = float("-inf")
        self._seen_by_all: Place | None = None
        self._polling = asyncio.Lock()

    def on_changes(self, receiver: Callable[[Changes], None]) -> None:
        """Have `receiver` called, on the event loop, with what has changed. The same can come to it twice."""
        self._receivers.append(receiver)

    def is_current(self, within: float = settings.CHANGES_TRUSTED) -> bool:
        """Whether every change that is older than so many seconds has been told to the receivers."""
        return time.monotonic() - self._read_at <= within

    async def poll(self) -> None:
        """Tell the receivers what has changed since the last time; for the first time, that everything may have. And
        find out whether the database is there.

        Raises `ChatError` (`unavailable`).
        """
        async with self._polling:
            began = time.monotonic()
            place, changes = await database.probe(read, self._place)
            if changes:
                for receiver in self._receivers:
                    receiver(changes)
            self._place, self._read_at = place, began

    async def prune(self) -> None:
        """Remove from the log what had been read when this was last called. Raises `ChatError` (`unavailable`).

        Whoever calls it every `CHANGES_KEPT` seconds leaves every line there for as long after it could be read.
        """
        seen_by_all, self._seen_by_all = self._seen_by_all, self._place
        if seen_by_all:
            await database.query(prune, seen_by_all)


feed = Feed()


def read(since: Place | None) -> tuple[Place, Changes]:
    """What has come into the log since a place in it, and the place up to which it was read. By one query."""
    with connection.cursor() as cursor:
        return _read_on_postgresql(cursor, since) if _is_postgresql() else _read_on_sqlite(cursor, since)


def _is_postgresql() -> bool:
    return connection.vendor == "postgresql"


def _read_on_postgresql(cursor: CursorWrapper, since: Place | None) -> tuple[Place, Changes]:
    if since is None:
        cursor.execute("SELECT pg_current_snapshot()::text")
    else:
        cursor.execute(READ_ON_POSTGRESQL, {"oldest": since.oldest, "snapshot": since.snapshot, "limit": MANY + 1})
    rows = cursor.fetchall()
    snapshot = rows[0][0]
    oldest, following = (int(number) for number in snapshot.split(":")[:2])
    place = Place(oldest, following, snapshot)
    if since is None or following < since.next:  # numbers that go back are those of another cluster
        return place, EVERYTHING
    return place, _changes(since, [line for _, *line in rows if line[0] is not None])


def _read_on_sqlite(cursor: CursorWrapper, since: Place | None) -> tuple[Place, Changes]:
    if since is None:
        cursor.execute("SELECT coalesce(max(id), 0) + 1 FROM chat_change")
        following = cursor.fetchone()[0]
        return Place(following, following), EVERYTHING
    cursor.execute(READ_ON_SQLITE, [since.next, MANY + 1])
    lines = cursor.fetchall()
    following = lines[-1][0] + 1 if lines else since.next
    return Place(following, following), _changes(since, lines)


def _changes(since: Place, lines: Sequence[Line]) -> Changes:
    if not lines:
        return NOTHING
    memberships, rooms, people, tokens = set(), set(), set(), set()
    marks: list[str] = []
    everything = len(lines) > MANY
    for _, room_id, user_id, digest, pruned_to in lines:
        if pruned_to is not None:
            # What was removed before it could be read here may have been anything.
            everything |= pruned_to > since.oldest
        elif digest is not None and follow.is_mark(digest):
            marks.append(digest)
        elif digest is not None:
            tokens.add(digest)
        elif room_id is not None and user_id is not None:
            memberships.add((room_id, user_id))
        elif room_id is not None:
            rooms.add(room_id)
        elif user_id is not None:
            people.add(user_id)
        else:
            everything = True
    if everything:
        return replace(EVERYTHING, marks=tuple(marks)) if marks else EVERYTHING
    return Changes(frozenset(memberships), frozenset(rooms), frozenset(people), frozenset(tokens), marks=tuple(marks))


def write_mark(mark: str) -> None:
    """Have every process learn who is followed (`chat.follow.mark`)."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO chat_change (digest) VALUES (%s)", [mark])


@transaction.atomic
def prune(before: Place) -> None:
    """Remove what had been readable by everybody at a place in the log, and leave a line that says so."""
    old = Change.objects.filter(**{"transaction__lt" if _is_postgresql() else "id__lt": before.oldest})
    if old.filter(pruned_to=None).delete()[0]:
        old.delete()
        with connection.cursor() as cursor:
            # Not by the model: its number of the transaction is PostgreSQL's to give.
            cursor.execute("INSERT INTO chat_change (pruned_to) VALUES (%s)", [before.oldest])
