"""What waits for a lock: in its order, by itself, and not for ever."""

import asyncio
from uuid import uuid4

import pytest

from chat.held import Held, StillHeldError
from chat.journal import Draft
from chat.protocol import SenderInfo

ANN, BOB = (SenderInfo(number, name, "student", None) for number, name in ((1, "Ann"), (2, "Bob")))
ROOM = (7, None)
HERS = (7, 1)


class Database:
    """Places that are locked, and what was stored, in its order; `gate` holds up what is being stored."""

    def __init__(self):
        self.locks = set()
        self.stored = []
        self.tries = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        self.looks = 0
        self.looked_at = asyncio.Event()
        """That somebody has looked several times."""

    async def store(self, drafts):
        self.tries += 1
        is_locked = any({(draft.room_id, None), (draft.room_id, draft.sender.id)} & self.locks for draft in drafts)
        self.asked.set()
        await self.gate.wait()
        await asyncio.sleep(0.01)
        if is_locked:
            return {draft.uuid: StillHeldError() for draft in drafts}
        self.stored += [draft.content for draft in drafts]
        return {draft.uuid: f"stored {draft.content}" for draft in drafts}

    async def locked(self, places):
        await asyncio.sleep(0)
        self.looks += 1
        if self.looks == 3:
            self.looked_at.set()
        return self.locks & ({*places} | {(room_id, None) for room_id, _ in places})


@pytest.fixture
def database():
    return Database()


@pytest.fixture
async def held(database):
    held = Held(database.store, database.locked, 2)
    yield held
    held.give_up()
    async with asyncio.timeout(5):
        await held.finish()


def draft(content, sender=ANN, room=7):
    return Draft(room, sender, content, uuid=uuid4())


async def outcomes(*waiting):
    async with asyncio.timeout(5):
        return [await each.outcome for each in waiting]


async def test_what_waits_is_stored_in_its_order_when_the_lock_is_gone(held, database):
    database.locks = {ROOM}
    waiting = [held.put(draft(content), ROOM) for content in "abcde"]
    await database.asked.wait()
    assert database.stored == []
    assert held.place_of(draft("x", BOB)) == ROOM
    database.locks = set()
    assert await outcomes(*waiting) == [f"stored {content}" for content in "abcde"]
    assert database.stored == list("abcde")
    assert not held
    assert held.place_of(draft("x")) is None


async def test_who_waits_for_her_own_lock_waits_alone_and_queues_nowhere(held, database):
    database.locks = {HERS}
    waiting = held.put(draft("a"), HERS)
    async with asyncio.timeout(5):
        await database.looked_at.wait()
    # To wait in the database for it would keep the room from the others.
    assert database.tries == 0
    assert held.place_of(draft("b", BOB)) is None
    assert held.place_of(draft("b")) == HERS
    database.locks = set()
    assert await outcomes(waiting) == ["stored a"]


async def test_who_waits_for_the_room_does_not_wait_for_somebody_who_is_locked(held, database):
    """Whose message was put aside for the room, as that was being written in when it was looked at."""
    database.locks = {HERS}
    hers = [held.put(draft(content), ROOM) for content in "ab"]
    his = held.put(draft("c", BOB), ROOM)
    assert await outcomes(his) == ["stored c"]
    assert held.place_of(draft("x")) == HERS
    assert held.place_of(draft("x", BOB)) is None
    database.locks = set()
    assert await outcomes(*hers) == ["stored a", "stored b"]
    assert database.stored == ["c", "a", "b"]
    assert not held


async def test_after_one_was_refused_all_are_until_the_lock_is_gone(held, database, caplog):
    database.locks = {ROOM}
    waiting = held.put(draft("a"), ROOM)
    assert not held.is_refused(draft("b"))
    held.refuse(waiting)
    held.refuse(waiting)
    assert held.is_refused(draft("b"))
    assert not held.is_refused(draft("b", room=8))
    database.locks = set()
    async with asyncio.timeout(5):
        await asyncio.wait([held._worker])
    assert not held.is_refused(draft("b"))
    assert database.stored == []
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "room 7 is locked" in lines[0]
    assert "room 7 is free again" in lines[1]


async def test_what_is_refused_while_it_is_stored_takes_nobody_with_it(held, database):
    database.gate.clear()
    first, second = (held.put(draft(content), ROOM) for content in "ab")
    await database.asked.wait()
    first.outcome.cancel()
    database.gate.set()
    assert await outcomes(second) == ["stored b"]
    assert database.stored == ["a", "b"]


async def test_what_goes_wrong_is_theirs_who_wait(database):
    async def fail(drafts):
        raise RuntimeError("broken")

    held = Held(fail, database.locked, 2)
    waiting = [held.put(draft(content), ROOM) for content in "ab"]
    for each in waiting:
        with pytest.raises(RuntimeError):
            await each.outcome
    async with asyncio.timeout(5):
        await held.finish()
