"""What all contenders have in common: a Redis and a database of their own, processes, and the CPU of each kind."""

import os
import socket
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from services import Redis
from target import free_port, running

from load.cpu import Kinds, PostgreSQLClock, cpu_seconds, resident
from load.stage import Stage

START_TIMEOUT = 60.0


@dataclass(frozen=True)
class Program:
    """How a process of a contender is started; it listens on 127.0.0.1 at the port that it is told."""

    command: list[str]
    directory: Path
    environment: dict[str, str]


class Contender:
    """One server, of as many processes as asked for. Use it in a `with` block."""

    letter: str
    name: str
    wire = "json"
    settle = 0.0
    """Seconds after the last delivery in which it may still have something to do that belongs to it."""
    share_of_rate = 1.0
    """The part of the common rate that it gets, where it cannot carry all of it."""
    schema: str

    def __init__(self, stage: Stage, processes: int = 1, role: str = "") -> None:
        self.stage = stage
        # `role` tells it from another one of its kind that runs beside it.
        self.group = f"{self.letter}{processes}{role}"
        self.database = f"bench_{self.group}"
        self.processes = processes
        self.ports: list[int] = []
        self.pids: list[int] = []
        self._clock = PostgreSQLClock(stage.postmaster, self.database)
        self._stack = ExitStack()

    def program(self, port: int) -> Program:
        """The process that is to listen on this port."""
        raise NotImplementedError

    @classmethod
    def missing(cls) -> str:
        """Why it cannot be started on this machine; empty when it can."""
        return ""

    @classmethod
    def install(cls) -> str:
        """Get what it needs beside Salon's own environment; why that did not work, and empty when it did."""
        return ""

    def __enter__(self) -> "Contender":
        with ExitStack() as stack:
            self.redis = stack.enter_context(Redis())
            self.database_url = self.stage.new_database(self.database, self.schema)
            self.ports = [free_port() for _ in range(self.processes)]
            for port in self.ports:
                program = self.program(port)
                log = self.stage.directory / f"{self.group}-{port}.log"
                process = stack.enter_context(
                    running(
                        program.command,
                        log,
                        cwd=program.directory,
                        env={**os.environ, **program.environment},
                    )
                )
                self.pids.append(process.pid)
                self._wait(process, port, log)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _wait(self, process: subprocess.Popen, port: int, log: Path) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", port), 1):
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{self.name} did not start:\n{log.read_text()[-4000:]}")

    def kinds(self) -> Kinds:
        """The kinds of processes that work for it, and what each has used until now."""
        return {
            "app": lambda: sum(cpu_seconds(pid) for pid in self.pids),
            "redis": lambda: cpu_seconds(self.redis._process.pid),
            "postgresql": self._clock.seconds,
        }

    def memory(self) -> float:
        """Bytes that its own processes hold."""
        return resident(self.pids)
