"""A long run: does memory grow?"""

from load.bench import Bench, Result
from load.contenders.base import Contender
from load.figures import Figure
from load.population import FOURS, HUNDREDS
from load.scenarios.handshakes import CONCURRENCY, _wait_for_departures
from load.scenarios.rooms import RATE, one_writer_each
from load.wires import Seat

DELIVERIES = 1_000_000
VISITS = 50_000
PARTS = 10
WARM_UP = 0.1
"""The share of all that is done before memory is looked at for the first time."""


def soak(bench: Bench) -> Result:
    """Deliveries and visits in turn, to Salon alone."""
    figures = {each.letter: _soak(bench, each) for each in bench.among("a")}
    return Result("Soak", f"{DELIVERIES:,} deliveries, {VISITS:,} connects and disconnects", figures)


def _soak(bench: Bench, contender: Contender) -> dict[str, Figure]:
    with bench.connected(contender, HUNDREDS, bench.options.connections or 500) as seats:
        writers = one_writer_each(seats)
        _part(bench, contender, writers, WARM_UP)
        before, course = contender.memory(), []
        for number in range(PARTS):
            _part(bench, contender, writers, 1 / PARTS)
            course.append(contender.memory())
            bench.say(f"  part {number + 1} of {PARTS}: {course[-1] / 2**20:.1f} MiB after {before / 2**20:.1f}")
    return {
        "mib_after_warm_up": Figure.of([before / 2**20]),
        "mib_at_the_end": Figure.of([course[-1] / 2**20]),
        "mib_between": Figure.of([each / 2**20 for each in course]),
    }


def _part(bench: Bench, contender: Contender, writers: list[Seat], share: float) -> None:
    rate = bench.options.rate or RATE
    seconds = DELIVERIES * share / 100 / rate
    bench.run(contender, rate, writers, seconds)
    visits = int(VISITS * share)
    for done in range(0, visits, 1000):
        seats = bench.seats.of(FOURS, contender.ports, contender.wire, min(1000, visits - done), skip=done)
        bench.crew.visit(seats, CONCURRENCY)
    _wait_for_departures(contender, 1000)
