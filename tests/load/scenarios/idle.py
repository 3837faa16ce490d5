"""What a connection costs that only is there: memory, and the CPU of pings."""

from load.bench import Bench, Result, Sample, summarize
from load.contenders.base import Contender
from load.cpu import Meter
from load.figures import Figure
from load.population import FOURS

PING_EVERY = 30.0
"""Seconds between two pings of a client, as the frontend sends them."""


def idle(bench: Bench) -> Result:
    """Connections in steps, as many as there are rounds: each step tells the memory of one more."""
    full = bench.options.is_full
    count = bench.options.connections or (10_000 if full else 1000)
    seconds = 8.0 if full else 1.0
    figures = {}
    for letter in ("abcde" if full else "abde") if bench.options.is_chosen else "ad":
        if letter in bench.classes:
            # A fresh process: one that has had connections before keeps their memory, and gives it to the next ones.
            with bench.classes[letter](bench.stage, role="idle") as contender:
                figures[letter] = _fill(bench, contender, count, seconds)
    how = f"{count:,} connections, each in one room; a ping of each client every {PING_EVERY:.0f} s"
    return Result("Idle connections", how, figures)


def _fill(bench: Bench, contender: Contender, count: int, seconds: float) -> dict[str, Figure]:
    steps = bench.options.rounds
    step = count // steps
    # The first ones pay for what is shared: threads, connections to the database, code that is loaded late.
    bench.crew.open(contender.group, bench.seats.of(FOURS, contender.ports, contender.wire, 200))
    opened, before, growth = 200, contender.memory(), list[Sample]()
    for _ in range(steps):
        seats = bench.seats.of(FOURS, contender.ports, contender.wire, step, skip=opened)
        bench.crew.open(contender.group, seats)
        opened += step
        bench.crew.rest(contender.group, 0.5, PING_EVERY)
        now = contender.memory()
        growth.append({"kib_per_connection": (now - before) / step / 1024})
        before = now
    bench.crew.rest(contender.group, max(1.0, contender.settle), PING_EVERY)
    shares = []
    for _ in range(steps):
        meter = Meter(contender.kinds())
        busy, pings = bench.crew.rest(contender.group, seconds, PING_EVERY)
        used = meter.used()
        share = {f"{kind}_percent_of_a_core": value / seconds * 100 for kind, value in used.items()}
        shares.append(share | {"pings": pings, "generator_busy": busy})
    dropped = bench.crew.dropped(contender.group)
    bench.count(contender, dropped=dropped)
    bench.crew.close(contender.group)
    figures = summarize({"memory": growth, "cpu": shares})
    return {**figures["memory"], **figures["cpu"], "connections": Figure.of([opened]), "dropped": Figure.of([dropped])}
