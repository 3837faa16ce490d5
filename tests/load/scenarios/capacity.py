"""What a server can carry, and how long a message is under way at shares of that."""

from contextlib import ExitStack

from load.bench import Bench, Result, Sample
from load.contenders.base import Contender
from load.figures import Figure, percentile
from load.population import HUNDREDS
from load.scenarios.rooms import one_writer_each
from load.wires import Seat

TOO_LATE = 200.0
"""Milliseconds of the 99th percentile from which on a server lags."""

TOP_RATE = 4000.0
SHARES = (25, 50, 75)


def capacity(bench: Bench) -> Result:
    """Search for each, then go on at shares of what Salon can carry, and at half of what Socket.IO can."""
    full = bench.options.is_full
    count = bench.options.connections or 500
    notes: list[str] = []
    with ExitStack() as stack:
        contenders = bench.among("abcde" if full or bench.options.is_chosen else "ad")
        writers = {
            each: one_writer_each(stack.enter_context(bench.connected(each, HUNDREDS, count))) for each in contenders
        }
        carried = {each.letter: _search(bench, each, writers[each], notes) for each in contenders}
        room = count / len(next(iter(writers.values()))) if contenders else 0
        figures = {
            letter: {"deliveries_per_second": Figure.of([rate * room]), "messages_per_second": Figure.of([rate])}
            for letter, rate in carried.items()
        }
        points = _points(carried)
        measured = bench.rounds(
            [(each, name, rate) for each in contenders for name, rate in points.items() if _applies(each, name)],
            lambda point: _at(bench, point[0], writers[point[0]], point[2]),
            key=lambda point: f"{point[0].letter} {point[1]}",
        )
    for key, found in measured.items():
        letter, _, name = key.partition(" ")
        wanted = ("p50_ms", "p99_ms", "p99.9_ms", "generator_busy", "late_p99_ms", "deliveries_per_second")
        figures[letter] |= {f"{name}: {each}": found[each] for each in wanted}
    return Result("Capacity and latency", f"{count} connections in rooms of 100", figures, notes)


def _points(carried: dict[str, float]) -> dict[str, float]:
    """The rates at which latency is measured, by name."""
    points = {f"{share} % of a": carried["a"] * share / 100 for share in SHARES} if "a" in carried else {}
    if "d" in carried:
        points["50 % of d"] = carried["d"] / 2
    return points


def _applies(contender: Contender, point: str) -> bool:
    return contender.letter == "a" or (contender.letter == "d" and point == "50 % of d")


def _at(bench: Bench, contender: Contender, writers: list[Seat], rate: float) -> Sample:
    tally, sample = bench.run(contender, rate, writers)
    return sample | {"deliveries_per_second": tally.delivered / tally.seconds}


def _search(bench: Bench, contender: Contender, writers: list[Seat], notes: list[str]) -> float:
    """The greatest rate, to a few percent, at which messages neither lag nor are lost."""
    seconds = 2.0 if bench.options.is_full else 1.0
    least, most, rate = 0.0, 0.0, 100.0 * contender.share_of_rate
    for _ in range(10 if bench.options.is_full else 8):
        tally = bench.crew.load(contender.group, rate, seconds, writers)
        # Beyond what it carries a server may drop what it likes; it is asked for that at the rates that it carries.
        bench.busiest = max(bench.busiest, tally.busy)
        latest = percentile(sorted(tally.latencies) or [10**12], 0.99) / 1e6
        if tally.delivered == tally.expected and latest < TOO_LATE:
            least = rate
            if tally.busy > 0.85:
                notes.append(f"{contender.letter}: the generator was {tally.busy:.0%} busy; it may carry more.")
                break
        else:
            most = rate
        if most == 0 and rate >= TOP_RATE:
            break
        if most and most - least < 0.08 * most:
            break
        rate = (least + most) / 2 if most else rate * 2
    bench.say(f"  {contender.letter}: carries {least:.0f} messages a second")
    return max(least, 1.0)
