"""Becomes a server on a unix socket of a directory that several share, as systemd starts one on a host.

    python -m salon.listen /run/salon --places 2

This is for containers. The socket is `daphne-1.sock`, or the next one that no living process has, up to the number of
places; where there is none, it waits. The socket's group is the directory's, which has the set-group-ID bit, and only
who is in it may connect.
"""

import argparse
import fcntl
import os
import resource
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

SERVER = [
    *("-m", "salon.server", "--proxy-headers"),
    *("--endpoint", "systemd:domain=UNIX:index=0", "salon.asgi:application"),
]
"""The command line of the unit `daphne@.service`."""

FIRST_INHERITED = 3
"""The descriptor under which a service manager hands over the first socket (sd_listen_fds(3))."""

OUT_OF_THE_WAY = 10
"""A descriptor beyond those that are handed over."""

BACKLOG = 4096
PAUSE = 0.2
"""Seconds between two looks for a place."""


def take_place(directory: Path, places: int) -> int | None:
    """The number of a place that nobody has, which is this process's until it ends; None where there is none."""
    for number in range(1, places + 1):
        descriptor = os.open(directory / f"daphne-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            # A copy that outlives the server's start; the lock belongs to both.
            fcntl.fcntl(descriptor, fcntl.F_DUPFD, OUT_OF_THE_WAY)
            return number
        finally:
            os.close(descriptor)
    return None


def wait_for_place(directory: Path, places: int) -> int:
    """The number of a place, as soon as there is one."""
    is_told = False
    while (number := take_place(directory, places)) is None:
        if not is_told:
            sys.stderr.write(f"All places of {directory} are taken ({places}); waiting until one is free.\n")
            is_told = True
        time.sleep(PAUSE)
    return number


def listen(path: Path) -> socket.socket:
    """A socket that listens there; one that a process has left is replaced in one step."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o117)
    try:
        listener.bind(str(new))
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    new.rename(path)
    return listener


def main(arguments: Sequence[str] | None = None) -> None:
    """Does not return: the process becomes the server."""
    parser = argparse.ArgumentParser(prog="python -m salon.listen", description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path, help="where the sockets are")
    parser.add_argument("--places", type=int, default=1, help="how many processes there may be (1)")
    parser.add_argument("--known-as", type=Path, help="a link to its socket, for who asks this very process")
    options = parser.parse_args(arguments)
    if options.places < 1:
        parser.error(f"--places is {options.places}; it is 1 or more: set SALON_PROCESSES.")
    # What is written is for its group, which is nginx's, and for nobody else.
    os.umask(0o027)
    try:
        path = options.directory / f"daphne-{wait_for_place(options.directory, options.places)}.sock"
        listener = listen(path)
        if options.known_as:
            options.known_as.unlink(missing_ok=True)
            options.known_as.symlink_to(path)
    except OSError as error:
        sys.exit(f"Cannot listen in {options.directory}: {error}")
    # Each connection is a file; what an engine allows stands in the hard limit.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # It may be that one already, and would be closed.
    os.dup2(listener.fileno(), FIRST_INHERITED)
    os.set_inheritable(FIRST_INHERITED, True)
    os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "salon"}
    os.execv(sys.executable, [sys.executable, *SERVER])  # noqa: S606 (our own words) # nosec B606


if __name__ == "__main__":
    main()
