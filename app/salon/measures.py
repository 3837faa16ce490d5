"""What a process counts of itself: plain numbers, added to where things happen and read when somebody asks.

On a message's way an addition is all there is: no lock, no label that is looked up for each socket. What several
threads add to has a lock. `chat.metrics` gives all of it names, for Prometheus.
"""

import asyncio
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the classes that durations are counted in."""

LAG_INTERVAL = 0.1
"""Seconds between two looks at how late the event loop is."""


class Histogram:
    """How many durations were how long. `counts` has one for each of `SECONDS`, and one for what is longer."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        # Clocks that are set can go back.
        seconds = max(seconds, 0.0)
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.sum += seconds


class SharedHistogram(Histogram):
    """The same for threads."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def observe(self, seconds: float) -> None:
        with self._lock:
            super().observe(seconds)


class SharedTally:
    """Counts by a word, for threads."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, word: str) -> None:
        with self._lock:
            self._counts[word] = self._counts.get(word, 0) + 1

    def items(self) -> list[tuple[str, int]]:
        with self._lock:
            return sorted(self._counts.items())


class Counts:
    """The numbers of a process, those of its event loop."""

    __slots__ = (
        "connections",
        "delivered_messages",
        "delivered_others",
        "filled_gaps",
        "filled_messages",
        "slow_readers",
        "unreadable_events",
    )

    def __init__(self) -> None:
        self.connections = 0
        """WebSockets that are open now."""
        self.delivered_messages = 0
        """Events that are messages, counted for each socket that they were given to; and other events so."""
        self.delivered_others = 0
        self.filled_gaps = 0
        """Times that a room's missing messages were read from the database; and how many those were."""
        self.filled_messages = 0
        self.slow_readers = 0
        """WebSockets that were closed because they did not read what they were sent."""
        self.unreadable_events = 0
        """Frames that were no event."""


counts = Counts()

handshakes: defaultdict[str, int] = defaultdict(int)
"""WebSockets by what came of them: `opened`, or why they were refused."""
closed: defaultdict[int, int] = defaultdict(int)
"""WebSockets that were open by the code that they were closed with."""
received: defaultdict[type, int] = defaultdict(int)
"""Events of clients by their class; and those for clients, each counted once, whoever gets it."""
made: defaultdict[type, int] = defaultdict(int)
errors: defaultdict[str, int] = defaultdict(int)
"""Error events by their code."""
limited = SharedTally()
"""Refusals for a limit, by what there was too much of."""
database_errors = SharedTally()
channel_layer_errors = SharedTally()
requests = SharedTally()
"""HTTP requests by their status."""

committed = Histogram()
"""From the receipt of a message until it is stored; and until it was given to the last socket of this process."""
delivered = Histogram()
published = SharedHistogram()
"""Until the channel layer had taken what was sent to other processes."""
lag = Histogram()
"""How late the event loop was."""
answered = SharedHistogram()
"""HTTP requests."""
database: defaultdict[str, SharedHistogram] = defaultdict(SharedHistogram)
"""What was asked of the database, by who asked: the kind of thread, or the `journal`."""

on_done: list[Callable[[str, str, float, str], None]] = []
"""Called with each thing that was done: its kind, its name, its seconds, and what came of it. Empty unless somebody
traces."""

queues: dict[str, Callable[[], int]] = {}
"""How much waits, where things wait for each other; each says so when it is asked."""
queued_bytes: list[Callable[[], int]] = []
"""How many bytes wait for clients that do not read."""


async def notice_lag() -> None:
    """Look again and again how late the event loop is."""
    while True:
        due = time.monotonic() + LAG_INTERVAL
        await asyncio.sleep(LAG_INTERVAL)
        lag.observe(time.monotonic() - due)
