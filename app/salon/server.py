"""Daphne as Salon runs it: `python -m salon.server [Daphne's options] salon.asgi:application`.

What it adds to Daphne's own command:

- it tells systemd when it is ready and when it stops (`sd_notify(3)`);
- a message over the limit is closed with 1009, and text that is not UTF-8 with 1007 (RFC 6455, 7.4.1), where Daphne
  drops the TCP connection;
- a WebSocket has no greatest age: Daphne would close it with 1000 after a day, and a client takes that for the end;
- an address that cannot be listened on is one line and exit status 1.
"""

import os
import socket
import sys
from collections.abc import Callable

from daphne.cli import CommandLineInterface as DaphneCommandLineInterface
from daphne.server import Server as DaphneServer
from django.conf import settings
from twisted.internet import reactor
from twisted.python.failure import Failure


def notify(state: str) -> None:
    """Tell the service manager a state such as `READY=1` (sd_notify(3)); without one, do nothing."""
    if not (address := os.environ.get("NOTIFY_SOCKET")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
        notifier.sendto(state.encode(), address)


class Server(DaphneServer):
    """Daphne's server with readiness, stricter frames and a clear word when it cannot listen.

    `on_ready`, where given, is called once, when connections are accepted.
    """

    def __init__(self, *args: object, on_ready: Callable[[], None] | None = None, **kwargs: object) -> None:
        super().__init__(*args, ready_callable=self._before_start, **kwargs)
        self._on_ready = on_ready

    def _before_start(self) -> None:
        self.ws_factory.setProtocolOptions(failByDrop=False)
        reactor.addSystemEventTrigger("before", "shutdown", notify, "STOPPING=1")
        reactor.callWhenRunning(self._started)

    def _started(self) -> None:
        notify("READY=1")
        if self._on_ready:
            self._on_ready()

    def listen_error(self, failure: Failure) -> None:
        sys.stderr.write(f"Cannot listen: {failure.getErrorMessage()}\n")
        self.stop()


class CommandLineInterface(DaphneCommandLineInterface):
    """Daphne's command line, with defaults that fit a chat."""

    description = "Salon's server: Daphne for a chat"
    server_class = Server

    def __init__(self) -> None:
        super().__init__()
        self.parser.set_defaults(
            verbosity=0,
            websocket_timeout=-1,
            websocket_max_message_size=settings.MAX_FRAME_SIZE,
            websocket_max_frame_size=settings.MAX_FRAME_SIZE,
        )


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "salon.settings")
    CommandLineInterface.entrypoint()
