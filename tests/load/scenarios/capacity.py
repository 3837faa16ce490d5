"""What a server can carry, and how long a message is under way at shares of that."""

from collections.abc import Iterable
from contextlib import ExitStack

from load.bench import GREATEST_BUSY, Bench, Result, Sample
from load.contenders.base import Contender
from load.figures import Figure, percentile
from load.ledger import COUNTED, Tally
from load.population import HUNDREDS
from load.scenarios.rooms import one_writer_each
from load.wires import Seat

TOO_LATE = 200.0
"""Milliseconds of the 99th percentile from which on a server lags."""

TOP_RATE = 4000.0
SHARES = (25, 50, 75)
"""Of what Salon carries, in percent: where the full form looks how long a message is under way."""


class Crowd:
    """The connections that a search is made with. Use it in a `with` block; `anew` when some are gone."""

    def __init__(self, bench: Bench, contender: Contender, count: int) -> None:
        self.contender = contender
        self._bench = bench
        self._count = count

    def __enter__(self) -> "Crowd":
        self._stack = ExitStack()
        self.anew()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def anew(self) -> None:
        """Close all that are left, and open as many as there should be."""
        self._stack.close()
        seats = self._stack.enter_context(self._bench.connected(self.contender, HUNDREDS, self._count))
        self.writers = one_writer_each(seats)


def capacity(bench: Bench) -> Result:
    """Search for each, then go on at half of what Socket.IO carries; in full also at shares of what Salon does."""
    full = bench.options.is_full
    count = bench.options.connections or 500
    notes: list[str] = []
    with ExitStack() as stack:
        contenders = bench.among("abcde" if full else "ade" if bench.options.is_chosen else "ad")
        crowds = {each: stack.enter_context(Crowd(bench, each, count)) for each in contenders}
        carried = {each.letter: search(bench, crowds[each], notes) for each in contenders}
        room = count / len(crowds[contenders[0]].writers) if contenders else 0
        figures = {
            letter: {"deliveries_per_second": Figure.of([rate * room]), "messages_per_second": Figure.of([rate])}
            for letter, rate in carried.items()
        }
        points = _points(carried, SHARES if full else ())
        measured = bench.rounds(
            [(each, name, rate) for each in contenders for name, rate in points.items() if _applies(each, name)],
            lambda point: _at(bench, point[0], crowds[point[0]].writers, point[2]),
            key=lambda point: f"{point[0].letter} {point[1]}",
        )
    for key, found in measured.items():
        letter, _, name = key.partition(" ")
        wanted = ("p50_ms", "p99_ms", "p99.9_ms", "generator_busy", "late_p99_ms", "deliveries_per_second")
        figures[letter] |= {f"{name}: {each}": found[each] for each in wanted}
    return Result("Capacity and latency", f"{count} connections in rooms of 100", figures, notes)


def _points(carried: dict[str, float], shares: Iterable[int]) -> dict[str, float]:
    """The rates at which latency is measured, by name."""
    points = {f"{share} % of a": carried["a"] * share / 100 for share in shares} if "a" in carried else {}
    if "d" in carried:
        points["50 % of d"] = carried["d"] / 2
    return points


def _applies(contender: Contender, point: str) -> bool:
    return contender.letter == "a" or (contender.letter == "d" and point == "50 % of d")


def _at(bench: Bench, contender: Contender, writers: list[Seat], rate: float) -> Sample:
    tally, sample = bench.run(contender, rate, writers)
    return sample | {"deliveries_per_second": tally.delivered / tally.seconds}


def search(bench: Bench, crowd: Crowd, notes: list[str]) -> float:
    """The greatest rate, to a few percent, at which nothing lags, is lost or doubled, and nobody is dropped."""
    contender = crowd.contender
    seconds = 2.0 if bench.options.is_full else 1.0
    least, most, rate = 0.0, 0.0, 100.0 * contender.share_of_rate
    slow: list[str] = []
    for _ in range(10 if bench.options.is_full else 8):
        tally = bench.crew.load(contender.group, rate, seconds, crowd.writers)
        bench.busiest = max(bench.busiest, tally.busy)
        bench.count(contender, sent=tally.sent, delivered=tally.delivered, **unforgiven(tally))
        if tally.slow:
            slow.append(f"{tally.slow} at {rate:.0f} messages a second")
        if not tally.is_whole:
            wrong = ", ".join(f"{count} {name}" for name in COUNTED if (count := getattr(tally, name)))
            bench.say(f"  {contender.letter}: {wrong} at {rate:.0f} messages a second")
        if carries(tally):
            least = rate
            if tally.busy > GREATEST_BUSY:
                notes.append(f"{contender.letter}: the generator was {tally.busy:.0%} busy; it may carry more.")
                break
        else:
            most = rate
        if not tally.is_whole:
            # Each rate is carried by all connections, and from each of them on.
            crowd.anew()
        if most == 0 and rate >= TOP_RATE:
            break
        if most and most - least < 0.08 * most:
            break
        rate = (least + most) / 2 if most else rate * 2
    bench.say(f"  {contender.letter}: carries {least:.0f} messages a second")
    if slow:
        closed = ", ".join(slow)
        notes.append(f"{contender.letter} closed connections as slow readers, beyond what it carries: {closed}.")
    return max(least, 1.0)


def carries(tally: Tally) -> bool:
    """Whether a server carries the rate at which this came of it."""
    latest = percentile(sorted(tally.latencies) or [10**12], 0.99) / 1e6
    return tally.is_whole and latest < TOO_LATE


def unforgiven(tally: Tally) -> dict[str, int]:
    """What may not happen at any rate, as often as it has.

    Beyond what it carries a server may lag, and close who does not read any more: that is counted apart, and what such
    a writer did not say then is no failure.
    """
    counts = {name: getattr(tally, name) for name in COUNTED}
    if tally.slow:
        counts |= {"dropped": tally.dropped - tally.slow, "closed_as_slow": tally.slow}
        if not counts["dropped"]:
            counts["unsent"] = 0
    return counts
