"""What is remembered of who is in which room, with a database and a log that the test plays."""

import asyncio

import pytest

from chat import database, roster
from chat.changes import EVERYTHING, Changes
from chat.protocol import ChatError, ErrorCode, SenderInfo
from chat.roster import Roster, Standing


class Log:
    """A feed that is current, or not, as the test says."""

    def __init__(self):
        self.current = True
        self.receivers = []

    def on_changes(self, receiver):
        self.receivers.append(receiver)

    def is_current(self):
        return self.current

    def tell(self, changes):
        for receiver in self.receivers:
            receiver(changes)


class Members:
    """The database: who is in which room, under which name, and what was asked."""

    def __init__(self):
        self.names = {(1, 7): "Ann", (2, 7): "Bob", (1, 8): "Ann"}
        self.loads = []
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def query(self, function, pairs):
        assert function is roster.load
        self.loads.append(sorted(pairs))
        found = {
            pair: Standing(SenderInfo(pair[0], self.names[pair], "student", None), "group")
            for pair in pairs
            if pair in self.names
        }
        self.asked.set()
        await asyncio.sleep(0)
        await self.gate.wait()
        return found


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def members(monkeypatch):
    members = Members()
    monkeypatch.setattr(database, "look_up", members.query)
    return members


@pytest.fixture
def known(log, members):
    return Roster(log)


async def names(known, *pairs):
    return [(await known.standing(*pair)).person.name for pair in pairs]


async def test_fifty_questions_cost_one_look_up(known, members):
    assert known.known(1, 7) is None
    for _ in range(50):
        assert await names(known, (1, 7)) == ["Ann"]
        assert known.known(1, 7).person.name == "Ann"
    assert members.loads == [[(1, 7)]]


async def test_many_who_ask_at_once_are_looked_up_together(known, members):
    asked = [(1, 7), (2, 7), (1, 8), (1, 7)]
    found = await asyncio.gather(*(known.standing(*pair) for pair in asked))
    assert [standing.person.name for standing in found] == ["Ann", "Bob", "Ann", "Ann"]
    assert members.loads == [[(1, 7), (1, 8), (2, 7)]]


@pytest.mark.parametrize(
    ("told", "dropped"),
    [
        (Changes(memberships=frozenset([(7, 1)])), [(1, 7)]),
        (Changes(people=frozenset([1])), [(1, 7), (1, 8)]),
        (Changes(rooms=frozenset([7])), [(1, 7), (2, 7)]),
        (EVERYTHING, [(1, 7), (1, 8), (2, 7)]),
        (Changes(memberships=frozenset([(9, 9)]), people=frozenset([9]), rooms=frozenset([9])), []),
        (Changes(tokens=frozenset(["7"])), []),
    ],
)
async def test_what_has_changed_is_looked_up_anew_and_nothing_else(known, log, members, told, dropped):
    await names(known, *members.names)
    members.loads.clear()
    log.tell(told)
    assert sorted(pair for pair in members.names if known.known(*pair) is None) == dropped
    await asyncio.gather(*(known.standing(*pair) for pair in members.names))
    assert sorted(pair for load in members.loads for pair in load) == dropped


@pytest.mark.parametrize(
    ("told", "is_kept"),
    [
        (Changes(memberships=frozenset([(7, 1)])), False),
        (Changes(people=frozenset([1])), False),
        (Changes(rooms=frozenset([7])), False),
        (EVERYTHING, False),
        (Changes(people=frozenset([2]), rooms=frozenset([8])), True),
    ],
)
async def test_what_was_overtaken_by_a_change_is_not_kept(known, log, members, told, is_kept):
    members.gate.clear()
    asking = asyncio.create_task(known.standing(1, 7))
    await members.asked.wait()
    members.names[1, 7] = "Anna"
    log.tell(told)
    members.gate.set()
    await asking
    assert (known.known(1, 7) is not None) is is_kept
    assert await names(known, (1, 7)) == ["Ann" if is_kept else "Anna"]


async def test_a_change_before_a_look_up_does_not_keep_it_from_being_kept(known, log, members):
    log.tell(EVERYTHING)
    await names(known, (1, 7))
    assert known.known(1, 7)


async def test_while_the_log_cannot_be_read_the_database_is_asked(known, log, members):
    await names(known, (1, 7))
    log.current = False
    members.names[1, 7] = "Anna"
    assert known.known(1, 7) is None
    assert await names(known, (1, 7), (1, 7)) == ["Anna", "Anna"]
    assert len(members.loads) == 3
    del members.names[1, 7]
    with pytest.raises(ChatError):
        await known.standing(1, 7)


async def test_who_is_no_member_is_asked_for_again(known, members):
    for _ in range(2):
        with pytest.raises(ChatError) as refused:
            await known.standing(3, 7)
        assert refused.value.code is ErrorCode.INVALID_ROOM
        assert known.known(3, 7) is None
    members.names[3, 7] = "Cleo"
    assert await names(known, (3, 7)) == ["Cleo"]


async def test_one_who_is_no_member_takes_no_other_with_her(known, members):
    found = await asyncio.gather(*(known.standing(*pair) for pair in [(1, 7), (3, 7)]), return_exceptions=True)
    assert found[0].person.name == "Ann"
    assert found[1].code is ErrorCode.INVALID_ROOM


async def test_a_look_up_that_fails_leaves_nothing_behind(known, members, monkeypatch):
    async def fail(*_):
        raise ChatError(ErrorCode.UNAVAILABLE, "away")

    with monkeypatch.context() as broken:
        broken.setattr(database, "look_up", fail)
        with pytest.raises(ChatError):
            await known.standing(1, 7)
    assert await names(known, (1, 7)) == ["Ann"]
    assert known.known(1, 7)


async def test_it_has_an_end(known, log, members, settings_of):
    settings_of.ROSTER_SIZE = 2
    await names(known, (1, 7), (2, 7), (1, 8))
    assert [known.known(*pair) is None for pair in [(1, 7), (2, 7), (1, 8)]] == [True, False, False]
    # What was dropped for want of space is dropped from everywhere.
    log.tell(Changes(people=frozenset([1, 2])))
    await names(known, (1, 7))
    log.tell(Changes(rooms=frozenset([7])))
    assert known.known(1, 7) is None


async def test_that_something_was_told_is_counted(known, log):
    before = known.told
    log.tell(Changes(people=frozenset([9])))
    assert known.told > before


@pytest.fixture
def settings_of(monkeypatch):
    """Settings that hold for the test."""

    class Settings:
        def __setattr__(self, name, value):
            monkeypatch.setattr(roster.settings, name, value)

    return Settings()
