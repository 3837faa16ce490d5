"""Real PostgreSQL and Redis for the tests: private instances on unix sockets, which a test can stop and start."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

from target import running

from waiting import wait_until


def _program(name):
    """Debian keeps PostgreSQL's programs off PATH."""
    found = shutil.which(name) or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)), None
    )
    assert found, f"{name} is not installed; tests/system-packages postgresql redis installs it"
    return found


class Service:
    """A server program in a directory of its own, with the URL that it is reached by."""

    url: str

    def __init__(self, prefix):
        # The path of a unix socket has at most 107 bytes, so it stays out of pytest's deep directories.
        self.directory = Path(tempfile.mkdtemp(prefix=prefix))
        self._stack = ExitStack()

    def start(self):
        raise NotImplementedError

    def stop(self):
        self._stack.close()

    def pause(self):
        """It hangs: connections stay open and nothing answers, until `resume`."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        self._process.send_signal(signal.SIGCONT)

    def _run(self, command, **options):
        self._process = self._stack.enter_context(running(command, self.directory / "log", **options))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.directory)


class Redis(Service):
    def __init__(self):
        super().__init__("salon-redis-")
        self.socket = self.directory / "redis.sock"
        self.url = f"unix://{self.socket}"

    def start(self):
        command = [_program("redis-server"), "--port", "0", "--unixsocket", str(self.socket), "--save", ""]
        self._run(command, cwd=self.directory)
        wait_until(self.socket.exists, "Redis")


class PostgreSQL(Service):
    """It refuses to run as root, so there it runs as `postgres`. `settings`: of its configuration, like `fsync=off`."""

    def __init__(self, *settings):
        super().__init__("salon-postgresql-")
        self._settings = ["listen_addresses=", "fsync=off", *settings]
        self.url = f"postgresql://salon@/salon?host={self.directory}"
        self._options = {"cwd": self.directory}
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(self.directory, account.pw_uid, account.pw_gid)
            self._options |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        self._data = self.directory / "data"

    def start(self):
        new = not self._data.exists()
        if new:
            initdb = [_program("initdb"), "--pgdata", self._data, "--username", "salon", "--auth", "trust"]
            subprocess.run([*initdb, "--encoding", "UTF8"], check=True, capture_output=True, **self._options)
        command = [_program("postgres"), "-D", self._data, "-k", self.directory]
        self._run([*command, *(f"--{setting}" for setting in self._settings)], **self._options)
        ask = [_program("psql"), "--host", self.directory, "--username", "salon", "--command", "SELECT 1", "postgres"]
        wait_until(lambda: subprocess.run(ask, capture_output=True, check=False).returncode == 0, "PostgreSQL")
        if new:
            subprocess.run([_program("createdb"), "--host", self.directory, "--username", "salon", "salon"], check=True)

    def stop(self):
        # SIGTERM waits for clients to leave; SIGINT, the fast shutdown, does not.
        subprocess.run(
            [_program("pg_ctl"), "stop", "--pgdata", self._data, "--mode", "fast"],
            check=True,
            capture_output=True,
            **self._options,
        )
        super().stop()
