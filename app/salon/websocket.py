"""WebSockets (RFC 6455) on Twisted's event loop, without Twisted on the way of a frame.

A connection begins as Twisted's and is an HTTP request; once it is to be a WebSocket, its socket is taken over and read
and written here. What differs from an ASGI server's usual ways:

- a frame is tried on the socket at once, and waits for readiness only where the kernel does not take it;
- ready-made frames can be given to many sockets (`broadcast`), which an application finds in its scope's
  `extensions["salon.direct"]["socket"]`: see `WebSocket.send_frames`, `broadcast`, `close` and `queued`;
- what waits for a client that does not read is bounded, and so is what a client sends before the application takes it;
- an idle connection has no timer, and no buffer;
- when the server ends, each is closed with 1012 (`WebSockets.drain`), and what a client has said until it answers that
  still reaches the application.
"""

import asyncio
import contextlib
import logging
import math
import random
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from daphne.utils import parse_x_forwarded_for
from twisted.internet.interfaces import IAddress, IPushProducer, ITransport
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

from chat.protocol import CloseCode
from salon import frames, handshake, measures
from salon.frames import BINARY, CLOSE, PING, TEXT, Parser, ProtocolError
from salon.handshake import Head, Refusal
from salon.logs import apart
from salon.wheel import Wheel

if TYPE_CHECKING:
    from salon.server import Server

logger = logging.getLogger(__name__)

SLOW_READER = CloseCode.SLOW_READER.value
"""The close code for a client that does not read what it is sent (RFC 6455, 7.4.2)."""

SERVICE_RESTART = CloseCode.SERVICE_RESTART.value
"""The close code for everybody when the server ends."""

READ_SIZE = 64 * 1024
"""Bytes that one read takes."""

MAX_WAITING = 64
"""Messages that wait for the application before its socket is no longer read."""

CLOSE_TIMEOUT = 5.0
"""Seconds that a peer has to answer a close frame."""

LINGER = 2.0
"""Seconds that a peer has to end the TCP connection when nothing more will be sent over it."""

MAX_DISCARDED = 64 * 1024 * 1024
"""Bytes that are read and thrown away from a peer that goes on after its end."""

IN_A_ROW = 8
"""Messages that have come together and are handled before the event loop looks after others: somebody who sends a
thousand at once is nobody whom all others wait for."""

BATCH = 64 * 1024
"""Bytes of waiting frames that are joined for one write."""

CLOSES_PER_SECOND = 500
"""How many connections a drain closes in a second, unless that took longer than `SPREAD`: who is closed comes back, and
to let somebody in takes far longer than to close."""

SPREAD = 2.0
"""Seconds over which a drain closes its connections at most."""

ANSWER_TIMEOUT = 1.0
"""Seconds that a peer has to answer the close frame of a drain: phones that have vanished are in every crowd, and all
who want to come back wait for this process meanwhile."""

DRAIN_TIMEOUT = 2.5
"""Seconds after which a drain has no connections left, however many there were."""

REFUSALS = {500: "failed", 503: "restarting"}
"""What the statuses are called in `measures.handshakes`, where they are no client's mistake. Who refuses with 403
counts that: it knows why."""

