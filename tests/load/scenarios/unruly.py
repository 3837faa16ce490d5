"""Do those who behave notice those who do not?"""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from load.bench import Bench, Result, Sample, summarize
from load.contenders.base import Program
from load.contenders.salon import LIMITS, Salon
from load.cpu import forget_greatest, greatest_resident
from load.gang import Gangs, Outcome
from load.population import CROWD
from load.scenarios.rooms import everyone
from load.wires import Seat

RATE = 100.0
"""Messages a second of all who behave together."""

ORDINARY = 10
"""In each room, of those who behave."""

RETURNING = range(10, 30)
"""The places in each room of those who come back again and again."""

LONER, SWARM_PERSON = 30, 31
"""The places in each room of those who are alone in what they do."""

CONNECTIONS = 2000
REST = 0.5
"""Seconds after the end of one kind; then it is waited until the server is quiet, for what it has still to do for one
kind is not the next one's."""

QUIET_SHARE, LONGEST_REST = 0.1, 20.0
"""Of a core: what a quiet process uses at most. Seconds for which it is waited for."""

HISTORY = 2.0
"""Seconds of messages before all, so that the rooms have something to tell."""


class UnderItsLimits(Salon):
    """With a host's own limits, and as many who may wait to be let in as systemd's socket lets wait."""

    def program(self, port: int) -> Program:
        program = super().program(port)
        endpoint = f"tcp:{port}:interface=127.0.0.1:backlog=4096"
        command = [*program.command[:-5], "-e", endpoint, program.command[-1]]
        return Program(command, program.directory, program.environment)

    def environment(self) -> dict[str, str]:
        theirs = super().environment()
        return {name: value for name, value in theirs.items() if name not in {*LIMITS, "SALON_CONNECTIONS_PER_PERSON"}}

    @property
    def logs(self) -> list[Path]:
        return [self.stage.directory / f"{self.group}-{port}.log" for port in self.ports]


@dataclass(frozen=True)
class Kind:
    """One way to be a burden: its gang, and who is in it."""

    name: str
    gang: str
    seats: Callable[[list[Seat]], list[Seat]]


def _places(*places: int) -> Callable[[list[Seat]], list[Seat]]:
    return lambda seats: [each for at, each in enumerate(seats) if at % CROWD.room_size in places]


def _one(seats: list[Seat]) -> list[Seat]:
    return seats[LONER : LONER + 1]


def _too_many(seats: list[Seat]) -> list[Seat]:
    return [replace(seats[SWARM_PERSON], number=number) for number in range(CONNECTIONS)]


KINDS = (
    Kind("one in each room who never reads", "deaf", _places(LONER)),
    Kind("200 who come back together", "returning", _places(*RETURNING)),
    Kind("one who sends 10,000 messages a second", "flood", _one),
    Kind("one who sends 10,000 pings and nonsense a second", "babble", _one),
    Kind("one person with 2,000 connections", "swarm", _too_many),
    Kind("2,000 connections without a request", "silent", _too_many),
)


def unruly(bench: Bench) -> Result:
    """Each round has each kind once, with quiet before it."""
    if "a" not in bench.classes:
        return Result("Beside unruly clients", "only Salon is measured here", {})
    rate = bench.options.rate or RATE
    samples: dict[str, list[Sample]] = {f"a, beside {kind.name}": [] for kind in KINDS}
    got: dict[str, Counter[str]] = {kind.name: Counter() for kind in KINDS}
    with ExitStack() as stack:
        salon = stack.enter_context(UnderItsLimits(bench.stage, role="unruly"))
        bench.say(f"a: {salon.name} runs with its limits, process {' '.join(map(str, salon.pids))}")
        gangs = stack.enter_context(Gangs())
        seats = bench.seats.of(CROWD, salon.ports, salon.wire, CROWD.people)
        ordinary = _places(*range(ORDINARY))(seats)
        bench.crew.open(salon.group, ordinary)
        stack.callback(bench.crew.close, salon.group)
        round_ = Round(bench, salon, gangs, everyone(ordinary), rate)
        bench.figures_of(salon, bench.crew.load(salon.group, 5 * rate, HISTORY, round_.writers), {})
        for number in range(bench.options.rounds):
            for kind in KINDS:
                sample, outcome = round_.of(kind, kind.seats(seats))
                samples[f"a, beside {kind.name}"].append(sample)
                got[kind.name].update(outcome.counts)
                bench.say(f"  round {number + 1}, {kind.name}: p99 {sample['p99_ratio']:.2f} times the quiet one's")
    how = (
        f"{len(ordinary)} connections in rooms of {ORDINARY}, {rate:g} messages a second at random moments; "
        "one process, a host's limits"
    )
    notes = [f"{name}: {_told(counts)}" for name, counts in got.items()]
    return Result("Beside unruly clients", how, summarize(samples), notes)


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) + ", in all rounds"


class Round:
    """Measures those who behave, alone and then beside one kind of the others."""

    def __init__(self, bench: Bench, salon: UnderItsLimits, gangs: Gangs, writers: list[Seat], rate: float) -> None:
        self.writers = writers
        self._bench = bench
        self._salon = salon
        self._gangs = gangs
        self._rate = rate
        # No two measurements have the same moments, and every run has the same ones.
        self._seed = 0
        # A p99 needs more messages than a round of the other scenarios has at this rate.
        self._seconds = max(4.0, bench.options.seconds)

    def of(self, kind: Kind, seats: list[Seat]) -> tuple[Sample, Outcome]:
        quiet = self._measured()
        for pid in self._salon.pids:
            forget_greatest(pid)
        lines = self._log_lines()
        self._gangs.begin(kind.gang, seats)
        beside = self._measured()
        held = self._salon.memory()
        outcome = self._gangs.end()
        greatest = max(map(greatest_resident, self._salon.pids))
        calm_after = self._wait_until_calm()
        sample = {
            "p50_quiet_ms": quiet["p50_ms"],
            "p50_ms": beside["p50_ms"],
            "p99_quiet_ms": quiet["p99_ms"],
            "p99_ms": beside["p99_ms"],
            "p99_ratio": beside["p99_ms"] / quiet["p99_ms"],
            "greatest_mib": greatest / 2**20,
            "held_mib": held / 2**20,
            "app_percent_of_a_core": beside["app_percent_of_a_core"],
            "calm_after_s": calm_after,
            "log_lines": self._log_lines() - lines,
            "generator_busy": max(quiet["generator_busy"], beside["generator_busy"]),
            "unruly_busy": outcome.busy,
        }
        wrong = ("lost", "doubled", "dropped", "unsent")
        return sample | {name: quiet[name] + beside[name] for name in wrong}, outcome

    def _measured(self) -> Sample:
        kinds = self._salon.kinds()
        before = kinds["app"]()
        self._seed += 1000
        tally = self._bench.crew.load(self._salon.group, self._rate, self._seconds, self.writers, seed=self._seed)
        used = kinds["app"]() - before
        return self._bench.figures_of(self._salon, tally, {}) | {"app_percent_of_a_core": used / tally.seconds * 100}

    def _wait_until_calm(self) -> float:
        read, began = self._salon.kinds()["app"], time.monotonic()
        time.sleep(REST)
        quiet = 0
        while quiet < 2 and time.monotonic() < began + LONGEST_REST:
            before = read()
            time.sleep(0.2)
            quiet = quiet + 1 if read() - before < 0.2 * QUIET_SHARE else 0
        return time.monotonic() - began

    def _log_lines(self) -> int:
        return sum(log.read_bytes().count(b"\n") for log in self._salon.logs)
