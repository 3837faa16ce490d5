"""One answer for many who ask: what is asked while an answer is under way is asked together after it.

A database sees one statement for many people under load, and nobody waits when there is no load.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Batches(Generic[Item, Outcome]):
    """Hands items to `answer` in batches of at most `greatest`, one batch after the other, in the order they came.

    `answer` returns for each item its outcome, or the exception that whoever asked is to get; what it raises, all get.
    `linger`: so many seconds a batch waits for company, if the one before had some; who comes alone never waits.
    """

    def __init__(
        self,
        answer: Callable[[list[Item]], Awaitable[Sequence[Outcome | Exception]]],
        greatest: int,
        linger: float = 0.0,
    ) -> None:
        self._answer = answer
        self._greatest = greatest
        self._linger = linger
        self._had_company = False
        self._waiting: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Outcome:
        """The outcome for this item. Who is cancelled while the item waits withdraws it."""
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, outcome))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await outcome

    def waiting(self) -> Iterator[tuple[Item, asyncio.Future[Outcome]]]:
        """What was not begun yet; a future that is cancelled withdraws its item."""
        return iter(self._waiting)

    async def _work(self) -> None:
        try:
            while waiting := self._still_waiting():
                if self._linger and self._had_company and len(waiting) < self._greatest:
                    await asyncio.sleep(self._linger)
                    if not (waiting := self._still_waiting()):
                        break
                batch, self._waiting = waiting[: self._greatest], waiting[self._greatest :]
                self._had_company = len(batch) > 1
                await self._settle(batch)
        finally:
            self._waiting = []
            self._worker = None

    def _still_waiting(self) -> list[tuple[Item, asyncio.Future[Outcome]]]:
        return [each for each in self._waiting if not each[1].done()]

    async def _settle(self, batch: list[tuple[Item, asyncio.Future[Outcome]]]) -> None:
        try:
            outcomes = await self._answer([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 (it is theirs who asked)
            outcomes = [error] * len(batch)
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if future.done():  # whoever waited has gone
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
