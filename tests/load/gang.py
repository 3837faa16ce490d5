"""The process of those who do what no client should: so many, for so long, and each kind in its own way."""

import multiprocessing
import re
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import ClassVar

from load.frames import CLOSE, PING, TEXT, masked, walk
from load.generator import prepare
from load.wires import WIRES, Seat, control, handshake

LONGEST = 60.0
"""Seconds after which they stop by themselves, whoever forgot to stop them."""

READ_SIZE = 65536
TINY_BUFFER = 1
"""Bytes of a receive buffer: the kernel makes the least of it that it allows."""

AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER of who drops a connection: nothing of it is left, no port either that somebody waits for."""

CONNECTING, ASKING, OPEN, GONE = range(4)
_MASK = b"\x37\xfa\x21\x3d"


@dataclass
class Outcome:
    """What they did, and what they got for it. `busy`: the share of a core that the process used."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    busy: float = 0.0


class Line:
    """One connection of theirs. What it says when, its `Gang` knows."""

    __slots__ = ("code", "fd", "gang", "rest", "seat", "socket", "state", "unsent")

    def __init__(self, gang: "Gang", seat: Seat, *, receive_buffer: int = 0) -> None:
        self.gang = gang
        self.seat = seat
        self.state = CONNECTING
        self.rest = b""
        self.unsent = b""
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect_ex(("127.0.0.1", seat.port))
        self.fd = self.socket.fileno()
        gang.epoll.register(self.fd, select.EPOLLIN | select.EPOLLOUT)
        gang.lines[self.fd] = self

    def watch(self, events: int) -> None:
        """Have the gang's epoll look for these."""
        self.gang.epoll.modify(self.fd, events)

    def send(self, data: bytes) -> None:
        """Send now what the kernel takes, and the rest when it takes more."""
        if self.unsent:
            self.unsent += data
            return
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.gone("reset")
            return
        if sent < len(data):
            self.unsent = data[sent:]
            self.watch(select.EPOLLIN | select.EPOLLOUT)

    def handle(self, events: int) -> None:
        """What epoll has told."""
        if events & select.EPOLLOUT:
            self._writable()
        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and self.state != GONE:
            self._readable()

    def _writable(self) -> None:
        data, self.unsent = self.unsent, b""
        self.watch(select.EPOLLIN)
        if self.state == CONNECTING:
            if self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.gone("not let in")
                return
            self.state = ASKING
            self.gang.connected(self)
        elif data:
            self.send(data)

    def _readable(self) -> None:
        try:
            data = self.socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            self.gone("reset")
            return
        if not data:
            self.gone("closed without a code")
            return
        data = self.rest + data
        if self.state == ASKING:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self.rest = head
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self.gone(f"answered with {head.split(b' ')[1].decode()}")
                return
            self.state = OPEN
            self.gang.opened(self)
        self._take(data)

    def _take(self, data: bytes) -> None:
        spans, end = walk(data)
        self.rest = data[end:]
        for span in spans:
            if self.state == GONE:
                return
            if span.opcode == TEXT:
                self.gang.heard(self, data[span.start : span.end])
            elif span.opcode == CLOSE:
                self.gone(f"closed with {int.from_bytes(data[span.start : span.start + 2], 'big')}")

    def gone(self, reason: str) -> None:
        """The server has ended it: it counts, and the gang may want another."""
        if self.state != GONE:
            self.end()
            self.gang.counts[reason] += 1
            self.gang.lost(self)

    def end(self) -> None:
        """End it without a word."""
        if self.state != GONE:
            self.state = GONE
            self.gang.epoll.unregister(self.fd)
            del self.gang.lines[self.fd]
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            self.socket.close()


class Gang:
    """Some of one kind, from `begin` to `end`.

    As it stands, it connects for each seat, asks for a WebSocket, joins, reads, and comes back at once when it is put
    out.
    """

    receive_buffer = 0

    def __init__(self, seats: Sequence[Seat]) -> None:
        self.seats = seats
        self.epoll = select.epoll()
        self.lines: dict[int, Line] = {}
        self.counts: Counter[str] = Counter()
        self._again: list[Seat] = []
        self._began = self._used = 0.0

    def begin(self) -> None:
        self._began, self._used = time.monotonic(), time.process_time()
        for seat in self.seats:
            self.come(seat)

    def come(self, seat: Seat) -> Line:
        self.counts["came"] += 1
        return Line(self, seat, receive_buffer=self.receive_buffer)

    def turn(self) -> None:
        """Handle what has come, and do what is due. It takes a millisecond or so."""
        # All that are put out at once come back at once, and none of them before the others were heard.
        again, self._again = self._again, []
        for seat in again:
            self.come(seat)
        self.act(time.monotonic() - self._began)
        for fd, events in self.epoll.poll(0.001, 4096):
            if line := self.lines.get(fd):
                line.handle(events)

    def end(self) -> Outcome:
        seconds, busy = time.monotonic() - self._began, time.process_time() - self._used
        self.counts["stayed"] += len(self.lines)
        for line in list(self.lines.values()):
            line.end()
        self.epoll.close()
        return Outcome(self.counts, seconds, busy / seconds)

    def connected(self, line: Line) -> None:
        """There is a TCP connection."""
        line.send(handshake(line.seat))

    def opened(self, line: Line) -> None:
        """There is a WebSocket."""
        line.send(WIRES[line.seat.wire].first(line.seat))

    def act(self, passed: float) -> None:
        """Do what is due so many seconds after the beginning."""

    def heard(self, line: Line, text: bytes) -> None:
        """A text has come: what answers the ping behind the join says that she is in her room."""
        if b'"pong"' in text:
            self.counts["joined"] += 1

    def lost(self, line: Line) -> None:
        """The server has put her out, or never let her in."""
        self._again.append(line.seat)


