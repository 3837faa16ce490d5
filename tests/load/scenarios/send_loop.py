"""What the kernel alone asks for a delivery."""

import subprocess
from functools import cached_property

from target import PROJECT

from load.bench import Bench, Sample

SOURCE = PROJECT / "tests" / "load" / "send_loop.c"
PROGRAM = PROJECT / "build" / "load-send-loop"
USUAL_FRAME = 640
"""Bytes, where no message of Salon's has been seen."""


class SendLoop:
    """A bare loop of send(2) in C, compiled when it is first needed; it takes its turn among the contenders."""

    letter = "send"
    name = "bare send(2) in C"

    def __init__(self, bench: Bench, connections: int, rate: float) -> None:
        self._bench = bench
        self._connections = connections
        self._rate = rate

    @cached_property
    def _program(self) -> str:
        PROGRAM.parent.mkdir(exist_ok=True)
        subprocess.run(["gcc", "-O2", "-Wall", "-o", PROGRAM, SOURCE], check=True)
        return str(PROGRAM)

    def measure(self) -> Sample:
        """One round: CPU µs of one send."""
        size = self._bench.frame_sizes.get("a", USUAL_FRAME)
        seconds = self._bench.options.seconds
        numbers = (self._connections, min(100, self._connections), size, self._rate, seconds)
        done = subprocess.run(
            [self._program, *map(str, numbers)], capture_output=True, text=True, check=True, timeout=seconds + 60
        )
        return {"app_us_per_delivery": float(done.stdout), "frame_bytes": size}
