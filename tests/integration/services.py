"""Real PostgreSQL and Redis for the tests: private instances on unix sockets, which a test can stop and start."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import ExitStack, suppress
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
    """`options`: more of its configuration, as on its command line."""

    def __init__(self, *options):
        super().__init__("salon-redis-")
        self.socket = self.directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._options = options

    def start(self):
        command = [_program("redis-server"), "--port", "0", "--unixsocket", str(self.socket), "--save", ""]
        self._run([*command, *map(str, self._options)], cwd=self.directory)
        wait_until(self.socket.exists, "Redis")


class Sentinel(Service):
    """A sentinel that watches one master on this machine, which it knows as `main`, and is quick to replace it.

    `user`: one that it lets in, beside the usual one, as in its configuration.
    """

    def __init__(self, port, master_port, user="nobody off"):
        super().__init__("salon-sentinel-")
        self.port = port
        self._master_port = master_port
        self._user = user

    def start(self):
        configuration = self.directory / "sentinel.conf"
        configuration.write_text(
            f"port {self.port}\n"
            f"user {self._user}\n"
            f"sentinel monitor main 127.0.0.1 {self._master_port} 1\n"
            "sentinel down-after-milliseconds main 300\n"
            "sentinel failover-timeout main 2000\n"
        )
        self._run([_program("redis-server"), str(configuration), "--sentinel"], cwd=self.directory)
        wait_until(lambda: socket.create_connection(("127.0.0.1", self.port)).close() is None, "the sentinel")


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

    def pause(self):
        self._signal_all(signal.SIGSTOP)

    def resume(self):
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number):
        """To the server, and to its processes, each of which answers a client."""
        server = self._process.pid
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        for process in (server, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def stop(self):
        # SIGTERM waits for clients to leave; SIGINT, the fast shutdown, does not.
        subprocess.run(
            [_program("pg_ctl"), "stop", "--pgdata", self._data, "--mode", "fast"],
            check=True,
            capture_output=True,
            **self._options,
        )
        super().stop()
