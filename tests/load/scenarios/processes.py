"""Two processes of Salon beside one: the cost of a delivery, and where there are cores for it, how many they carry."""

import os
from contextlib import ExitStack

from load.bench import Bench, Result
from load.contenders.base import Contender
from load.scenarios.capacity import Crowd, search
from load.scenarios.rooms import RATE, WARM_UP

ENOUGH_CORES = 4


def two_processes(bench: Bench) -> Result:
    """Each room has its members at both processes."""
    notes: list[str] = []
    count = bench.options.connections or 500
    rate = bench.options.rate or RATE
    with ExitStack() as stack:
        contenders = bench.among("a")
        contenders += [stack.enter_context(bench.classes[each.letter](bench.stage, 2)) for each in contenders]
        crowds = {}
        for each in contenders:
            crowds[each] = stack.enter_context(Crowd(bench, each, count))
            bench.run(each, rate, crowds[each].writers, WARM_UP)
        figures = bench.rounds(contenders, lambda each: bench.run(each, rate, crowds[each].writers)[1], key=_key)
        if (os.cpu_count() or 1) >= ENOUGH_CORES:
            carried = bench.rounds(
                contenders,
                lambda each: {"carries_messages_per_second": search(bench, crowds[each], notes)},
                key=_key,
            )
            figures = {who: found | carried[who] for who, found in figures.items()}
        else:
            notes.append(
                f"What two carry is not shown: that takes {ENOUGH_CORES} cores, and here are {os.cpu_count()}."
            )
    return Result("Two processes", f"{count} connections in rooms of 100, {rate:g} messages a second", figures, notes)


def _key(contender: Contender) -> str:
    return f"{contender.letter}, {contender.processes} process{'es' if contender.processes > 1 else ''}"