CONNECTING, DENYING, OPEN, LEAVING, CLOSING, ENDING, FLUSHING, CLOSED = range(8)
"""States: the application has not answered; answers with HTTP; frames go both ways; a close frame is sent and what the
peer says still counts; a close frame is sent and only its answer is waited for; all that is left is to send what waits
and to see the peer end; the same, the peer has ended; gone.
"""

ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER that makes `close` forget what the kernel has not sent yet."""


class WebSockets:
    """The WebSockets of one server, and what they have in common."""

    def __init__(self, server: "Server", loop: asyncio.AbstractEventLoop, max_queued_bytes: int) -> None:
        self.server = server
        self.loop = loop
        self.wheel = Wheel(loop)
        self.all: set[WebSocket] = set()
        """Those that are not gone, and those whose application has not ended."""
        self.max_queued_bytes = max_queued_bytes
        self.max_message = server.websocket_max_message_size
        self.max_frame = server.websocket_max_frame_size
        limit = min(self.max_message or math.inf, self.max_frame or math.inf)
        self.max_waiting_bytes = 2 * limit
        self.max_small = int(min(65535, limit))
        """Bytes of a text frame that is within all limits, and whose length is written in two bytes."""
        measures.queued_bytes.append(lambda: sum(each.queued for each in self.all))
        self._on_empty: asyncio.Future[None] | None = None

    async def drain(self) -> None:
        """Close every connection with 1012, spread in time and in no order, and see them go; drop who does not.

        Ends after `DRAIN_TIMEOUT` seconds at the latest. Applications may run on.
        """
        begun = self.loop.time()
        leaving = list(self.all)
        random.shuffle(leaving)
        rate = closing_rate(len(leaving))
        for number, each in enumerate(leaving):
            if (wait := begun + number / rate - self.loop.time()) > 0:
                await asyncio.sleep(wait)
            each.leave()
        await self.empty(min(ANSWER_TIMEOUT, begun + DRAIN_TIMEOUT - self.loop.time()))
        for each in list(self.all):
            each.drop()

    async def empty(self, patience: float) -> None:
        """Wait until nobody is connected and all applications have ended, but not more than so many seconds."""
        if self.all:
            self._on_empty = self.loop.create_future()
            await asyncio.wait([self._on_empty], timeout=patience)

    async def cancel(self, patience: float) -> None:
        """Cancel the applications that still run, and wait for them so many seconds."""
        if running := {each.task for each in self.all if each.task}:
            logger.warning("%d applications of WebSockets took too long to end, and were cancelled", len(running))
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=patience)

    def forget(self, gone: "WebSocket") -> None:
        """It is gone, and its application has ended."""
        self.wheel.remove(gone)
        self.all.discard(gone)
        if not self.all and self._on_empty and not self._on_empty.done():
            self._on_empty.set_result(None)


def closing_rate(count: int) -> float:
    """How many of so many connections a drain closes in a second."""
    return max(CLOSES_PER_SECOND, count / SPREAD)


def upgrade(sockets: WebSockets, transport: ITransport, peer: IAddress, head: Head | Refusal) -> "WebSocket":
    """Make a WebSocket of a connection that Twisted has had until now, and answer its request.

    A refusal is answered in its place.
    """
    local = transport.getHost()
    has_address = hasattr(peer, "host") and hasattr(peer, "port")
    client = [str(peer.host), peer.port] if has_address else None
    # A TLS transport encrypts, and one with something left to send must send it first: those stay between.
    is_plain = isinstance(transport, Connection) and not transport.TLS
    if is_plain and not transport.dataBuffer and not transport._tempDataBuffer:
        connection = WebSocket(sockets, _take_over(transport), client)
    else:
        connection = TransportWebSocket(sockets, TransportSocket(transport), client)
    try:
        if sockets.server.is_draining:
            raise _restarting()
        if isinstance(head, Refusal):
            raise head
        connection.start(handshake.read(head), [str(local.host), local.port] if has_address else None)
    except Refusal as refusal:
        connection.refuse(refusal.status, refusal.sentence, refusal.headers)
    return connection


def _restarting() -> Refusal:
    """What a handshake is answered with that comes too late: a proxy can give it to another process unnoticed.

    To let somebody in who is closed a moment later would cost her more: she would have to join her rooms twice.
    """
    return Refusal(503, "The server is being restarted; come back in a moment", [(b"Retry-After", b"1")])


def _take_over(transport: Connection) -> socket.socket:
    """The transport's socket; the transport itself has no part in the connection any more."""
    transport.stopReading()
    own = transport.getHandle()
    # Whoever still holds it shall find that it does nothing.
    transport.connected = 0
    transport.protocol = None
    if own.family != socket.AF_UNIX:
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return own


