"""Messages for places that somebody else has locked in the database: they wait here, and nobody else waits for them.

A place is a room, or a person in a room. Whatever comes for one that is held waits behind what came before, so that the
order stays. Who has waited too long is refused; from then on everybody is, at once, until the lock is gone: that is
looked for several times a second, and told in the log when it begins and when it ends.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol
from uuid import UUID

from django.conf import settings

from chat import services
from chat.postgresql import Place
from chat.protocol import SenderInfo
from chat.services import Service
from salon.logs import nobodys


class Draft(Protocol):
    """What this needs to know of a message."""

    room_id: int
    sender: SenderInfo
    uuid: UUID


class Waiting:
    """A draft that waits for a place; `outcome` is what becomes of it."""

    def __init__(self, draft: Draft, place: Place) -> None:
        self.draft = draft
        self.place = place
        loop = asyncio.get_running_loop()
        self.until = loop.time() + settings.DATABASE_TIMEOUT
        """When it is dropped although nobody says so: whoever waited may be gone."""
        self.outcome: asyncio.Future = loop.create_future()

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.outcome.done() or asyncio.get_running_loop().time() > self.until


class StillHeldError(Exception):
    """A draft could not be stored because of somebody else's lock. It is the outcome of that draft, and not raised."""


class Held:
    """What waits for places that are held; one a journal, used on its event loop only.

    `store` stores drafts of one place, in their order, and has the outcome of each by its uuid; `locked` says which of
    some places are. At most `greatest` are stored at once.
    """

    def __init__(
        self,
        store: Callable[[list[Draft]], Awaitable[dict[UUID, object]]],
        locked: Callable[[Collection[Place]], Awaitable[set[Place]]],
        greatest: int,
    ) -> None:
        self._store = store
        self._locked = locked
        self._greatest = greatest
        self._queues: dict[Place, deque[Waiting]] = {}
        self._refused: dict[Place, Service] = {}
        self._worker: asyncio.Task[None] | None = None
        self._is_ending = False

    def __bool__(self) -> bool:
        return bool(self._queues)

    @property
    def length(self) -> int:
        """How many wait."""
        return sum(len(queue) for queue in self._queues.values())

    def place_of(self, draft: Draft) -> Place | None:
        """The place that is held which a draft is for, or None."""
        hers, everybodys = (draft.room_id, draft.sender.id), (draft.room_id, None)
        # What waits for her place has come before what waits for the room's.
        return hers if hers in self._queues else everybodys if everybodys in self._queues else None

    def is_refused(self, draft: Draft) -> bool:
        """Whether it would wait in vain."""
        return bool(self._refused) and self.place_of(draft) in self._refused

    def put(self, draft: Draft, place: Place) -> Waiting:
        """Let a draft wait for a place, which is held from now on."""
        waiting = Waiting(draft, place)
        self._queues.setdefault(place, deque()).append(waiting)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), context=nobodys())
        return waiting

    def refuse(self, waiting: Waiting) -> None:
        """A draft has waited too long: unless it is just being stored, it is not stored any more."""
        waiting.outcome.cancel()
        if waiting.place in self._queues and waiting.place not in self._refused:
            room_id, user_id = waiting.place
            name = f"place in the database of room {room_id}" + (f" for person {user_id}" if user_id else "")
            self._refused[waiting.place] = service = Service(name, "is locked", "is free again")
            service.failed("a transaction of somebody else keeps messages from being stored there")

    def give_up(self) -> None:
        """Let nobody wait any longer."""
        for waiting in itertools.chain.from_iterable(self._queues.values()):
            waiting.outcome.cancel()

    async def finish(self) -> None:
        """Wait until nothing waits; nothing is put here afterwards."""
        self._is_ending = True
        if self._worker:
            await asyncio.wait([self._worker])

    async def _work(self) -> None:
        try:
            while self._queues:
                await services.database.there(settings.DATABASE_TIMEOUT)
                for queue in self._queues.values():
                    _forget_the_refused(queue)
                if self._is_ending and not any(self._queues.values()):
                    return
                places = list(self._queues)
                locked = await self._locked({*places, *self._people()})
                for place in places:
                    if place[1] is None and place not in locked:
                        self._set_aside(place, locked)
                free = [place for place in places if not _holds(locked, place)]
                for place in free:
                    await self._settle(place)
                if not free:
                    await self._queue_for_one()
        finally:
            self._worker = None
            self.give_up()
            self._queues.clear()

    def _people(self) -> set[Place]:
        """The places of those whose drafts wait for rooms."""
        return {
            (room_id, waiting.draft.sender.id)
            for (room_id, user_id), queue in self._queues.items()
            if user_id is None
            for waiting in queue
        }

    def _set_aside(self, room: Place, locked: set[Place]) -> None:
        """Let those wait for their own places who are locked themselves: the others of their room do not wait for them.

        When their drafts came, something was being written in the room; or both were locked.
        """
        queue, self._queues[room] = self._queues[room], deque()
        for waiting in queue:
            hers = (room[0], waiting.draft.sender.id)
            if hers in locked:
                waiting.place = hers
                self._queues.setdefault(hers, deque()).append(waiting)
            else:
                self._queues[room].append(waiting)

    async def _queue_for_one(self) -> None:
        """Try one of the rooms all the same: in the database it then queues with everybody who wants the lock."""
        for place in [place for place, queue in self._queues.items() if not queue and place not in self._refused]:
            del self._queues[place]
        # Who waits for the lock of a person has that of her room meanwhile, and keeps it from everybody.
        rooms = (place for place, queue in self._queues.items() if queue and place[1] is None)
        if place := next(rooms, None):
            # The next time it is another one's turn.
            self._queues[place] = self._queues.pop(place)
            await self._settle(place)
        else:
            await asyncio.sleep(settings.PROBE_RETRY)

    async def _settle(self, place: Place) -> None:
        """Store what waits for a place, if that can be; when nothing waits any more, the place is not held."""
        queue = self._queues[place]
        while queue:
            some = list(itertools.islice(queue, self._greatest))
            try:
                outcomes = await self._store([each.draft for each in some])
            except Exception as error:  # noqa: BLE001 (it is theirs who wait)
                outcomes = {each.draft.uuid: error for each in some}
            if any(isinstance(outcome, StillHeldError) for outcome in outcomes.values()):
                _forget_the_refused(queue)
                return
            for waiting in some:
                queue.popleft()
                _tell(waiting.outcome, outcomes[waiting.draft.uuid])
            _forget_the_refused(queue)
        del self._queues[place]
        if service := self._refused.pop(place, None):
            service.answered()


def _holds(locked: set[Place], place: Place) -> bool:
    return place in locked or (place[0], None) in locked


def _forget_the_refused(queue: deque[Waiting]) -> None:
    left = [waiting for waiting in queue if not waiting.is_over]
    queue.clear()
    queue.extend(left)


def _tell(future: asyncio.Future, outcome: object) -> None:
    if future.done():  # it was refused while it was being stored
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
