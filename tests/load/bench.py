"""What every scenario is given: the contenders that run, the generator, and how long to measure."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from load.contenders.base import Contender
from load.cpu import Meter
from load.crew import Crew
from load.figures import Figure, percentile
from load.ledger import COUNTED, Tally
from load.population import Family, Seats
from load.stage import Stage
from load.wires import Seat

GREATEST_BUSY = 0.85
"""Share of a core from which on the generator may be what is measured."""


@dataclass(frozen=True)
class Options:
    """What the command line asks for.

    `is_chosen`: it names the contenders, and gets those, also where the quick form leaves some out. `seconds` is the
    length of one round of load.
    """

    is_full: bool
    is_chosen: bool
    rounds: int
    seconds: float
    rate: float | None
    connections: int | None


Sample = dict[str, float]
"""One round of one contender: figures by name."""


@dataclass
class Result:
    """A scenario's figures, by contender, and what it says about how it was done."""

    title: str
    how: str
    figures: dict[str, dict[str, Figure]]
    notes: list[str] = field(default_factory=list)


class Bench:
    """The running benchmark."""

    def __init__(
        self,
        stage: Stage,
        crew: Crew,
        contenders: dict[str, type[Contender]],
        options: Options,
        say: Callable[[str], None],
    ) -> None:
        self.stage = stage
        self.crew = crew
        self.classes = contenders
        self.options = options
        self.seats = Seats(stage.token_key)
        self.say = say
        self.busiest = 0.0
        self.frame_sizes: dict[str, int] = {}
        self._stack = ExitStack()
        self._running: dict[str, Contender] = {}
        self._total: defaultdict[str, Sample] = defaultdict(lambda: defaultdict(float))

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def among(self, letters: str) -> list[Contender]:
        """Those of the contenders in `letters` that were asked for, running."""
        return [self.running(letter) for letter in letters if letter in self.classes]

    def running(self, letter: str) -> Contender:
        """This contender, with one process, started when it is first needed and for the rest of the run."""
        if letter not in self._running:
            contender = self._stack.enter_context(self.classes[letter](self.stage))
            self.say(f"{letter}: {contender.name} runs, process {' '.join(map(str, contender.pids))}")
            self._running[letter] = contender
        return self._running[letter]

    @contextmanager
    def connected(
        self, contender: Contender, family: Family, count: int, group: str | None = None
    ) -> Iterator[list[Seat]]:
        """`count` connections to a contender, until the end of the block."""
        group = group or contender.group
        seats = self.seats.of(family, contender.ports, contender.wire, count)
        seconds = self.crew.open(group, seats)
        self.say(f"  {contender.letter}: {count:,} connections in {seconds:.1f} s")
        try:
            yield seats
        finally:
            self.crew.close(group)

    def run(
        self,
        contender: Contender,
        rate: float,
        writers: list[Seat],
        seconds: float | None = None,
        drain: float = 3.0,
        *,
        group: str | None = None,
    ) -> tuple[Tally, Sample]:
        """One round of load, and its figures. What the server does for it a moment later counts, and is waited for."""
        meter = Meter(contender.kinds())
        tally = self.crew.load(group or contender.group, rate, seconds or self.options.seconds, writers, drain)
        time.sleep(contender.settle)
        return tally, self.figures_of(contender, tally, meter.used())

    def figures_of(self, contender: Contender, tally: Tally, used: Sample) -> Sample:
        """What a run of load costs and takes, and whether it was right."""
        self._judge(contender, tally)
        delivered, persisted = max(1, tally.delivered), max(1, tally.sent)
        sample = {f"{kind}_us_per_delivery": seconds / delivered * 1e6 for kind, seconds in used.items()}
        sample["all_us_per_delivery"] = sum(used.values()) / delivered * 1e6
        sample["all_us_per_message"] = sum(used.values()) / persisted * 1e6
        ordered = sorted(tally.latencies) or [0]
        for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
            sample[f"{name}_ms"] = percentile(ordered, share) / 1e6
        sample["generator_us_per_delivery"] = tally.generator_seconds / delivered * 1e6
        sample["generator_busy"] = tally.busy
        sample["late_p99_ms"] = percentile(sorted(tally.late) or [0], 0.99) / 1e6
        sample |= {"lost": tally.lost, "doubled": tally.doubled, "dropped": tally.dropped, "unsent": tally.unsent}
        return sample

    def _judge(self, contender: Contender, tally: Tally) -> None:
        self.busiest = max(self.busiest, tally.busy)
        self.frame_sizes[contender.letter] = tally.frame_size
        self.count(contender, **{name: getattr(tally, name) for name in ("sent", "delivered", *COUNTED)})

    def count(self, contender: Contender, **counts: float) -> None:
        """Add to what is counted over the whole run."""
        for name, count in counts.items():
            self._total[contender.letter][name] += count

    @property
    def totals(self) -> dict[str, Sample]:
        """For each contender, all that was sent, delivered, lost and so on."""
        return {letter: dict(total) for letter, total in sorted(self._total.items())}

    def rounds(
        self,
        contenders: list[Any],
        measure: Callable[[Any], Sample],
        key: Callable[[Any], str] = lambda each: each.letter,
    ) -> dict[str, dict[str, Figure]]:
        """All contenders in turn, as many times as there are rounds."""
        samples: dict[str, list[Sample]] = {key(each): [] for each in contenders}
        for number in range(self.options.rounds):
            # Nobody always comes after the same one.
            shift = number % max(1, len(contenders))
            for each in contenders[shift:] + contenders[:shift]:
                samples[key(each)].append(measure(each))
        return summarize(samples)


def summarize(samples: dict[str, list[Sample]]) -> dict[str, dict[str, Figure]]:
    """The median and the spread of each figure of each contender."""
    return {
        who: {name: Figure.of(sample[name] for sample in taken if name in sample) for name in taken[0]}
        for who, taken in samples.items()
        if taken
    }
