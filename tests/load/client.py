"""One connection of the load generator."""

import errno
import itertools
import select
import socket
import ssl

from load.frames import CLOSE, PING, PONG, TEXT, Span, walk
from load.ledger import Received
from load.wires import WIRES, Seat, control, handshake

READ_SIZE = 65536
"""Bytes that are read at once. From 128 KiB on, each read would have the allocator map and unmap memory."""

OPENING, TALKING, OPEN, GONE = range(4)


class Client:
    """A connection: it opens, joins its room, and then counts what comes."""

    __slots__ = (
        "_context",
        "_epoll",
        "_events",
        "_reason",
        "_unsent",
        "code",
        "fd",
        "received",
        "rest",
        "seat",
        "socket",
        "state",
        "wire",
    )

    def __init__(self, seat: Seat, epoll: select.epoll, context: ssl.SSLContext | None = None) -> None:
        self.seat = seat
        self.wire = WIRES[seat.wire]
        self.state = OPENING
        self.rest = b""
        self.received = Received()
        self._epoll = epoll
        self._unsent = b""
        self._reason = ""
        self.code = 0
        self._context = context
        self.socket = self._connected()
        self.fd = self.socket.fileno()
        self._events = select.EPOLLIN
        epoll.register(self.fd, self._events)
        self.send(handshake(seat))

    def _connected(self) -> socket.socket:
        raw = socket.socket()
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.seat.source != "127.0.0.1":
            # The port is chosen only when the destination is known: else each would be taken for all destinations.
            raw.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            raw.bind((self.seat.source, 0))
        raw.connect(("127.0.0.1", self.seat.port))
        if self._context:
            raw = self._context.wrap_socket(raw, server_hostname="localhost")
        raw.setblocking(False)
        return raw

    def send(self, data: bytes) -> None:
        """Send now what the kernel takes, and the rest when it takes more."""
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self.socket.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError):
            sent = 0
        except OSError as error:
            self.gone(str(error))
            return
        if sent < len(data):
            self._unsent = data[sent:]
            self._watch(select.EPOLLIN | select.EPOLLOUT)

    def flush(self) -> None:
        """The kernel takes more."""
        data, self._unsent = self._unsent, b""
        self._watch(select.EPOLLIN)
        if data:
            self.send(data)

    def _watch(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self._epoll.modify(self.fd, events)

    def read(self) -> bytes:
        """What has come, behind what was left over; empty when nothing has, or the connection has gone."""
        try:
            data = self.socket.recv(READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""
        except OSError as error:
            self.gone(errno.errorcode.get(error.errno or 0, str(error)))
            return b""
        if not data:
            self.gone("closed by the server")
            return b""
        if self._context:
            # What OpenSSL has decrypted already wakes nobody up.
            while waiting := self.socket.pending():
                data += self.socket.recv(waiting)
        return self.rest + data if self.rest else data

    def advance(self, data: bytes) -> None:
        """Go on with opening the connection."""
        if self.state == OPENING:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self.rest = head
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                raise ConnectionError(f"No WebSocket: {head.decode('latin1')[:200]}")
            self.state = TALKING
            self.send(self.wire.first(self.seat))
        spans, end = walk(data)
        self.rest = data[end:]
        for span in spans:
            if span.opcode != TEXT:
                self.answer_control(data, span)
            elif self.state == TALKING:
                reply = self.wire.answer(self.seat, data[span.start : span.end])
                if reply is None:
                    self.state = OPEN
                elif reply:
                    self.send(reply)

    def answer_control(self, data: bytes, span: Span) -> None:
        """A WebSocket ping is answered; a close ends the connection."""
        payload = data[span.start : span.end]
        if span.opcode == PING:
            self.send(control(payload, PONG))
        elif span.opcode == CLOSE:
            self.code = int.from_bytes(payload[:2], "big")
            self.gone(f"closed by the server with {self.code}")

    def gone(self, reason: str) -> None:
        """The connection is no more."""
        if self.state != GONE:
            self.state, self._reason = GONE, reason
            self._epoll.unregister(self.fd)
            self.socket.close()

    @property
    def reason(self) -> str:
        """Why it has gone."""
        return self._reason

    def close(self) -> None:
        """Take leave as a browser does: a close frame, and not another look."""
        if self.state != GONE:
            self.send(control((1000).to_bytes(2, "big"), CLOSE))
        if self.state != GONE:
            self.gone("closed by the client")


def sources(count: int) -> list[str]:
    """Addresses to connect from: each has some 28,000 ports for one destination."""
    needed = 1 + count // 20_000
    return [f"127.0.0.{number}" for number in itertools.islice(itertools.count(1), needed)]
