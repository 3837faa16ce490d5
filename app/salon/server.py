"""Daphne as Salon runs it: `python -m salon.server [Daphne's options] salon.asgi:application`.

What it adds to Daphne's own command:

- it tells systemd when it is ready, when it stops, and all the time that its event loop turns (`sd_notify(3)`); the
  application is told of its beginning and its end too (ASGI lifespan);
- SIGTERM and SIGINT drain it, see below;
- Twisted's reactor runs on uvloop, where this module is the program;
- WebSockets are Salon's own (`salon.websocket`): fewer instructions for each frame and handshake, less memory for each
  connection, bounds in both directions, and the close codes of RFC 6455 where Daphne drops the TCP connection;
- a request for a WebSocket that comes as a whole and is plain HTTP is read here; everything else is left to Twisted;
- of those who come together, few begin at once: Twisted takes hundreds, and who is there waits;
- a form that somebody sends is left to Django: Twisted would parse it too, in memory and on the event loop, where ten
  files of 10 MB take seconds and a gigabyte;
- a WebSocket has no greatest age: Daphne would close it with 1000 after a day, and a client takes that for the end;
- a unix socket that systemd hands over stays systemd's: Twisted would open it to everybody, and close and remove it for
  everybody when it stops, so that nothing listens while a process restarts;
- an address that cannot be listened on is one line and exit status 1.

A drain, step by step. Each has a bound, and `END_TIMEOUT` is the bound for all of them:

1. Nobody is accepted any more. Who comes to a socket that systemd keeps waits in its queue for the next process, which
   is why a drain must be short.
2. WebSockets are closed with 1012, a few at a time; those that are still open go on as before, and what a client has
   said until it answers its close is handled. A handshake is answered with 503, for nginx to give to another process.
3. Meanwhile, requests are answered, with `Connection: close`. Who has connected and asked for nothing has a moment to
   do so, and is then let go.
4. Applications have time to end; then they are cancelled.
5. The application's lifespan ends: what is being stored is stored, and told.

A second signal ends the process at once.
"""

if __name__ == "__main__":
    import gc
    import os

    # Whoever comes meanwhile waits. What is loaded now stays: to look through it for garbage would be in vain.
    gc.disable()
    # Autobahn, which Daphne loads and nobody uses here, would have a C parser made for its frames.
    os.environ.setdefault("AUTOBAHN_USE_NVX", "0")

    from salon import eventloop

    eventloop.install()

import asyncio
import faulthandler
import functools
import gc
import logging
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable

from daphne.cli import CommandLineInterface as DaphneCommandLineInterface
from daphne.http_protocol import HTTPFactory, WebRequest
from daphne.server import Server as DaphneServer
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from twisted.internet import reactor, tcp, unix
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

from salon import eventloop, handshake, measures
from salon.handshake import Head, Refusal
from salon.websocket import DRAIN_TIMEOUT, WebSockets, upgrade

logger = logging.getLogger(__name__)

ENTER_TOGETHER = 2
"""Connections that are accepted in one turn of the event loop, and that begin at once."""

ENTER_PAUSE = 0.002
"""Seconds after which as many more may begin: a process lets in a thousand a second, for which it needs two thirds of a
core, and refuses the same number for a fifth. The rest is for those who are there."""

LAST_MOMENT = 0.1
"""Seconds after which a drain lets go who has connected and asked for nothing: who connects asks at once."""

ARRIVAL_TIMEOUT = 1.0
"""Seconds after which a drain lets go whose request has not come as a whole."""

APPLICATIONS_TIMEOUT = 6.0
"""Seconds that applications have to end by themselves, once there are no WebSockets: all that they wait for has a
time-out of 5 seconds or less."""

CANCEL_TIMEOUT = 2.0
"""Seconds that they have once they are cancelled."""

LIFESPAN_TIMEOUT = 6.0
"""Seconds that the end of the application's lifespan may take."""

END_TIMEOUT = DRAIN_TIMEOUT + APPLICATIONS_TIMEOUT + CANCEL_TIMEOUT + LIFESPAN_TIMEOUT + 3.5
"""Seconds after which the process ends, whatever hangs in it; the rest is for threads and the interpreter."""


def options() -> dict[str, int]:
    """Where Salon differs from Daphne's defaults."""
    return {
        "verbosity": 0,
        "websocket_timeout": -1,
        # A client that pings by itself every 30 seconds is never pinged.
        "ping_interval": 45,
        "websocket_max_message_size": settings.MAX_FRAME_SIZE,
        "websocket_max_frame_size": settings.MAX_FRAME_SIZE,
    }


