"""What those who come back have missed: read once for all of them, and not once for each.

After a restart everybody comes back at once and asks for nearly the same. So what is read for the first one of a room
is kept for a moment, and the messages that are passed on meanwhile are put behind it.
"""

import asyncio
from typing import Protocol

import msgspec

from chat import database, histories
from chat.batches import Batches
from chat.histories import Missed
from chat.protocol import MAX_HISTORY, JoinData, Message, MessageData
from salon import measures

TRUSTED = 2.0
"""Seconds for which what was read counts. That a message was edited is told to every process, and ends it at once; this
is for what was told to nobody."""

MARGIN = 50
"""Messages that are read beyond those that the first one asks for: the others have not all seen the same."""

MAX_BATCH = 200
"""Rooms that are looked at together."""

_decoder = msgspec.json.Decoder(Message)


class Recent:
    """The newest messages of a room: all after `start`, and those up to it that were changed after it was sent."""

    def __init__(self, room_id: int, wanted: JoinData) -> None:
        loop = asyncio.get_running_loop()
        self._since = None if wanted.since is None else max(0, wanted.since - MARGIN)
        self._until = loop.time() + TRUSTED
        self._later: list[tuple[int, str]] = []
        self._read: histories.Recent | None = None
        self._reading = asyncio.ensure_future(self._look(room_id, (wanted.history or 0) + MARGIN))

    @property
    def is_being_read(self) -> bool:
        """Whether there is no answer yet."""
        return not self._reading.done()

    @property
    def is_over(self) -> bool:
        """Whether it is too old, or was never read."""
        is_broken = self._reading.done() and (self._reading.cancelled() or self._reading.exception() is not None)
        return is_broken or asyncio.get_running_loop().time() > self._until

    def add(self, seq: int, text: str) -> None:
        """A message was passed on, as this event."""
        self._later.append((seq, text))

    async def ready(self) -> None:
        """Wait until it is read. Raises `ChatError` (`unavailable`)."""
        # Others wait for it too.
        await asyncio.shield(self._reading)

    def covers(self, wanted: JoinData) -> bool:
        """Whether it can answer this; what is not read yet might."""
        if self._read is None:
            return True
        if wanted.since is not None:
            return wanted.since >= self._read.start
        return self._newest() - (wanted.history or 0) >= self._read.start

    def reaches(self, seq: int) -> bool:
        """Whether it is known to hold all up to this number."""
        return self._read is not None and self._newest() >= seq

    def answer(self, wanted: JoinData) -> Missed:
        """What the database would answer, were it asked now."""
        self._append()
        newest = self._newest()
        since = max(0, newest - (wanted.history or 0)) if wanted.since is None else wanted.since
        found = [message for message in self._read.messages if message.seq > since][-MAX_HISTORY:]
        changed = [] if wanted.since is None else self._changed(since)
        return Missed(found, changed, max(0, newest - since), newest)

    async def _look(self, room_id: int, count: int) -> None:
        self._read = await database.look_up_many(histories.recent, room_id, self._since, count)

    def _newest(self) -> int:
        return max(self._read.last_seq, self._later[-1][0] if self._later else 0)

    def _append(self) -> None:
        for seq, text in self._later:
            if seq > self._read.last_seq:
                self._read.messages.append(_decoder.decode(text).data)
                self._read.last_seq = seq
        self._later.clear()

    def _changed(self, since: int) -> list[MessageData]:
        read = self._read
        seen_at = read.start_at if since == read.start else None
        seen_at = next((message.created_at for message in read.messages if message.seq == since), seen_at)
        if seen_at is None:
            return []
        # Moments are written so that their order is that of their texts.
        older = [*read.changed, *(each for each in read.messages if each.seq <= since)]
        changed = [each for each in older if each.last_update > max(seen_at, each.created_at)]
        return sorted(changed, key=lambda each: each.last_update)[-MAX_HISTORY:]


class Shelf(Protocol):
    """Where what was read is kept; whoever keeps it puts what is passed on behind it, and drops it when it is wrong."""

    recent: Recent | None


async def missed(shelf: Shelf, room_id: int, wanted: JoinData) -> Missed:
    """What somebody has missed who has just joined. Raises `ChatError` (`unavailable`)."""
    for _ in range(2):
        recent = shelf.recent
        if recent is None or recent.is_over or not recent.covers(wanted):
            recent = shelf.recent = Recent(room_id, wanted)
            asyncio.get_running_loop().call_later(TRUSTED, _let_go, shelf, recent)
        await recent.ready()
        if shelf.recent is recent and recent.covers(wanted):
            return recent.answer(wanted)
    # She has been away for longer than the others, or what was read was wrong before it could be used.
    return await missed_now(room_id, wanted)


def _let_go(shelf: Shelf, recent: Recent) -> None:
    # Nobody else may come, and in a room where people write it grows.
    if recent.is_being_read:
        asyncio.get_running_loop().call_later(TRUSTED, _let_go, shelf, recent)
    elif shelf.recent is recent:
        shelf.recent = None


async def missed_now(room_id: int, wanted: JoinData) -> Missed:
    """The same, looked up for her alone. Raises `ChatError` (`unavailable`)."""
    return await database.look_up_many(histories.missed, room_id, wanted.since, wanted.history)


async def newest(room_id: int) -> int:
    """The number of a room's newest message, looked up with what others ask. Raises `ChatError` (`unavailable`)."""
    return await database.in_time(_newest.ask(room_id))


async def _newest_of(room_ids: list[int]) -> list[int]:
    found = await database.look_up(histories.newest_numbers, set(room_ids))
    return [found.get(room_id, 0) for room_id in room_ids]


_newest: Batches[int, int] = Batches(_newest_of, MAX_BATCH, database.PACE, longest_pace=database.LONGEST_PACE)
measures.queues["newest_numbers"] = lambda: _newest.length
