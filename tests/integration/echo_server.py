"""A server with the application of `tests/echo.py`."""

import os
import sys
from contextlib import contextmanager

from raw import get
from target import PROJECT, free_port, running

from waiting import wait_until


@contextmanager
def echo_server(directory, *options, environment=None):
    """Runs during the block; gives its port."""
    with echo_process(directory, *options, environment=environment) as (_, port):
        yield port


@contextmanager
def echo_process(directory, *options, environment=None):
    """The same; gives its process and its port."""
    port = free_port()
    command = [sys.executable, "-m", "salon.server", "echo:application", "--bind", "127.0.0.1", "--port", str(port)]
    with running(
        [*command, *options],
        directory / "server.log",
        cwd=PROJECT / "app",
        env={
            **os.environ,
            "PYTHONPATH": str(PROJECT / "tests"),
            "SALON_DATA_DIR": str(directory),
            **(environment or {}),
        },
    ) as process:
        wait_until(lambda: process.poll() is not None or get(port), "the server")
        assert process.poll() is None, (directory / "server.log").read_text()
        yield process, port
