"""A unix socket that systemd hands over (sd_listen_fds(3)) stays as it was made, whatever the process does."""

import os
import signal
import socket
import stat
import subprocess
import sys

import pytest
from target import PROJECT

from waiting import wait_until

# systemd tells the process its own id, which is known only once it runs.
LAUNCH = 'export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=salon; exec "$0" "$@"'
SERVER = [sys.executable, "-m", "salon.server", "--endpoint", "systemd:domain=UNIX:index=0", "salon.asgi:application"]


@pytest.fixture
def listening(tmp_path):
    """A socket as systemd makes it: descriptor 3 of whatever `start` starts."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "salon.sock"))
        (tmp_path / "salon.sock").chmod(0o660)
        listener.listen()
        yield listener


def start(listener, directory):
    def hand_over():
        os.dup2(listener.fileno(), 3)

    return subprocess.Popen(
        ["/bin/sh", "-c", LAUNCH, *SERVER],
        cwd=PROJECT / "app",
        env={**os.environ, "SALON_DATA_DIR": str(directory)},
        preexec_fn=hand_over,
        close_fds=False,
    )


def healthz(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return client.recv(1024)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_it_outlives_the_process(listening, tmp_path, end):
    path = tmp_path / "salon.sock"
    for _ in range(2):
        process = start(listening, tmp_path)
        try:
            wait_until(lambda: b"200 OK" in healthz(path), "an answer")
        finally:
            process.send_signal(end)
            process.wait(30)
        assert path.is_socket()
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        # Who comes while no process runs waits in the queue, and is not refused.
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(str(path))
