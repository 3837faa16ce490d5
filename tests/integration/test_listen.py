"""A container's process finds its own place among those that share a directory, and serves there as systemd's would."""

import os
import signal
import stat
import subprocess
import sys

import pytest
from target import PROJECT
from test_inherited_socket import healthz

from waiting import wait_until


@pytest.fixture
def start(tmp_path):
    """Starts a process in a directory of sockets that it shares with the others of this test."""
    (directory := tmp_path / "run").mkdir()
    directory.chmod(0o2750)
    processes = []

    def start(places):
        number = len(processes) + 1
        command = [sys.executable, "-m", "salon.listen", str(directory), "--places", str(places)]
        with (tmp_path / f"log-{number}").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--known-as", str(tmp_path / f"own-{number}.sock")],
                cwd=PROJECT / "app",
                env={**os.environ, "SALON_DATA_DIR": str(tmp_path / "data")},
                stdout=log,
                stderr=log,
            )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def serves(path):
    return wait_until(lambda: b"200 OK" in healthz(path), f"{path.name} to answer")


def test_each_has_a_socket_that_only_its_group_reaches(start, tmp_path):
    for number in (1, 2):
        start(2)
        path = tmp_path / "run" / f"daphne-{number}.sock"
        serves(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert (tmp_path / f"own-{number}.sock").readlink() == path


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_place_is_free_again_however_its_process_has_ended(start, tmp_path, end):
    first = start(1)
    serves(tmp_path / "run" / "daphne-1.sock")
    second = start(1)
    wait_until(lambda: "are taken (1); waiting" in (tmp_path / "log-2").read_text(), "word of it")
    first.send_signal(end)
    assert first.wait(30) == (0 if end == signal.SIGTERM else -signal.SIGKILL)
    # The socket of the first is still there, and nobody listens.
    serves(tmp_path / "own-2.sock")
    assert second.poll() is None
    assert not (tmp_path / "run" / "daphne-2.sock").exists()


def test_no_directory_and_no_place_are_mistakes(start, tmp_path):
    assert start(0).wait(30) == 2
    assert "--places is 0; it is 1 or more: set SALON_PROCESSES." in (tmp_path / "log-1").read_text()
    (tmp_path / "run").rmdir()
    assert start(1).wait(30) == 1
    assert (tmp_path / "log-2").read_text().startswith(f"Cannot listen in {tmp_path / 'run'}: ")
