"""Who is in which room, and how others see her there: remembered, and right within a second after any change.

What is remembered is dropped by the database's log of changes (`chat.changes`), and at once by what the channel layer
tells. While the log cannot be read, nothing that is remembered counts, and the database is asked.
"""

from collections.abc import Collection, Sequence

import msgspec
from django.conf import settings

from chat import database, rooms
from chat.batches import Batches
from chat.changes import Changes, Feed, feed
from chat.people import person
from chat.protocol import ChatError, ErrorCode, SenderInfo
from salon import measures

MAX_BATCH = 200
"""Memberships that are looked up by one query."""

REMEMBERED = 60.0
"""Seconds for which the database may not be heard of before nobody is taken for a member any more."""

Pair = tuple[int, int]
"""A person's id and a room's."""


class Standing(msgspec.Struct, frozen=True):
    """A person in a room that she is a member of: how others see her, and what kind of room it is."""

    person: SenderInfo
    room_type: str


class Roster:
    """The memberships that this process remembers; one a process, used on its event loop only."""

    def __init__(self, source: Feed) -> None:
        self._feed = source
        self._standings: dict[Pair, Standing] = {}
        self._rooms_of: dict[int, set[int]] = {}
        self._people_in: dict[int, set[int]] = {}
        self._told_while_loading: list[Changes] | None = None
        self._batches: Batches[Pair, Standing] = Batches(
            self._answer, MAX_BATCH, database.PACE, longest_pace=database.LONGEST_PACE
        )
        measures.queues["standings"] = lambda: self._batches.length
        self.told = 0
        """Counts what was told of changes: who finds it the same after a look-up as before knows that no change was
        told meanwhile of which she would hear no more."""
        source.on_changes(self.forget)

    def known(self, user_id: int, room_id: int) -> Standing | None:
        """Her standing in the room as far as it can be told at once; None says nothing."""
        return self._standings.get((user_id, room_id)) if self._feed.is_current() else None

    async def standing(self, user_id: int, room_id: int) -> Standing:
        """Her standing in the room.

        Raises `ChatError`: `invalid_room` when she is not an active member of a living room; `unavailable`.
        """
        return self.known(user_id, room_id) or await self._batches.ask((user_id, room_id))

    async def standing_or_remembered(self, user_id: int, room_id: int) -> Standing:
        """The same, for what leaves no trace: while the database does not answer, what it last said is good enough for
        `REMEMBERED` seconds."""
        try:
            return await self.standing(user_id, room_id)
        except ChatError as error:
            remembered = self._standings.get((user_id, room_id))
            if error.code is not ErrorCode.UNAVAILABLE or remembered is None or not self._feed.is_current(REMEMBERED):
                raise
            return remembered

    def forget(self, changes: Changes) -> None:
        """Take what has changed for unknown."""
        self.told += 1
        if self._told_while_loading is not None:
            self._told_while_loading.append(changes)
        if changes.everything:
            self._standings.clear()
            self._rooms_of.clear()
            self._people_in.clear()
            return
        for room_id, user_id in changes.memberships:
            self._drop((user_id, room_id))
        for user_id in changes.people:
            for room_id in list(self._rooms_of.get(user_id, ())):
                self._drop((user_id, room_id))
        for room_id in changes.rooms:
            for user_id in list(self._people_in.get(room_id, ())):
                self._drop((user_id, room_id))

    async def _answer(self, pairs: list[Pair]) -> Sequence[Standing | Exception]:
        self._told_while_loading = told = []
        try:
            found = await database.look_up(load, set(pairs))
        finally:
            self._told_while_loading = None
        for pair, standing in found.items():
            # What has changed since may have been read as it was before.
            if not any(changes.concern(*pair) for changes in told):
                self._keep(pair, standing)
        return [found.get(pair) or rooms.invalid_room() for pair in pairs]

    def _keep(self, pair: Pair, standing: Standing) -> None:
        user_id, room_id = pair
        self._drop(pair)
        while len(self._standings) >= settings.ROSTER_SIZE:
            self._drop(next(iter(self._standings)))
        self._standings[pair] = standing
        self._rooms_of.setdefault(user_id, set()).add(room_id)
        self._people_in.setdefault(room_id, set()).add(user_id)

    def _drop(self, pair: Pair) -> None:
        if self._standings.pop(pair, None) is not None:
            user_id, room_id = pair
            _discard(self._rooms_of, user_id, room_id)
            _discard(self._people_in, room_id, user_id)


def _discard(index: dict[int, set[int]], key: int, value: int) -> None:
    index[key].discard(value)
    if not index[key]:
        del index[key]


def load(pairs: Collection[Pair]) -> dict[Pair, Standing]:
    """The standings of those of the people who are active members of the living room, by one query."""
    found = rooms.members_among([(room_id, user_id) for user_id, room_id in pairs])
    return {(user.pk, room_id): Standing(person(user), room_type) for room_id, room_type, user in found}


roster = Roster(feed)