class Deaf(Gang):
    """They never read. They join; and the first of them asks again and again for what her room has to tell."""

    receive_buffer = TINY_BUFFER
    ask_every = 0.05
    last_words = 0.5
    """Seconds in which they read at the end, to learn what they were closed with."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        super().__init__(seats)
        self._asked = 0.0

    def connected(self, line: Line) -> None:
        super().connected(line)
        self._ask(line)
        # Not even an end is looked at, other than that everything is over.
        line.watch(0)

    def _ask(self, line: Line) -> None:
        wish = b'{"type":"join_room","data":{"room_id":%d,"history":500}}' % line.seat.room_id
        line.send(masked(wish, _MASK))
        if line.state != GONE:
            line.watch(0)

    def act(self, passed: float) -> None:
        if passed >= self._asked + self.ask_every:
            self._asked = passed
            for line in list(self.lines.values()):
                if line.state != CONNECTING and line.seat == self.seats[0]:
                    self._ask(line)

    def end(self) -> Outcome:
        for line in list(self.lines.values()):
            line.watch(select.EPOLLIN)
        until = time.monotonic() + self.last_words
        while time.monotonic() < until:
            for fd, events in self.epoll.poll(0.01, 4096):
                if line := self.lines.get(fd):
                    line.handle(events)
        return super().end()


class Returning(Gang):
    """They connect, join with `since`, and when all of them have what they missed, drop and connect again together."""

    longest_wave = 3.0
    """Seconds after which who is there does not wait for the others."""

    known: ClassVar[dict[int, int]] = {}
    """The newest message that each has, by user id: it holds from one time to the next."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        super().__init__(seats)
        self._here: set[Line] = set()
        self._wave = 0.0

    def opened(self, line: Line) -> None:
        since = self.known.get(line.seat.user_id, 0)
        wish = b'{"type":"join_room","data":{"room_id":%d,"since":%d}}' % (line.seat.room_id, since)
        line.send(masked(wish, _MASK) + WIRES["json"].ping())

    def heard(self, line: Line, text: bytes) -> None:
        if found := re.search(rb'"last_seq": ?(\d+)', text):
            self.known[line.seat.user_id] = int(found[1])
        elif b'"pong"' in text:
            self._here.add(line)
            self.counts["joined"] += 1
        elif b'"error"' in text:
            self.counts["errors"] += 1

    def lost(self, line: Line) -> None:
        self._here.discard(line)
        super().lost(line)

    def act(self, passed: float) -> None:
        if len(self._here) < len(self.seats) and passed < self._wave + self.longest_wave:
            return
        self._wave = passed
        self.counts["waves"] += 1
        self._here.clear()
        for line in list(self.lines.values()):
            line.end()
        for seat in self.seats:
            self.come(seat)


class Flooding(Gang):
    """Each says so much a second, by the clock, whatever it is answered."""

    rate = 10_000

    def __init__(self, seats: Sequence[Seat]) -> None:
        super().__init__(seats)
        self._due = 0

    def frames(self, seat: Seat) -> Sequence[bytes]:
        """What is said, one after the other."""
        return [WIRES[seat.wire].message(seat.room_id, b"x" * 40)]

    def act(self, passed: float) -> None:
        due = int(passed * self.rate)
        # No more than a tenth of a second is made up for, and nothing of what was due while nobody was connected.
        first, self._due = max(self._due, due - self.rate // 10), due
        for line in list(self.lines.values()):
            if line.state != OPEN:
                continue
            if line.unsent:
                self.counts["frames that the server did not take in time"] += due - first
                continue
            self.counts["frames"] += due - first
            said = self.frames(line.seat)
            line.send(b"".join(said[number % len(said)] for number in range(first, due)))

    def heard(self, line: Line, text: bytes) -> None:
        if b'"rate_limited"' in text:
            self.counts["refusals"] += 1


class Babbling(Flooding):
    """The same with what is no message: pings of both kinds, and garbage."""

    def frames(self, seat: Seat) -> Sequence[bytes]:
        return [WIRES[seat.wire].ping(), control(b"x", PING), masked(b'{"type":"nonsense', _MASK)]


class Swarm(Gang):
    """One person with far too many connections, who tries again wherever she is refused."""


class Silent(Gang):
    """They connect, and ask for nothing."""

    def connected(self, line: Line) -> None:
        """Not a word."""


KINDS: dict[str, type[Gang]] = {
    "deaf": Deaf,
    "returning": Returning,
    "flood": Flooding,
    "babble": Babbling,
    "swarm": Swarm,
    "silent": Silent,
}


def serve(pipe: Connection) -> None:
    """Begin and end as the pipe says: `(kind, seats)`, and anything else for the end, which is answered."""
    prepare()
    while True:
        try:
            kind, seats = pipe.recv()
        except EOFError:
            return
        gang = KINDS[kind](seats)
        gang.begin()
        until = time.monotonic() + LONGEST
        while not pipe.poll() and time.monotonic() < until:
            gang.turn()
        outcome = gang.end()
        try:
            pipe.recv()
        except EOFError:
            return
        pipe.send(outcome)


class Gangs:
    """The process, as the benchmark sees it. Use it in a `with` block."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> "Gangs":
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()

    def begin(self, kind: str, seats: Sequence[Seat]) -> None:
        self._pipe.send((kind, list(seats)))

    def end(self) -> Outcome:
        self._pipe.send(None)
        return self._pipe.recv()