def notify(state: str) -> None:
    """Tell the service manager a state such as `READY=1` (sd_notify(3)); without one, do nothing."""
    if not (address := os.environ.get("NOTIFY_SOCKET")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
        notifier.sendto(state.encode(), address)


def watchdog_pace() -> float | None:
    """Seconds from one `WATCHDOG=1` to the next (sd_watchdog_enabled(3)); None when nobody waits for it."""
    limit, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    if not limit.isdecimal() or process not in (None, str(os.getpid())):
        return None
    return int(limit) / 3 / 1_000_000 or None


class InheritedUnixPort(unix.Port):
    """A listening unix socket that somebody else has made and keeps.

    Twisted has no public way to say so; the two private names below are those of the pinned version.
    """

    @classmethod
    def _fromListeningDescriptor(cls, reactor: object, fd: int, factory: Factory) -> "InheritedUnixPort":  # noqa: N802
        port = super()._fromListeningDescriptor(reactor, fd, factory)
        # What has no name in the file system has neither a mode to change nor a file to remove.
        port._bindPath = b"\0"
        # It would end the socket itself, and not just our hold of it.
        port._shouldShutdown = False
        return port


def adopt_unix_sockets() -> None:
    """Let the reactor take handed-over unix sockets as `InheritedUnixPort`."""
    adopt = reactor.adoptStreamPort

    def adopt_stream_port(descriptor: int, family: socket.AddressFamily, factory: Factory) -> object:
        if family != socket.AF_UNIX:
            return adopt(descriptor, family, factory)
        port = InheritedUnixPort._fromListeningDescriptor(reactor, descriptor, factory)
        port.startListening()
        return port

    reactor.adoptStreamPort = adopt_stream_port


def accept_few_at_once() -> None:
    """Let the reactor accept no more connections in one turn than begin in one.

    Twisted accepts a hundred, and each time more as long as there are more: somebody who opens thousands would stop
    everybody else. The private name is that of the pinned version.
    """
    tcp.Port.numberAccepts = property(lambda port: ENTER_TOGETHER, lambda port, number: None)


class Request(WebRequest):
    """A request that Twisted has read.

    A form is left to the application: Twisted would parse it too.
    """

    def __init__(self, *args: object, **changes: object) -> None:
        super().__init__(*args, **{**changes, "parsePOSTFormSubmission": False})

    @property
    def is_running(self) -> bool:
        """Whether it has come as a whole, and the application has been called."""
        return "application_instance" in self.server.connections.get(self, ())

    def handle_reply(self, message: dict) -> None:
        """Called by Daphne with what the application answers."""
        super().handle_reply(message)
        if self.server.is_draining and self.channel and message.get("type") == "http.response.start":
            # Nothing is written before the body.
            self.responseHeaders.setRawHeaders(b"Connection", [b"close"])
            self.channel.persistent = False

    def process(self) -> object:
        """Called by Twisted when the request, its body included, is here."""
        if handshake.asks_for_websocket(self.requestHeaders.getRawHeaders(b"upgrade", ())):
            try:
                return self._upgrade()
            except Exception:
                logger.exception("A handshake could not be handled")
                self.basic_error(500, b"Internal Server Error", "Daphne HTTP processing error")
                return None
        return super().process()

    def _upgrade(self) -> None:
        try:
            headers = handshake.gather(self.requestHeaders.getAllRawHeaders())
            head = Head(self.method, self.uri, self.clientproto, headers)
        except Refusal as refusal:
            head = refusal
        transport, self.transport = self.transport, None
        self.server.protocol_disconnected(self)
        self.server.visitors.discard(self.channel)
        self.content.close()
        connection = upgrade(self.server.websockets, transport, self.client, head)
        # Twisted is in the midst of the bytes that came; what is behind the request belongs to the WebSocket.
        asyncio.get_running_loop().call_soon(connection.begin_with, self.channel._dataBuffer)


class Entrance:
    """Lets connections begin, few at once and then a pause, so that nobody who is there waits for all who come.

    When hundreds come back at once, or somebody tries what a server bears, their requests are there at once too.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Beginning] = deque()
        self._room = ENTER_TOGETHER

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, beginning: "Beginning") -> None:
        """Let it begin now, or as soon as it is its turn."""
        if self._room == ENTER_TOGETHER:
            self._loop.call_later(ENTER_PAUSE, self._next_turn)
        if self._room and not self._waiting:
            self._room -= 1
            beginning.begin()
        else:
            beginning.transport.pauseProducing()
            self._waiting.append(beginning)

    def _next_turn(self) -> None:
        self._room = ENTER_TOGETHER
        if self._waiting:
            self._loop.call_later(ENTER_PAUSE, self._next_turn)
        while self._waiting and self._room:
            beginning = self._waiting.popleft()
            self._room -= 1
            if beginning.connected:
                beginning.transport.resumeProducing()
                beginning.begin()


class Channel(HTTPChannel):
    """HTTP/1.1 over one connection."""

    def connectionMade(self) -> None:  # noqa: N802 (Twisted's names)
        super().connectionMade()
        self.factory.server.visitors.add(self)

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802
        super().connectionLost(reason)
        self.factory.server.visitors.discard(self)

    @property
    def is_asking(self) -> bool:
        """Whether a request, or a part of it, has come and was not answered."""
        return bool(self.requests)

    @property
    def is_served(self) -> bool:
        """Whether an application is at it."""
        return any(request.is_running for request in self.requests)

    def let_go(self) -> None:
        """End the connection once what was answered is sent."""
        self.loseConnection()


class Beginning(Protocol):
    """The beginning of a connection, until it is known what comes over it.

    The first bytes make it a WebSocket, or Twisted's own to which they are passed on as if nothing had been here.
    """

    is_served = False
    """As of a `Channel`, and so `is_asking`."""

    def __init__(self, server: "Server", address: IAddress, build: Callable[[IAddress], Protocol]) -> None:
        self.due = 0
        self._server = server
        self._address = address
        self._build = build
        self._data = b""

    @property
    def is_asking(self) -> bool:
        return bool(self._data)

    def connectionMade(self) -> None:  # noqa: N802 (Twisted's names)
        self._server.visitors.add(self)
        self._server.websockets.wheel.file(self, self._server.http_factory.timeOut)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self._server.websockets.wheel.remove(self)
        if self._data:
            # What a transport still had when it was asked to pause.
            self._data += data
            return
        self._data = data
        self._server.entrance.enter(self)

    def begin(self) -> None:
        """Make of it what it is."""
        sockets, transport, data = self._server.websockets, self.transport, self._data
        if head := handshake.parse(data):
            self._server.visitors.discard(self)
            upgrade(sockets, transport, self._address, head)
            return
        protocol = self._build(self._address)
        if isinstance(transport, ProtocolWrapper):
            # A TLS transport wraps the protocol, and not the protocol a transport.
            transport.wrappedProtocol = protocol
        else:
            transport.protocol = protocol
        protocol.makeConnection(transport)
        self._server.visitors.discard(self)
        protocol.dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802
        self.connected = 0
        self._server.websockets.wheel.remove(self)
        self._server.visitors.discard(self)

    def on_due(self) -> None:
        self.transport.abortConnection()

    def let_go(self) -> None:
        """End the connection."""
        self.transport.loseConnection()


class Visitors:
    """The connections that are no WebSockets."""

    def __init__(self) -> None:
        self._all: set[Beginning | Channel] = set()
        self._on_empty: asyncio.Future[None] | None = None

    def add(self, visitor: Beginning | Channel) -> None:
        self._all.add(visitor)

    def discard(self, visitor: Beginning | Channel) -> None:
        self._all.discard(visitor)
        if not self._all and self._on_empty and not self._on_empty.done():
            self._on_empty.set_result(None)

    async def drain(self) -> None:
        """Let everybody go once what she has asked for is answered, and wait for that."""
        await self._empty(LAST_MOMENT)
        for each in list(self._all):
            if each.is_asking:
                # Its answer may have begun when nobody knew that it would be the last.
                each.persistent = False
            else:
                each.let_go()
        await self._empty(ARRIVAL_TIMEOUT - LAST_MOMENT)
        for each in list(self._all):
            if not each.is_served:
                each.let_go()
        await self._empty(DRAIN_TIMEOUT - ARRIVAL_TIMEOUT + APPLICATIONS_TIMEOUT)

    async def _empty(self, patience: float) -> None:
        """Wait until there is nobody, but not more than so many seconds."""
        if self._all:
            self._on_empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._on_empty], timeout=patience)


def look_at_the_beginning(server: "Server", factory: HTTPFactory) -> None:
    """Let each of the factory's connections begin as a `Beginning`, and those for HTTP go on as a `Channel`."""
    factory.protocol = Channel
    build_protocol = factory.buildProtocol

    def build(address: IAddress) -> Protocol:
        protocol = build_protocol(address)
        protocol.requestFactory = Request
        return protocol

    factory.buildProtocol = functools.partial(Beginning, server, build=build)


class Lifespan:
    """Tells the application of the beginning and the end of the process (ASGI lifespan, which Daphne leaves out)."""

    def __init__(self, application: Callable[..., Awaitable[None]]) -> None:
        self._application = application
        self._events: asyncio.Queue[dict] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
        self._task = asyncio.ensure_future(self._application(scope, self._events.get, self._ignore))
        self._events.put_nowait({"type": "lifespan.startup"})

    async def stop(self) -> None:
        if self._task:
            self._events.put_nowait({"type": "lifespan.shutdown"})
            await asyncio.wait([self._task], timeout=LIFESPAN_TIMEOUT)

    async def _ignore(self, message: dict) -> None:
        """The application answers that it has begun or ended; nothing waits for that."""


class Server(DaphneServer):
    """Daphne's server with the additions above.

    `on_ready`, where given, is called once, when connections are accepted.
    """

    def __init__(
        self,
        application: Callable[..., Awaitable[None]],
        *args: object,
        on_ready: Callable[[], None] | None = None,
        **changes: object,
    ) -> None:
        super().__init__(application, *args, ready_callable=self._before_start, **{**options(), **changes})
        self._on_ready = on_ready
        self._lifespan = Lifespan(application)
        self._ports: list[IListeningPort] = []
        self.visitors = Visitors()
        self.is_draining = False
        """Whether no WebSocket is begun any more, and every answer is the last one on its connection."""

    def _before_start(self) -> None:
        self.websockets = WebSockets(self, reactor._asyncioEventloop, settings.MAX_QUEUED_BYTES)
        self.entrance = Entrance(reactor._asyncioEventloop)
        measures.queues["entrance"] = lambda: len(self.entrance)
        look_at_the_beginning(self, self.http_factory)
        reactor.callWhenRunning(self._started)

    def _started(self) -> None:
        eventloop.favour()
        self._lifespan.start()
        notify("READY=1")
        if pace := watchdog_pace():
            self._feed_watchdog(pace)
        if self._on_ready:
            self._on_ready()

    def _feed_watchdog(self, pace: float) -> None:
        self.websockets.loop.call_later(pace, self._feed_watchdog, pace)
        notify("WATCHDOG=1")

    def kill_all_applications(self) -> Deferred:
        """Called by Daphne when the reactor is told to stop, which waits for it: drain, instead of what the name says.

        Daphne cancels all applications and does not wait: clients would see 1006, and the applications would be torn
        down together with the interpreter, which can crash.
        """
        return Deferred.fromFuture(asyncio.ensure_future(self._drain()))

    async def _drain(self) -> None:
        self.is_draining = True
        if self.signal_handlers:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
        try:
            notify("STOPPING=1")
            # Says where it hangs, too.
            faulthandler.dump_traceback_later(END_TIMEOUT, exit=True)
            await asyncio.gather(
                *(maybeDeferred(port.stopListening).asFuture(self.websockets.loop) for port in self._ports)
            )
            await asyncio.gather(self._drain_websockets(), self._drain_requests())
        except Exception:
            logger.exception("The server could not end as it should")
        await self._lifespan.stop()
        self.websockets.wheel.stop()

    async def _drain_websockets(self) -> None:
        await self.websockets.drain()
        await self.websockets.empty(APPLICATIONS_TIMEOUT)
        await self.websockets.cancel(CANCEL_TIMEOUT)

    async def _drain_requests(self) -> None:
        end = self.websockets.loop.time() + DRAIN_TIMEOUT + APPLICATIONS_TIMEOUT
        await self.visitors.drain()
        # Whoever asked may have gone.
        await _wait(self._running_requests(), end - self.websockets.loop.time())
        if running := self._running_requests():
            logger.warning("%d requests took too long to be answered, and were cancelled", len(running))
            for application in running:
                application.cancel()
            await _wait(running, CANCEL_TIMEOUT)

    def _running_requests(self) -> list[asyncio.Task[None]]:
        found = [details.get("application_instance") for details in self.connections.values()]
        return [application for application in found if application and not application.done()]

    def listen_success(self, port: IListeningPort) -> None:
        super().listen_success(port)
        self._ports.append(port)

    def listen_error(self, failure: Failure) -> None:
        sys.stderr.write(f"Cannot listen: {failure.getErrorMessage()}\n")
        self.stop()


async def _wait(tasks: list[asyncio.Task[None]], seconds: float) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=max(0.0, seconds))


class CommandLineInterface(DaphneCommandLineInterface):
    """Daphne's command line, with defaults that fit a chat."""

    description = "Salon's server: Daphne for a chat"
    server_class = Server

    def __init__(self) -> None:
        super().__init__()
        self.parser.set_defaults(**options())


if __name__ == "__main__":
    # A process that systemd ends because it hangs says where.
    faulthandler.enable()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "salon.settings")
    adopt_unix_sockets()
    accept_few_at_once()
    try:
        CommandLineInterface.entrypoint()
    except ImproperlyConfigured as error:
        sys.exit(f"Salon cannot start: {error}")
