"""A real server for the tests of the client: told over standard input what to do, one line of JSON each.

`manage` calls a command; `start`, `kill` (SIGKILL) and `terminate` (SIGTERM, as a deployment does) are about the
process, which keeps its port and its data. The first line that it prints says where it is.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "integration"), str(Path(__file__).parents[1])]

from target import DEADLINE, PROJECT, SERVER, Target, free_port  # noqa: E402 (found by the line above)

from waiting import wait_until  # noqa: E402


class Server:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.target = Target(
            urls=[f"http://localhost:{self.port}"],
            manage_command=[sys.executable, str(PROJECT / "app" / "manage.py")],
            # Two hundred clients of one test are one person's machines, or a crowd at one address.
            environment={"SALON_DATA_DIR": str(directory), "SALON_CONNECTIONS_PER_PERSON": "500"},
        )
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*SERVER, "--port", str(self.port)],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=PROJECT / "app",
                env={**os.environ, **self.target.environment},
            )
        process = self.process
        wait_until(lambda: process.poll() is not None or self.target.ready()[0] == 200, "the server", DEADLINE)
        if process.poll() is not None:
            raise RuntimeError((self.directory / "server.log").read_text())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)

    def terminate(self) -> None:
        self.process.terminate()
        self.process.wait(DEADLINE)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="salon-client-") as directory:
        server = Server(Path(directory))
        try:
            server.target.manage("migrate", "--verbosity=0")
            server.start()
            answer({"port": server.port})
            for line in sys.stdin:
                name, *arguments = json.loads(line)
                try:
                    if name == "manage":
                        answer({"output": server.target.manage(*arguments)})
                    else:
                        getattr(server, name)()
                        answer({"output": ""})
                except Exception as error:  # noqa: BLE001 (whoever asked is told)
                    answer({"error": str(error)})
        finally:
            server.target.close()
            if server.process and server.process.poll() is None:
                server.terminate()


def answer(what: dict) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


main()
