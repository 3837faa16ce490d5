"""What it costs to come: connect with a token, be known, be in a first room; and leave again."""

import time

from load.bench import Bench, Result, Sample, summarize
from load.contenders.base import Contender
from load.cpu import Meter
from load.population import FOURS
from load.scenarios.rooms import CONNECTIONS
from load.wires import Seat

CONCURRENCY = 32
GRACE = 3.0
"""Seconds after which Salon takes somebody for gone. What it does then belongs to her visit."""

WARM_UP = 100
"""Visits before the first round, of people who do not come again."""


def handshakes(bench: Bench) -> Result:
    """Each visit is of a person, and with a token, that the server has never seen: no cache of its can answer for her.

    The full form also lets those of the round come a second time, which is a figure of its own.
    """
    full = bench.options.is_full
    # There are only so many people who can be new.
    left = FOURS.people - (bench.options.connections or CONNECTIONS) - WARM_UP
    count = max(1, min(bench.options.connections or (600 if full else 100), left // bench.options.rounds))
    contenders = bench.among("abcde" if full or bench.options.is_chosen else "acd")
    for contender in contenders:
        _visits(bench, contender, _newcomers(bench, contender, min(count, WARM_UP)))
    returning: dict[str, list[Sample]] = {}

    def measure(contender: Contender) -> Sample:
        seats = _newcomers(bench, contender, count)
        sample = _visits(bench, contender, seats)
        if full:
            returning.setdefault(f"{contender.letter}, returning", []).append(_visits(bench, contender, seats))
        return sample

    figures = bench.rounds(contenders, measure) | summarize(returning)
    how = f"{count} people come and go, {CONCURRENCY} at once; token verified, user loaded, first room joined"
    notes = ["Each visit is of a person and with a token that the server has not seen before."]
    if full:
        notes.append("“Returning”: the same people with the same tokens, a moment later. No criterion counts it.")
    return Result("Handshakes", how, figures, notes)


def _newcomers(bench: Bench, contender: Contender, count: int) -> list[Seat]:
    # The first people have been there already, in rooms of 4.
    known = bench.options.connections or CONNECTIONS
    return bench.seats.newcomers(FOURS, contender.group, contender.ports, contender.wire, count, known)


def _visits(bench: Bench, contender: Contender, seats: list[Seat]) -> Sample:
    count = len(seats)
    meter = Meter(contender.kinds())
    seconds, busy = bench.crew.visit(seats, CONCURRENCY)
    if contender.settle:
        _wait_for_departures(contender, count)
    else:
        time.sleep(0.2)
    used = meter.used()
    bench.busiest = max(bench.busiest, busy)
    total = sum(used.values())
    return {
        "per_cpu_second": count / total,
        "per_app_cpu_second": count / used["app"],
        "per_second": count / seconds,
        "all_us": total / count * 1e6,
        **{f"{kind}_us": value / count * 1e6 for kind, value in used.items()},
        "generator_busy": busy,
    }


def _wait_for_departures(contender: Contender, count: int) -> None:
    """Until the grace is over and the process has become quiet."""
    time.sleep(GRACE)
    deadline = time.monotonic() + 10 + count / 100
    quiet = 0
    while quiet < 3 and time.monotonic() < deadline:
        meter = Meter(contender.kinds())
        time.sleep(0.1)
        quiet = quiet + 1 if sum(meter.used().values()) < 0.01 else 0
