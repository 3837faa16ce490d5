"""What processes use: CPU to the nanosecond, and memory."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

PROC = Path("/proc")


def cpu_seconds(pid: int) -> float:
    """CPU that all threads of a process have used, also those that have ended; 0 when it is not there.

    The clock of another process (clock_getcpuclockid(3)) counts nanoseconds, where `/proc/PID/stat` counts hundredths.
    """
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return 0.0


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return [int(child) for child in (PROC / f"{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def resident(pids: Iterable[int]) -> float:
    """Bytes that these processes hold in memory; what several share counts once among them (PSS)."""
    total = 0
    for pid in pids:
        lines = (PROC / f"{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


def forget_greatest(pid: int) -> None:
    """Have `greatest_resident` count from now on."""
    (PROC / f"{pid}/clear_refs").write_text("5")


def greatest_resident(pid: int) -> float:
    """The most bytes that a process has held in memory at any one time, what it shares with others included (RSS)."""
    lines = (PROC / f"{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


class PostgreSQLClock:
    """CPU of a PostgreSQL as far as it works for `database`: its backends, and the background processes.

    The backends of other databases are left out: whoever is not measured may still have something to write, and what
    one has used in its life must not count when it ends. So the postmaster's account of its ended children is no help.
    """

    def __init__(self, postmaster: int, database: str) -> None:
        self._postmaster = postmaster
        self._database = database
        self._used: dict[int, float] = {}

    def seconds(self) -> float:
        """Until now, of all that were seen."""
        for pid in [self._postmaster, *children(self._postmaster)]:
            if self._concerns(pid):
                self._used[pid] = cpu_seconds(pid) or self._used.get(pid, 0.0)
        return sum(self._used.values())

    def _concerns(self, pid: int) -> bool:
        try:
            # `postgres: USER DATABASE [local] idle`, or the name of a background process.
            title = (PROC / f"{pid}/cmdline").read_text().split()
        except OSError:
            return False
        return not (len(title) > 3 and title[3].startswith("[local]")) or title[2] == self._database


Kinds = dict[str, Callable[[], float]]
"""For each kind of process, what returns the CPU seconds of all of them until now."""


class Meter:
    """What each kind of process uses from the making of the meter on."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._before = {kind: read() for kind, read in kinds.items()}

    def used(self) -> dict[str, float]:
        """CPU seconds of each kind since then."""
        return {kind: read() - self._before[kind] for kind, read in self._kinds.items()}
