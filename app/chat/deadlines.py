"""Timers for many who wait for long and seldom until the end: thousands of them are one timer of the event loop.

What is due soon is kept by its tenth of a second, and what is due later by its minute, which is looked through when it
comes. So each waits in a set with others, costs nothing while it waits, and leaves nothing behind when it is cancelled.
"""

import asyncio
import logging
import math
from collections.abc import Callable

logger = logging.getLogger(__name__)

TICK = 0.1
"""Seconds that a deadline may be late by; none is early."""

TICKS_AHEAD = 600
"""What is further away than this is kept with all that is due in the same so many ticks."""


class Deadline:
    """Something to be done later, unless it is cancelled before."""

    __slots__ = ("_act", "_among", "tick")

    def __init__(self, act: Callable[[], None], tick: int) -> None:
        self._act = act
        self._among: set[Deadline] = set()
        self.tick = tick

    def wait_among(self, others: "set[Deadline]") -> None:
        self._among = others
        others.add(self)

    def cancel(self) -> None:
        """It is not done; nothing happens when it was done already."""
        self._among.discard(self)

    def come(self) -> None:
        """Do it; what it raises is logged."""
        try:
            self._act()
        except Exception:
            logger.exception("What was due could not be done")


class Deadlines:
    """The deadlines of an event loop; one a process."""

    def __init__(self) -> None:
        self._soon: dict[int, set[Deadline]] = {}
        self._later: dict[int, set[Deadline]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = math.inf

    def after(self, seconds: float, act: Callable[[], None]) -> Deadline:
        """Have `act` called in the loop in so many seconds, or up to `TICK` later."""
        now = asyncio.get_running_loop().time()
        deadline = Deadline(act, math.ceil((now + seconds) / TICK))
        self._wake_at(self._keep(deadline, math.floor(now / TICK)))
        return deadline

    def _keep(self, deadline: Deadline, now: int) -> int:
        """Put a deadline where it waits; the tick at which it is to be looked at."""
        if deadline.tick <= now + TICKS_AHEAD:
            deadline.wait_among(self._soon.setdefault(deadline.tick, set()))
            return deadline.tick
        stretch = deadline.tick // TICKS_AHEAD
        deadline.wait_among(self._later.setdefault(stretch, set()))
        return stretch * TICKS_AHEAD

    def _wake_at(self, tick: float) -> None:
        if tick < self._wakes_at:
            if self._timer:
                self._timer.cancel()
            self._wakes_at = tick
            self._timer = asyncio.get_running_loop().call_at(tick * TICK, self._wake)

    def _wake(self) -> None:
        now = math.floor(asyncio.get_running_loop().time() / TICK)
        self._timer, self._wakes_at = None, math.inf
        for stretch in [each for each in self._later if each * TICKS_AHEAD <= now]:
            for deadline in self._later.pop(stretch):
                self._keep(deadline, now)
        for tick in sorted(each for each in self._soon if each <= now):
            due = self._soon.pop(tick)
            # What is done may cancel what is due in the same moment.
            while due:
                due.pop().come()
        ahead = [*self._soon, *(stretch * TICKS_AHEAD for stretch in self._later)]
        self._wake_at(min(ahead, default=math.inf))


deadlines = Deadlines()
