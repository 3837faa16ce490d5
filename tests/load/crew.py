"""The processes of the load generator, as the benchmark sees them: one, whichever of them does the work."""

import multiprocessing
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from load.generator import Load, now, serve
from load.ledger import Tally
from load.wires import Seat

START_DELAY = 50_000_000
"""Nanoseconds until all of them begin."""


def size() -> int:
    """How many processes: the servers need cores too."""
    return max(1, min(4, (os.cpu_count() or 1) // 3))


class Crew:
    """Rooms are dealt out whole: each process has all connections of a room, and so knows what they should receive."""

    def __init__(self, authority: Path | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes = []
        self._processes = []
        self._homes: dict[str, dict[int, list[Seat]]] = {}
        for _ in range(size()):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, authority), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(5)
            if process.is_alive():
                process.kill()

    def open(self, group: str, seats: Sequence[Seat], concurrency: int = 32) -> float:
        """Open a group of connections, or add to it; seconds that it took."""
        dealt = self._deal(seats)
        homes = self._homes.setdefault(group, defaultdict(list))
        for home, mine in dealt.items():
            homes[home].extend(mine)
        return max(self._ask({home: ("open", (group, mine, concurrency)) for home, mine in dealt.items()}))

    def visit(self, seats: Sequence[Seat], concurrency: int = 32) -> tuple[float, float]:
        """Open and close; seconds, and the share of a core that the busiest process used."""
        dealt = self._deal(seats)
        share = max(1, concurrency // len(dealt))
        answers = self._ask({home: ("visit", (mine, share)) for home, mine in dealt.items()})
        return max(seconds for seconds, _ in answers), max(busy for _, busy in answers)

    def load(
        self,
        group: str,
        rate: float,
        seconds: float,
        writers: Sequence[Seat],
        drain: float = 3.0,
        *,
        seed: int | None = None,
    ) -> Tally:
        """`rate` messages a second from the writers in turn: evenly, or with a `seed` at random moments."""
        numbers = {seat.number for seat in writers}
        homes = {
            home: [seat.number for seat in seats if seat.number in numbers]
            for home, seats in self._homes[group].items()
        }
        homes = {home: mine for home, mine in homes.items() if mine}
        start, questions = now() + START_DELAY, {}
        for home, mine in homes.items():
            moments = None if seed is None else seed + home
            share = Load(rate * len(mine) / len(numbers), seconds, start, tuple(mine), drain, moments)
            questions[home] = "load", (group, share)
        tally = Tally()
        for answer in self._ask(questions):
            tally += answer
        return tally

    def rest(self, group: str, seconds: float, ping_every: float) -> tuple[float, int]:
        """Idle; the share of a core that the busiest process used, and the pings that were sent."""
        answers = self._ask(dict.fromkeys(self._homes[group], ("rest", (group, seconds, ping_every))))
        return max(busy for busy, _ in answers), sum(pings for _, pings in answers)

    def dropped(self, group: str) -> int:
        """How many connections of a group the server has closed."""
        return sum(self._ask(dict.fromkeys(self._homes[group], ("dropped", (group,)))))

    def close(self, group: str) -> None:
        """Close a group of connections."""
        self._ask(dict.fromkeys(self._homes.pop(group, {}), ("close", (group,))))

    def _deal(self, seats: Sequence[Seat]) -> dict[int, list[Seat]]:
        dealt: dict[int, list[Seat]] = defaultdict(list)
        for seat in seats:
            dealt[seat.room_id % len(self._pipes)].append(seat)
        return dealt

    def _ask(self, questions: dict[int, tuple[str, tuple]]) -> list[Any]:
        for home, question in questions.items():
            self._pipes[home].send(question)
        answers = [self._pipes[home].recv() for home in questions]
        for _, error in answers:
            if error:
                raise RuntimeError(f"The load generator: {error}")
        return [answer for answer, _ in answers]
