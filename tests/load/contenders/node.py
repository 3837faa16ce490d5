"""The two in Node: Socket.IO with its Redis adapter, and `ws` by hand."""

import shutil
import subprocess

from target import PROJECT

from load.contenders.base import Contender, Program
from load.stage import Stage

SOURCE = PROJECT / "tests" / "load" / "contenders" / "node"
DIRECTORY = PROJECT / "build" / "load-node"
LOCK = "package-lock.json"


class Node(Contender):
    schema = "plain"
    script: str

    @classmethod
    def missing(cls) -> str:
        absent = [program for program in ("node", "npm") if not shutil.which(program)]
        return f"{' and '.join(absent)} not installed" if absent else ""

    @classmethod
    def install(cls, stage: Stage) -> None:
        """`npm ci`, unless what is there is of this lock file; the server's own files each time."""
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        done = DIRECTORY / "node_modules" / LOCK
        if not done.exists() or done.read_bytes() != (SOURCE / LOCK).read_bytes():
            for name in ("package.json", LOCK):
                shutil.copy(SOURCE / name, DIRECTORY)
            subprocess.run(
                ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
                cwd=DIRECTORY,
                check=True,
            )
            shutil.copy(SOURCE / LOCK, done)
        for script in SOURCE.glob("*.js"):
            shutil.copy(script, DIRECTORY)

    def program(self, port: int) -> Program:
        return Program(
            ["node", self.script],
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
