"""One answer for many who ask: what is asked while an answer is under way is asked together after it.

A database sees one statement for many people under load, and nobody waits when there is no load.
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Generic, TypeVar

from salon.logs import nobodys

TOGETHER = 5
"""So many who get their answers go on before the event loop looks at anything else: when hundreds come at once, nobody
else waits for all of them."""

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def slices(items: Sequence[Item], greatest: int) -> Iterator[Sequence[Item]]:
    """The items in their order, at most so many at once."""
    return (items[start : start + greatest] for start in range(0, len(items), greatest))


class Batches(Generic[Item, Outcome]):
    """Hands items to `answer` in batches of at most `greatest`, one batch after the other, in the order they came.

    `answer` returns for each item its outcome, or the exception that whoever asked is to get; what it raises, all get.
    Batches begin at least `pace` seconds after each other: what comes after a rest is answered at once, and under load
    there is more in a batch. Where a `longest_pace` is given, the pace grows with the rate at which items come, up to
    it: when everybody comes at once, the number of batches is bounded by time and not by how many come. Who has waited
    for `patience` seconds gets a `TimeoutError`; what was not begun by then is withdrawn.
    """

    def __init__(
        self,
        answer: Callable[[list[Item]], Awaitable[Sequence[Outcome | Exception]]],
        greatest: int,
        pace: float = 0.0,
        patience: float | None = None,
        *,
        longest_pace: float | None = None,
    ) -> None:
        self._answer = answer
        self._greatest = greatest
        self._pace = pace
        self._longest_pace = pace if longest_pace is None else longest_pace
        self._patience = patience
        self._begun = -math.inf
        self._not_before = 0.0
        self._expiring: deque[tuple[float, asyncio.Future[Outcome]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._worker: asyncio.Task[None] | None = None

    @property
    def length(self) -> int:
        """How many wait for a batch to begin."""
        return len(self._waiting)

    async def ask(self, item: Item) -> Outcome:
        """The outcome for this item. Who is cancelled while the item waits withdraws it."""
        return await self.put(item)

    def put(self, item: Item) -> asyncio.Future[Outcome]:
        """The future outcome for this item. Cancelling it while the item waits withdraws it."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.append((item, outcome))
        if self._patience is not None:
            self._expire_at(loop.time() + self._patience, outcome)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), context=nobodys())
        return outcome

    def give_up(self) -> None:
        """Let everybody's patience end now."""
        for _, outcome in self._expiring:
            if not outcome.done():
                outcome.set_exception(TimeoutError())
        self._expiring.clear()

    async def finish(self) -> None:
        """Wait until nothing waits."""
        if self._worker:
            await asyncio.wait([self._worker])

    def _expire_at(self, due: float, outcome: asyncio.Future[Outcome]) -> None:
        # All have the same patience, so the first to come is the first to go: one timer serves them all.
        expiring = self._expiring
        while expiring and expiring[0][1].done():
            expiring.popleft()
        expiring.append((due, outcome))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(due, self._expire)

    def _expire(self) -> None:
        self._timer = None
        loop, expiring = asyncio.get_running_loop(), self._expiring
        while expiring and (expiring[0][1].done() or expiring[0][0] <= loop.time()):
            _, outcome = expiring.popleft()
            if not outcome.done():
                outcome.set_exception(TimeoutError())
        if expiring:
            self._timer = loop.call_at(expiring[0][0], self._expire)

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._rest()
                waiting = [each for each in self._waiting if not each[1].done()]
                batch, self._waiting = waiting[: self._greatest], waiting[self._greatest :]
                self._set_pace(len(batch))
                if batch:
                    await self._settle(batch)
        finally:
            # Only when it is cancelled is there anything left.
            for _, outcome in self._waiting:
                outcome.cancel()
            self._waiting = []
            self._worker = None

    async def _rest(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._not_before:
            await asyncio.sleep(self._not_before - now)
            now = self._not_before
        self._not_before = now + self._pace

    def _set_pace(self, items: int) -> None:
        """So many items are the next batch: when it is the turn of the one after it."""
        if self._longest_pace <= self._pace:
            return
        # As many times longer as there would have been items to a batch at the shortest pace.
        now = asyncio.get_running_loop().time()
        at_once = items * self._pace / max(now - self._begun, self._pace)
        self._begun = now
        if self._waiting:
            # A batch is full: who is left over need not wait for others.
            return
        self._not_before = now + min(self._longest_pace, self._pace * max(1.0, at_once))

    async def _settle(self, batch: list[tuple[Item, asyncio.Future[Outcome]]]) -> None:
        try:
            outcomes = await self._answer([item for item, _ in batch])
            if len(outcomes) != len(batch):
                raise RuntimeError(f"{len(outcomes)} answers for {len(batch)} items")
        except Exception as error:  # noqa: BLE001 (it is theirs who asked)
            outcomes = [error] * len(batch)
        for number, ((_, future), outcome) in enumerate(zip(batch, outcomes, strict=True), start=1):
            if number % TOGETHER == 0:
                await asyncio.sleep(0)
            if future.done():  # whoever waited has gone
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
