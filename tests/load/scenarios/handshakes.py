"""What it costs to come: connect with a token, be known, be in a first room; and leave again."""

import time

from load.bench import Bench, Result, Sample
from load.contenders.base import Contender
from load.cpu import Meter
from load.population import FOURS

CONCURRENCY = 32
GRACE = 3.0
"""Seconds after which Salon takes somebody for gone. What it does then belongs to her visit."""


def handshakes(bench: Bench) -> Result:
    """So many people come and go, all of them different ones."""
    full = bench.options.is_full
    count = bench.options.connections or (600 if full else 100)
    contenders = bench.among("abcde" if full or bench.options.is_chosen else "acd")
    for contender in contenders:
        _visits(bench, contender, min(count, 100))
    figures = bench.rounds(contenders, lambda each: _visits(bench, each, count))
    how = f"{count} people come and go, {CONCURRENCY} at once; token verified, user loaded, first room joined"
    return Result("Handshakes", how, figures)


def _visits(bench: Bench, contender: Contender, count: int) -> Sample:
    seats = bench.seats.of(FOURS, contender.ports, contender.wire, count)
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
