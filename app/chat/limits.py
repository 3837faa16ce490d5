"""How often somebody may do something: token buckets, for each connection and for each person.

A bucket holds `burst` tokens and gains `per_second` tokens a second; what is done takes one. Each process keeps a
person's buckets, and tells the others of who is busy: so somebody who talks to several processes gets, after a moment,
no more than somebody who talks to one, and a message costs no round trip.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal
from uuid import uuid4

from django.conf import settings

from chat.protocol import ChatError, ErrorCode
from salon import measures
from salon.settings import Rate

Deed = Literal["messages", "signals", "joins", "requests"]
"""What is counted for a person: messages; typing, status and read marks; joins; calls of the HTTP API."""

WORDS: dict[str, str] = {
    "messages": "messages",
    "signals": "typing, status and read events",
    "joins": "joins",
    "requests": "requests",
    "events": "events on one connection",
}

REMEMBERED_BUCKETS = 50_000
"""Buckets that are kept; those nothing was taken from for longest are forgotten, and they were full."""


QUIET = 0.2
"""The share of a limit's rate up to which nothing is told; `report` is called once a second."""


class Bucket:
    """A token bucket; `clock` gives seconds."""

    __slots__ = ("_clock", "_rate", "_since", "tokens")

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._since = clock()
        self.tokens = rate.burst

    def take(self, count: float = 1) -> float:
        """Take tokens. 0, or the seconds until there will be enough; then none were taken."""
        self._fill()
        if self.tokens >= count:
            self.tokens -= count
            return 0.0
        return (count - self.tokens) / self._rate.per_second

    def drain(self, count: float) -> None:
        """Take tokens that were given out elsewhere; what is not there is owed, up to `burst`."""
        self._fill()
        self.tokens = max(-self._rate.burst, self.tokens - count)

    def _fill(self) -> None:
        now = self._clock()
        self.tokens = min(self._rate.burst, self.tokens + (now - self._since) * self._rate.per_second)
        self._since = now


def refused(deed: str, wait: float) -> ChatError:
    """The error for who did something too often; `wait` in seconds."""
    measures.limited.add(deed)
    wait = max(0.1, round(wait, 1))
    return ChatError(ErrorCode.RATE_LIMITED, f"Too many {WORDS[deed]}; try again in {wait:g} s.", retry_after=wait)


class People:
    """The buckets of people; one a process."""

    def __init__(self) -> None:
        self._name = uuid4().hex
        self._buckets: OrderedDict[tuple[int, Deed], Bucket] = OrderedDict()
        self._spent: dict[tuple[int, Deed], float] = {}
        # The HTTP API asks from threads of its own.
        self._lock = threading.Lock()

    def take(self, user_id: int, deed: Deed) -> None:
        """Count a deed. Raises `ChatError` (`rate_limited`) with the seconds until there is room for another."""
        with self._lock:
            bucket = self._bucket(user_id, deed)
            wait = bucket.take()
            if not wait:
                self._spent[user_id, deed] = self._spent.get((user_id, deed), 0) + 1
        if wait:
            raise refused(deed, wait)

    def report(self) -> dict | None:
        """What to tell the other processes since the last call, or None."""
        with self._lock:
            spent, self._spent = self._spent, {}
        # Who does little here does not come near a limit by it, whatever she does elsewhere.
        spent = {key: count for key, count in spent.items() if count > settings.LIMITS[key[1]].per_second * QUIET}
        if not spent:
            return None
        return {"spent": [[user_id, deed, count] for (user_id, deed), count in spent.items()], "by": self._name}

    def hear(self, notice: dict) -> None:
        """Take account of what another process has told."""
        if "spent" in notice and notice["by"] != self._name:
            with self._lock:
                for user_id, deed, count in notice["spent"]:
                    self._bucket(user_id, deed).drain(count)

    def _bucket(self, user_id: int, deed: Deed) -> Bucket:
        key = user_id, deed
        if (bucket := self._buckets.get(key)) is None:
            bucket = self._buckets[key] = Bucket(settings.LIMITS[deed])
            if len(self._buckets) > REMEMBERED_BUCKETS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket


people = People()