class WebSocket:
    """One connection: its handshake, its frames, its end, and the application that speaks over it."""

    __slots__ = (
        "_accept",
        "_close_code",
        "_discarded",
        "_fd",
        "_heard",
        "_in_a_row",
        "_inbox",
        "_inbox_size",
        "_is_paused",
        "_is_torn",
        "_opened",
        "_parser",
        "_pinged",
        "_queue",
        "_reason",
        "_sockets",
        "_state",
        "_waiter",
        "client",
        "direct",
        "due",
        "path",
        "queued",
        "socket",
        "task",
    )

    def __init__(self, sockets: WebSockets, own: socket.socket, client: list | None) -> None:
        self._sockets = sockets
        self.socket = own
        self._fd = own.fileno()
        self.client = client
        self.path = ""
        self.task: asyncio.Task[None] | None = None
        """The application, until it has ended."""
        self.direct: Callable[[bytes], int] | None = None
        """`send` of the socket, as long as nothing stands in a frame's way to it."""
        self.queued = 0
        """Bytes that the kernel has not taken yet."""
        self.due = 0
        self._state = CONNECTING
        self._accept = b""
        self._parser: Parser | None = None
        self._queue: deque[bytes | memoryview] | None = None
        self._is_torn = False
        """Whether the first of the queue is the rest of something that was sent in part."""
        self._inbox: list[dict] = []
        self._inbox_size = 0
        self._in_a_row = 0
        """Messages that the application has taken without a wait in between."""
        self._is_paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._close_code = 0
        """What the application is told of the end; 0 as long as there is none."""
        self._reason = ""
        self._heard = self._opened = sockets.wheel.now
        self._pinged = 0
        self._discarded = 0

    def __repr__(self) -> str:
        return f"<WebSocket client={self.client!r} path={self.path!r}>"

    # The handshake

    def start(self, request: handshake.Handshake, local: list | None) -> None:
        """Run the application for this connection."""
        sockets = self._sockets
        server = sockets.server
        if server.proxy_forwarded_address_header:
            self.client, _ = parse_x_forwarded_for(
                dict(request.headers),
                server.proxy_forwarded_address_header,
                server.proxy_forwarded_port_header,
                server.proxy_forwarded_proto_header,
                self.client,
            )
        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            **handshake.scope(request, server.root_path),
            "client": self.client,
            "server": local,
            "extensions": {"websocket.http.response": {}, "salon.direct": {"socket": self}},
        }
        self.path = scope["path"]
        self._accept = request.accept
        sockets.all.add(self)
        sockets.wheel.file(self, server.websocket_connect_timeout)
        self._inbox.append({"type": "websocket.connect"})
        self._start_reading()
        self._log("connecting")
        try:
            application = server.application(scope=scope, receive=self.receive, send=self.send)
            self.task = asyncio.ensure_future(application, loop=sockets.loop)
        except Exception:
            logger.exception("The application could not be called")
            self.refuse(500, "Internal server error")
            return
        self.task.add_done_callback(self._application_ended)

    def refuse(self, status: int, sentence: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer the request with an HTTP error, and end the connection."""
        if status != 403:
            measures.handshakes[REFUSALS.get(status, "malformed")] += 1
        body = sentence.encode() + b"\n"
        answer = [
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"Content-Length", b"%d" % len(body)),
            (b"Connection", b"close"),
            *self._server_header(),
            *headers,
        ]
        if status == 426:
            answer.append((b"Upgrade", b"websocket"))
        self._sockets.all.add(self)
        self._write(handshake.response(status, answer) + body)
        self._rejected()

    def _rejected(self) -> None:
        if self._state not in (CONNECTING, DENYING):
            return
        self._state = ENDING
        self._tell(frames.ABNORMAL)
        self._log("rejected")
        self._end()

    def _accepted(self, message: dict) -> None:
        headers = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Accept", self._accept)]
        if (subprotocol := message.get("subprotocol")) is not None:
            headers.append((b"Sec-WebSocket-Protocol", subprotocol.encode("ascii")))
        headers += self._server_header()
        answer = handshake.response(101, [*headers, *message.get("headers", ())])
        self._accept = b""
        self._write(answer)
        if self._state is not CONNECTING:
            return
        # Only now: no frame comes before the answer.
        self._state = OPEN
        if self._queue is None:
            self.direct = self.socket.send
        self._opened = self._heard = self._sockets.wheel.now
        self._wait_for_silence(0)
        self._log("connected")
        if self._parser:
            self._take_messages()
        self._read_on()

    def _deny(self, message: dict) -> None:
        """The extension `websocket.http.response`: the application refuses with an answer of its own."""
        if message["type"] == "websocket.http.response.start":
            if self._state is DENYING:
                raise RuntimeError("An HTTP response has one start")
            headers = [*message.get("headers", ()), (b"Connection", b"close")]
            if not any(name.lower() == b"server" for name, _ in headers):
                headers += self._server_header()
            self._write(handshake.response(message["status"], headers))
            self._state = max(self._state, DENYING)
            return
        if self._state is not DENYING:
            raise RuntimeError("The body of an HTTP response comes after its start")
        if body := message.get("body", b""):
            self._write(body)
        if not message.get("more_body", False):
            self._rejected()

    def _server_header(self) -> handshake.Headers:
        name = self._sockets.server.server_name
        return [(b"Server", name.encode())] if name else []

    # The application's side

    async def receive(self) -> dict:
        """The next ASGI event; `websocket.disconnect` again and again after the end."""
        inbox = self._inbox
        self._in_a_row += 1
        if inbox and self._in_a_row > IN_A_ROW:
            self._in_a_row = 0
            await asyncio.sleep(0)
        while not inbox:
            self._in_a_row = 0
            if self._close_code:
                return {"type": "websocket.disconnect", "code": self._close_code, "reason": self._reason}
            waiter = self._waiter
            if waiter is None:
                waiter = self._waiter = self._sockets.loop.create_future()
            try:
                await waiter
            finally:
                self._waiter = None
        message = inbox.pop(0)
        if "text" in message:
            self._inbox_size -= len(message["text"])
        elif "bytes" in message:
            self._inbox_size -= len(message["bytes"])
        if self._is_paused:
            self._read_on()
        return message

    async def send(self, message: dict) -> None:
        """Do what an ASGI event says; nothing once the connection is closing.

        Raises `ValueError` for an event that makes no sense, `RuntimeError` for one that makes none now.
        """
        kind = message["type"]
        if kind == "websocket.send":
            self._send_message(message)
        elif self._state >= CLOSING:
            pass
        elif kind == "websocket.close":
            code = message.get("code")
            self.close(frames.NORMAL if code is None else code, message.get("reason") or "")
        elif self._state in (OPEN, LEAVING):
            raise RuntimeError(f"{kind} comes before the connection is accepted")
        elif kind == "websocket.accept":
            if self._state is DENYING:
                raise RuntimeError("The connection is being refused")
            self._accepted(message)
        elif kind in ("websocket.http.response.start", "websocket.http.response.body"):
            self._deny(message)
        else:
            raise ValueError(f"{kind} is not something that is sent")

    def _send_message(self, message: dict) -> None:
        if self._state < OPEN:
            raise RuntimeError("A message comes after the connection is accepted")
        text, data = message.get("text"), message.get("bytes")
        if text is not None and not data:
            self.send_frames(frames.text(text.encode()))
        elif data is not None and text is None:
            self.send_frames(frames.binary(bytes(data)))
        else:
            raise ValueError("A message has either a text or bytes")

    def send_frames(self, data: bytes) -> None:
        """Send ready-made frames (`salon.frames`), in order with everything else.

        Does nothing before the connection is accepted, and once it is closing. Never raises for what the peer does.
        """
        if self._state is OPEN and data:
            self._write(data)

    def close(self, code: int = frames.NORMAL, reason: str = "") -> None:
        """Close with this code (RFC 6455, 7.4) once all that was given before is sent; a reason has 123 bytes at most.

        Before the connection is accepted, its request is answered with 403. Once it is closing, nothing happens.
        Raises `ValueError` for a code that may not be sent.
        """
        frame = frames.close(code, reason)
        if self._state is CONNECTING:
            self.refuse(403, "Access denied")
        elif self._state is DENYING:
            self._rejected()
        elif self._state is OPEN:
            self._state = CLOSING
            self.direct = None
            self._write(frame)
            self._tell(code, reason)
            self._wait_for_answer()
        elif self._state is LEAVING:
            # A close frame is on its way already.
            self._state = CLOSING
            self._tell(SERVICE_RESTART)
            self._wait_for_answer()

    def leave(self) -> None:
        """Close with 1012; what the peer says until it answers still reaches the application, and then the end.

        A request that the application has not answered yet is refused with 503.
        """
        if self._state is CONNECTING:
            refusal = _restarting()
            self.refuse(refusal.status, refusal.sentence, refusal.headers)
        elif self._state is OPEN:
            self.direct = None
            self._state = LEAVING
            self._write(frames.close(SERVICE_RESTART))
            if self._state is LEAVING:
                self._sockets.wheel.file(self, CLOSE_TIMEOUT)

    def _wait_for_answer(self) -> None:
        """Whatever else the peer says is passed over."""
        if self._state is not CLOSING:
            return
        if self._parser is None:
            self._parser = Parser()
        self._parser.skip()
        self._sockets.wheel.file(self, CLOSE_TIMEOUT)
        if self._parser.waiting:
            # The peer may have closed already, behind messages that the application had no room for.
            self._sockets.loop.call_soon(self._take_messages)
        self._start_reading()

    def _application_ended(self, task: asyncio.Task[None]) -> None:
        self.task = None
        if task.cancelled():
            error, code = None, frames.INTERNAL
        elif error := task.exception():
            if isinstance(error, KeyboardInterrupt):
                # It wants the server to end.
                self._sockets.server.stop()
                return
            code = frames.INTERNAL
            logger.error("The application of a WebSocket has failed", exc_info=error, extra=apart("connection.failed"))
        else:
            code = frames.NORMAL
        if self._state is CLOSED:
            self._sockets.forget(self)
        elif self._state is CONNECTING:
            self.refuse(500, "Internal server error")
        elif self._state is DENYING:
            self._rejected()
        else:
            self.close(code)

    def _deliver(self, message: dict, size: int) -> None:
        inbox = self._inbox
        inbox.append(message)
        self._inbox_size += size
        message["at"] = time.time()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if len(inbox) >= MAX_WAITING or self._inbox_size > self._sockets.max_waiting_bytes:
            # The kernel's buffer fills, and then the client waits.
            self._is_paused = True
            self._stop_reading()

    def _read_on(self) -> None:
        """Read again, once the application has made room."""
        while self._is_paused and self._state in (OPEN, LEAVING):
            if len(self._inbox) > MAX_WAITING // 2 or self._inbox_size > self._sockets.max_waiting_bytes // 2:
                return
            self._is_paused = False
            if self._parser:
                self._take_messages()
        if not self._is_paused and self._state in (OPEN, LEAVING):
            self._start_reading()

    def _tell(self, code: int, reason: str = "") -> None:
        """Tell the application that there is an end; the first is the one that counts."""
        if self._close_code:
            return
        self._close_code = code
        self._reason = reason
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What comes

    def _readable(self) -> None:
        try:
            data = self.socket.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.drop()
            return
        if data:
            self.data_received(data)
        else:
            self.end_received()

    def data_received(self, data: bytes) -> None:
        self._heard = self._sockets.wheel.now
        if self._state is OPEN and self._parser is None:
            # Nearly always.
            if (payload := frames.whole_text(data, self._sockets.max_small)) is not None:
                try:
                    text = payload.decode()
                except UnicodeDecodeError:
                    self._fail(frames.NOT_UTF8, "text that is not UTF-8")
                    return
                self._deliver({"type": "websocket.receive", "text": text}, len(text))
                return
        elif self._state >= CLOSING:
            self._discarded += len(data)
            if self._discarded > MAX_DISCARDED:
                self.drop()
                return
            if self._state is not CLOSING:
                return
        parser = self._parser
        if parser is None:
            parser = self._parser = Parser(self._sockets.max_message, self._sockets.max_frame)
        parser.feed(data)
        if self._state >= OPEN:
            self._take_messages()
        elif parser.waiting > READ_SIZE:
            # A client that does not wait for the answer to its request.
            self._is_paused = True
            self._stop_reading()

    def _take_messages(self) -> None:
        """Deal with what the parser has, as far as the application has room for it."""
        if (parser := self._parser) is None:
            return
        while OPEN <= self._state <= CLOSING and not (self._is_paused and self._state is not CLOSING):
            try:
                if (found := parser.next()) is None:
                    if self._state is OPEN and parser.is_idle:
                        self._parser = None
                    return
                self._handle(*found)
            except ProtocolError as error:
                self._fail(error.code, error.reason)

    def _take_the_rest(self) -> None:
        """Nothing more will come: what has come reaches the application, whether it has room for it or not."""
        while self._is_paused and self._parser and self._parser.waiting:
            self._is_paused = False
            self._take_messages()

    def _handle(self, opcode: int, payload: str | bytes) -> None:
        if opcode == CLOSE:
            self._close_received(payload)
        elif self._state is CLOSING:
            pass
        elif opcode == TEXT:
            self._deliver({"type": "websocket.receive", "text": payload}, len(payload))
        elif opcode == BINARY:
            self._deliver({"type": "websocket.receive", "bytes": payload}, len(payload))
        elif opcode == PING and self._state is OPEN:
            self._write(frames.pong(payload))

    def _close_received(self, payload: bytes) -> None:
        code, reason = frames.read_close(payload)
        if self._state is OPEN:
            self.direct = None
            self._state = ENDING
            self._write(frames.close(code))
            self._tell(code, reason)
        elif self._state is LEAVING:
            self._tell(SERVICE_RESTART)
        self._end()

    def _fail(self, code: int, reason: str) -> None:
        """The peer has broken the protocol (section 7.1.7)."""
        self.close(code, reason)
        if code == frames.PROTOCOL_ERROR and self._state is CLOSING:
            # Nobody knows where its next frame begins: there is no close frame to wait for.
            self._end()

    def end_received(self) -> None:
        """The peer will send nothing more."""
        if self._state is LEAVING:
            self._tell(SERVICE_RESTART)
        if LEAVING <= self._state <= ENDING and self._queue is not None:
            self._state = FLUSHING
            self._stop_reading()
            return
        self.drop()

    def begin_with(self, chunks: list[bytes]) -> None:
        """What another parser has read beyond the request."""
        if chunks and self._state is not CLOSED:
            self.data_received(b"".join(chunks))

    # What goes

    def _write(self, data: bytes) -> None:
        if self._queue is not None:
            self._enqueue(data)
            return
        try:
            sent = self.socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.broken()
            return
        if sent != len(data):
            self._enqueue(data, sent)

    def _enqueue(self, data: bytes, sent: int = 0) -> None:
        """Let what is not `sent` wait until the kernel takes it."""
        if self._state is CLOSED:
            return
        if self._queue is None:
            self._queue = deque()
            self.direct = None
            self._is_torn = sent > 0
            self._start_writing()
        self._queue.append(memoryview(data)[sent:] if sent else data)
        # What is given at once may be more than that, as a long history is: it has had no time to be read.
        is_too_much = self.queued > self._sockets.max_queued_bytes
        self.queued += len(data) - sent
        if is_too_much and self._state is OPEN:
            self._too_slow()

    def _too_slow(self) -> None:
        measures.counts.slow_readers += 1
        logger.warning(
            "A WebSocket was closed with %d: %d bytes waited to be read by it",
            SLOW_READER,
            self.queued,
            extra=apart("connection.slow"),
        )
        rest = self._queue[0] if self._is_torn else b""
        self._queue.clear()
        if rest:
            self._queue.append(rest)
        self.queued = len(rest)
        # What she has asked for meanwhile she would not read either. What she has said she says again (`client_id`).
        self._inbox.clear()
        self._inbox_size = 0
        self.close(SLOW_READER, "what you are sent is not read")

    def _writable(self) -> None:
        queue = self._queue
        try:
            while queue:
                batch = self._next_batch()
                sent = self.socket.send(batch)
                self.queued -= sent
                if sent < len(batch):
                    queue.appendleft(memoryview(batch)[sent:])
                    self._is_torn = True
                    return
                self._is_torn = False
        except (BlockingIOError, InterruptedError):
            queue.appendleft(batch)
            return
        except OSError:
            self.broken()
            return
        self._queue = None
        self._stop_writing()
        if self._state is OPEN:
            self.direct = self.socket.send
        elif self._state is ENDING:
            self._shut()
        elif self._state is FLUSHING:
            self.drop()

    def _next_batch(self) -> bytes | memoryview:
        """The first of the queue, with as many behind it as make one write worth while."""
        queue = self._queue
        first = queue.popleft()
        size = len(first)
        if not queue or size >= BATCH:
            return first
        batch = [first]
        while queue and size + len(queue[0]) <= BATCH:
            size += len(queue[0])
            batch.append(queue.popleft())
        return b"".join(batch)

    def broken(self) -> None:
        """A write has failed. Whoever wrote is in the midst of something: the connection goes a moment later."""
        self.direct = None
        if self._state < ENDING:
            self._state = ENDING
        self._sockets.loop.call_soon(self.drop)

    # The end

    def _end(self) -> None:
        """Nothing more will be sent than what waits."""
        self._state = ENDING
        self._parser = None
        self._sockets.wheel.file(self, CLOSE_TIMEOUT if self._queue else LINGER)
        if self._queue is None:
            self._shut()

    def _shut(self) -> None:
        """Tell the peer that all is sent.

        What it still sends is read until it ends too: to close with something unread would reset the connection, and
        the peer could lose what it was sent last.
        """
        self._sockets.wheel.file(self, LINGER)
        self._start_reading()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def drop(self, *, abort: bool = False) -> None:
        """End the TCP connection now; `abort`: and forget what the kernel still has to send."""
        if self._state is CLOSED:
            return
        if self._state is LEAVING:
            self._take_the_rest()
        was_open = self._state >= OPEN
        code = SERVICE_RESTART if self._state is LEAVING else frames.ABNORMAL
        self._state = CLOSED
        self.direct = self._parser = self._queue = None
        self.queued = 0
        self._stop_reading()
        self._stop_writing()
        if abort:
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        self.socket.close()
        self._tell(code)
        if was_open:
            self._log("disconnected")
        if self.task:
            self._sockets.wheel.file(self, self._sockets.server.application_close_timeout)
        else:
            self._sockets.forget(self)

    # Deadlines

    def on_due(self) -> None:
        if self._state is OPEN:
            self._look_for_life()
        elif self._state in (CONNECTING, DENYING):
            measures.handshakes["late"] += 1
            logger.warning("The application did not answer a handshake in time", extra=apart("handshake.late"))
            self.close()
        elif self._state is CLOSED:
            if self.task:
                logger.warning(
                    "The application of a WebSocket took too long to end, and was cancelled",
                    extra=apart("connection.hung"),
                )
                self.task.cancel()
        elif self._state in (LEAVING, CLOSING) and self._queue is None:
            self._tell(SERVICE_RESTART)
            self._end()
        else:
            self.drop(abort=self._queue is not None)

    def _look_for_life(self) -> None:
        server, now = self._sockets.server, self._sockets.wheel.now
        if 0 <= server.websocket_timeout <= now - self._opened:
            self.close(frames.NORMAL)
            return
        if self._is_paused:
            # It is the application that is slow: the peer's signs of life are not read.
            self._heard = now
        if self._pinged and self._heard < self._pinged and server.ping_timeout:
            self.drop(abort=True)
            return
        self._pinged = 0
        silence = now - self._heard
        if server.ping_interval and silence >= server.ping_interval:
            self._pinged = now
            self._write(frames.ping())
            if self._state is OPEN:
                self._sockets.wheel.file(self, server.ping_timeout or server.ping_interval)
            return
        self._wait_for_silence(silence)

    def _wait_for_silence(self, silence: int) -> None:
        server = self._sockets.server
        waits = [server.ping_interval - silence] if server.ping_interval else []
        if server.websocket_timeout >= 0:
            waits.append(self._opened + server.websocket_timeout - self._sockets.wheel.now)
        if waits:
            self._sockets.wheel.file(self, max(0, min(waits)))
        else:
            self._sockets.wheel.remove(self)

    def _log(self, action: str) -> None:
        server = self._sockets.server
        if server.action_logger:
            client = "{}:{}".format(*self.client) if self.client else None
            server.log_action("websocket", action, {"path": self.path, "client": client})

    # The event loop

    def _start_reading(self) -> None:
        try:
            self._sockets.loop.add_reader(self._fd, self._readable)
        except RuntimeError:
            # uvloop watches no more where an error came, though what was read last was still what the peer had said.
            self.broken()

    def _stop_reading(self) -> None:
        self._sockets.loop.remove_reader(self._fd)

    def _start_writing(self) -> None:
        self._sockets.loop.add_writer(self._fd, self._writable)

    def _stop_writing(self) -> None:
        self._sockets.loop.remove_writer(self._fd)


def broadcast(sockets: Iterable[WebSocket], data: bytes) -> None:
    """Give the same ready-made frames to each socket: `send_frames` for many, with what is common done once.

    What happens to one does not touch the others, and nothing of the application runs meanwhile: it is safe to give the
    application's own collection.
    """
    size = len(data)
    for each in sockets:
        direct = each.direct
        if direct is None:
            each.send_frames(data)
            continue
        try:
            sent = direct(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            each.broken()
            continue
        if sent != size:
            each._enqueue(data, sent)


WebSocket.broadcast = staticmethod(broadcast)


@implementer(IPushProducer)
class TransportSocket(Protocol):
    """As much of a socket as a `WebSocket` needs, on a Twisted transport that is more than one (TLS)."""

    def __init__(self, transport: ITransport) -> None:
        self._is_full = False
        self._is_over = False
        self.owner: TransportWebSocket | None = None
        transport.unregisterProducer()
        if isinstance(transport, ProtocolWrapper):
            transport.wrappedProtocol = self
        else:
            transport.protocol = self
        self.makeConnection(transport)
        transport.registerProducer(self, True)

    def fileno(self) -> int:
        return -1

    def send(self, data: bytes | memoryview) -> int:
        if self._is_over:
            raise BrokenPipeError
        if self._is_full:
            raise BlockingIOError
        self.transport.write(bytes(data))
        return len(data)

    def shutdown(self, how: int) -> None:
        self.close()

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        """There is one that is set: the end without regard for what waits."""
        self._is_over = True
        self.transport.abortConnection()

    def close(self) -> None:
        if not self._is_over:
            self._is_over = True
            # It would wait for ever for more from a registered producer.
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 (Twisted's names)
        self.owner.data_received(data)

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802
        self._is_over = True
        self.owner.drop()

    def pauseProducing(self) -> None:  # noqa: N802
        self._is_full = True

    def resumeProducing(self) -> None:  # noqa: N802
        self._is_full = False
        self.owner.resume()

    def stopProducing(self) -> None:  # noqa: N802
        self._is_full = True


class TransportWebSocket(WebSocket):
    """A WebSocket whose bytes go through a Twisted transport both ways."""

    __slots__ = ()

    def __init__(self, sockets: WebSockets, own: TransportSocket, client: list | None) -> None:
        super().__init__(sockets, own, client)
        own.owner = self

    def resume(self) -> None:
        if self._queue is not None:
            self._writable()

    def _start_reading(self) -> None:
        self.socket.transport.resumeProducing()

    def _stop_reading(self) -> None:
        self.socket.transport.pauseProducing()

    def _start_writing(self) -> None:
        """The transport says by itself when it takes more."""

    _stop_writing = _start_writing
