"""How a process follows the log of changes, with a log that the test writes."""

import pytest

from chat import changes, database
from chat.changes import EVERYTHING, NOTHING, Changes, Feed, Place
from chat.protocol import ChatError, ErrorCode

ANN = Changes(people=frozenset([1]))


@pytest.fixture
def log(monkeypatch):
    """What is read next, one answer after the other, and all that was asked for."""

    class Log:
        def __init__(self):
            self.answers, self.asked, self.pruned = [], [], []

        async def probe(self, function, since):
            assert function is changes.read
            self.asked.append(since)
            answer = self.answers.pop(0) if self.answers else NOTHING
            if isinstance(answer, Exception):
                raise answer
            return Place(len(self.asked), len(self.asked)), answer

        async def query(self, function, before):
            assert function is changes.prune
            self.pruned.append(before)

    log = Log()
    monkeypatch.setattr(database, "probe", log.probe)
    monkeypatch.setattr(database, "query", log.query)
    return log


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr(changes.time, "monotonic", lambda: Clock.now)
    return Clock


async def test_each_poll_goes_on_where_the_last_one_ended(log):
    feed, told = Feed(), []
    feed.on_changes(told.append)
    log.answers = [EVERYTHING, NOTHING, ANN]
    for _ in range(3):
        await feed.poll()
    assert log.asked == [None, Place(1, 1), Place(2, 2)]
    assert told == [EVERYTHING, ANN]


async def test_what_a_receiver_failed_on_is_told_again(log):
    feed, told = Feed(), []

    def fail_once(_):
        if len(log.asked) == 1:
            raise ValueError("once")

    feed.on_changes(fail_once)
    feed.on_changes(told.append)
    log.answers = [ANN, ANN]
    with pytest.raises(ValueError, match="once"):
        await feed.poll()
    assert not feed.is_current()
    await feed.poll()
    assert log.asked == [None, None]
    assert told == [ANN]


async def test_it_is_current_for_a_second_after_the_beginning_of_a_look_that_succeeded(log, clock):
    feed = Feed()
    assert not feed.is_current()
    await feed.poll()
    assert feed.is_current()
    clock.now += 1
    assert feed.is_current()
    log.answers = [ChatError(ErrorCode.UNAVAILABLE, "away")]
    with pytest.raises(ChatError):
        await feed.poll()
    clock.now += 0.1
    assert not feed.is_current()
    await feed.poll()
    assert feed.is_current()


async def test_only_what_was_there_for_a_while_is_pruned(log):
    feed = Feed()
    await feed.prune()
    await feed.poll()
    await feed.prune()
    assert log.pruned == []
    await feed.poll()
    await feed.prune()
    assert log.pruned == [Place(1, 1)]


@pytest.mark.parametrize(
    ("told", "concerned"),
    [
        (NOTHING, False),
        (EVERYTHING, True),
        (Changes(people=frozenset([1])), True),
        (Changes(people=frozenset([2])), False),
        (Changes(rooms=frozenset([2])), True),
        (Changes(rooms=frozenset([1])), False),
        (Changes(memberships=frozenset([(2, 1)])), True),
        (Changes(memberships=frozenset([(1, 2)])), False),
        (Changes(tokens=frozenset(["1"])), False),
    ],
)
def test_whom_changes_concern(told, concerned):
    assert told.concern(user_id=1, room_id=2) is concerned
    assert (told | NOTHING).concern(user_id=1, room_id=2) is concerned
    assert bool(told) is (told is not NOTHING)
