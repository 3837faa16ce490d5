"""One timer for many deadlines."""

import asyncio
import logging
import math
from typing import Protocol

logger = logging.getLogger(__name__)


class Filed(Protocol):
    """What a `Wheel` calls back."""

    due: int
    """The wheel's: the second that it is filed under, or 0. It begins as 0."""

    def on_due(self) -> None: ...


class Wheel:
    """Calls `on_due` of what is filed, within a second after its time has come.

    A look costs as much as there is due, and not as much as there is filed; each thing is filed once at most. Who has
    a deadline that moves with every sign of life leaves it filed, and looks when it is due whether it still holds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, set[Filed]] = {}
        self.now = int(loop.time())
        """Seconds, as of the last tick: good enough to note when something was heard, and free."""
        self._timer = loop.call_at(self.now + 1, self._tick)

    def file(self, item: Filed, seconds: float) -> None:
        """Call `item` when at least so many seconds have passed, and forget its earlier time."""
        self.remove(item)
        # The second that runs has begun a while ago.
        item.due = due = self.now + max(0, math.ceil(seconds)) + 1
        if (bucket := self._buckets.get(due)) is None:
            bucket = self._buckets[due] = set()
        bucket.add(item)

    def remove(self, item: Filed) -> None:
        if not item.due:
            return
        if bucket := self._buckets.get(item.due):
            bucket.discard(item)
            if not bucket:
                del self._buckets[item.due]
        item.due = 0

    def stop(self) -> None:
        self._timer.cancel()

    def _tick(self) -> None:
        current = int(self._loop.time())
        while self.now < current:
            self.now += 1
            for item in self._buckets.pop(self.now, ()):
                if item.due != self.now:
                    continue
                item.due = 0
                try:
                    item.on_due()
                except Exception:
                    logger.exception("A deadline could not be handled")
        self._timer = self._loop.call_at(self.now + 1, self._tick)
