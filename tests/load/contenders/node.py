"""The two in Node: Socket.IO with its Redis adapter, and `ws` by hand."""

import functools
import os
import shutil
import signal
import subprocess
import sys
import time

from target import PROJECT

from load.contenders.base import Contender, Program
from load.cpu import cpu_seconds

SOURCE = PROJECT / "tests" / "load" / "contenders" / "node"
DIRECTORY = PROJECT / "build" / "load-node"
LOCK = "package-lock.json"
INSTALL_TIMEOUT = 300.0

LONGEST_COLLECTION = 5.0
"""Seconds after which memory is read though the process is still busy."""


@functools.cache
def _install() -> str:
    """`npm ci`, unless what is there is of this lock file; the servers' own files each time."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    done = DIRECTORY / "node_modules" / LOCK
    if not done.exists() or done.read_bytes() != (SOURCE / LOCK).read_bytes():
        for name in ("package.json", LOCK):
            shutil.copy(SOURCE / name, DIRECTORY)
        # Without a network, npm would try for minutes.
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=1"]
        try:
            subprocess.run(command, cwd=DIRECTORY, check=True, stdout=sys.stderr, timeout=INSTALL_TIMEOUT)
        except (OSError, subprocess.SubprocessError) as error:
            return f"what it needs could not be installed: {error}"
        shutil.copy(SOURCE / LOCK, done)
    for script in SOURCE.glob("*.js"):
        shutil.copy(script, DIRECTORY)
    return ""


class Node(Contender):
    schema = "plain"
    script: str

    @classmethod
    def missing(cls) -> str:
        absent = [program for program in ("node", "npm") if not shutil.which(program)]
        return f"{' and '.join(absent)} not installed" if absent else ""

    @classmethod
    def install(cls) -> str:
        return _install()

    def memory(self) -> float:
        """After a collection of garbage, so that what is measured is what the connections need."""
        for pid in self.pids:
            os.kill(pid, signal.SIGUSR2)
        deadline = time.monotonic() + LONGEST_COLLECTION
        quiet = 0
        while quiet < 3 and time.monotonic() < deadline:
            before = sum(map(cpu_seconds, self.pids))
            time.sleep(0.1)
            quiet = quiet + 1 if sum(map(cpu_seconds, self.pids)) - before < 0.005 else 0
        return super().memory()

    def program(self, port: int) -> Program:
        return Program(
            ["node", "--expose-gc", self.script],
            DIRECTORY,
            {
                "NODE_ENV": "production",
                "PORT": str(port),
                "TOKEN_KEY": self.stage.token_key,
                "PGHOST": str(self.stage.postgresql.directory),
                "PGUSER": "salon",
                "PGDATABASE": self.database,
                "REDIS_SOCKET": str(self.redis.socket),
            },
        )


class SocketIO(Node):
    letter = "d"
    name = "Socket.IO"
    wire = "socketio"
    script = "socketio.js"


class Ws(Node):
    letter = "e"
    name = "Node ws by hand"
    script = "ws.js"
