"""Many deadlines with one timer."""

import asyncio
import gc
import weakref

import pytest

from chat.deadlines import TICK, TICKS_AHEAD, Deadlines


class Loop:
    """An event loop's clock and its timers, which a test moves on."""

    def __init__(self):
        self.now = 1000.0
        self.timers = []

    def time(self):
        return self.now

    def call_at(self, when, act):
        timer = Timer(when, act)
        self.timers.append(timer)
        return timer

    def pass_to(self, moment):
        while due := [timer for timer in self.timers if timer.act and timer.when <= moment]:
            timer = min(due, key=lambda each: each.when)
            self.now = max(self.now, timer.when)
            act, timer.act = timer.act, None
            act()
        self.now = moment

    @property
    def waiting(self):
        return [timer for timer in self.timers if timer.act]


class Timer:
    def __init__(self, when, act):
        self.when = when
        self.act = act

    def cancel(self):
        self.act = None


@pytest.fixture
def loop(monkeypatch):
    loop = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return loop


@pytest.mark.parametrize("seconds", [0, 0.01, 1, 59.9, 60, 60.1, 119, 3600, 30 * 86400])
def test_none_is_early_and_none_much_too_late(loop, seconds):
    came = []
    due = loop.now + seconds
    Deadlines().after(seconds, lambda: came.append(loop.now))
    loop.pass_to(due + 2 * TICK)
    [moment] = came
    assert due - 1e-6 <= moment <= due + TICK + 1e-6
    assert loop.waiting == []


def test_many_are_one_timer(loop):
    came = []
    deadlines = Deadlines()
    for number in range(5000):
        deadlines.after(number, lambda number=number: came.append(number))
    assert len(loop.waiting) == 1
    loop.pass_to(loop.now + 5001)
    assert came == list(range(5000))


def test_the_first_comes_first(loop):
    came = []
    deadlines = Deadlines()
    deadlines.after(3 * TICK * TICKS_AHEAD, lambda: came.append("later"))
    deadlines.after(1, lambda: came.append("soon"))
    loop.pass_to(loop.now + 2)
    assert came == ["soon"]


@pytest.mark.parametrize("seconds", [1, 3600])
def test_what_is_cancelled_does_not_come_and_is_not_kept(loop, seconds):
    came = []

    def act():
        came.append("cancelled")

    deadlines = Deadlines()
    deadline = deadlines.after(seconds, act)
    kept = weakref.ref(act)
    deadline.cancel()
    deadline.cancel()
    del act, deadline
    gc.collect()
    assert kept() is None
    loop.pass_to(loop.now + seconds + 1)
    assert came == []
    assert loop.waiting == []


def test_one_cancels_another_of_the_same_moment(loop):
    came = []
    deadlines = Deadlines()
    both = []
    for number in range(2):
        both.append(deadlines.after(1, lambda number=number: (came.append(number), both[1 - number].cancel())))
    loop.pass_to(loop.now + 2)
    assert len(came) == 1


def test_one_that_fails_does_not_hold_up_the_others(loop, caplog):
    came = []
    deadlines = Deadlines()
    deadlines.after(1, lambda: 1 / 0)
    deadlines.after(2, lambda: came.append("second"))
    loop.pass_to(loop.now + 3)
    assert came == ["second"]
    assert "ZeroDivisionError" in caplog.text


async def test_in_a_real_loop():
    came = asyncio.Event()
    Deadlines().after(0.05, came.set)
    async with asyncio.timeout(5):
        await came.wait()
