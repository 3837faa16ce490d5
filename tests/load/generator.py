"""A process of the load generator: it opens connections, writes by the clock, and counts what it receives."""

import ctypes
import gc
import random
import resource
import select
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from load.client import GONE, OPEN, Client
from load.frames import TEXT, walk
from load.ledger import STAMP_SIZE, Tally, content, read_stamp, stamp
from load.wires import Seat

OPEN_TIMEOUT = 60.0
"""Seconds that a connection may take to be open and in its room."""

SLOW_READER = 4408
"""The code with which Salon closes a connection that does not read what it is sent."""

LONGEST_DRAIN = 60.0
"""Seconds in which a server may catch up with what it was sent."""

now = time.monotonic_ns


@dataclass(frozen=True)
class Load:
    """Messages at a fixed rate a second, for so many seconds from `start` on (monotonic ns).

    `writers`: the numbers of the seats that write in turn. After `drain` seconds without any delivery,
    what has not come is lost. With a `seed` they come at random moments, as many a second on average (a Poisson
    process: what many people do who know nothing of each other); without one, evenly.
    """

    rate: float
    seconds: float
    start: int
    writers: tuple[int, ...]
    drain: float = 3.0
    seed: int | None = None

    def moments(self) -> list[int]:
        """When each message is due (monotonic ns)."""
        total = int(self.rate * self.seconds)
        if self.seed is None:
            return [self.start + int(index * 1e9 / self.rate) for index in range(total)]
        chance = random.Random(self.seed)
        # Given how many there are, those of a Poisson process lie anywhere with the same chance.
        return sorted(self.start + int(chance.random() * self.seconds * 1e9) for _ in range(total))


class Generator:
    """The connections of one process, in groups that are opened and closed together."""

    def __init__(self, authority: Path | None = None) -> None:
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._groups: dict[str, list[Client]] = {}
        self._seats: dict[int, Client] = {}
        self._rooms: dict[tuple[str, int], list[Client]] = {}
        self._sent: dict[int, int] = {}
        self._stamps: dict[bytes, tuple[int, int, int]] = {}
        self._dropped: set[int] = set()
        self._pings = 0
        self._tally = Tally()
        self._context = ssl.create_default_context(cafile=authority) if authority else None

    def open(self, group: str, seats: list[Seat], concurrency: int = 32) -> float:
        """Open connections for these seats, so many at once; seconds that it took."""
        began = time.monotonic()
        self._groups.setdefault(group, [])
        self._open(seats, concurrency, lambda client: self._keep(group, client))
        return time.monotonic() - began

    def _keep(self, group: str, client: Client) -> None:
        self._groups[group].append(client)
        self._seats[client.seat.number] = client
        self._rooms.setdefault((group, client.seat.room_id), []).append(client)

    def visit(self, seats: list[Seat], concurrency: int) -> tuple[float, float]:
        """Open a connection for each seat and close it once it is in its room; seconds, and the share of a core."""
        began, used = time.monotonic(), time.process_time()
        self._open(seats, concurrency, self._leave)
        seconds = time.monotonic() - began
        return seconds, (time.process_time() - used) / seconds

    def _leave(self, client: Client) -> None:
        del self._clients[client.fd]
        client.close()

    def _open(self, seats: Iterable[Seat], concurrency: int, then: Callable[[Client], None]) -> None:
        waiting, under_way = iter(seats), dict[int, tuple[Client, float]]()
        while True:
            while len(under_way) < concurrency and (seat := next(waiting, None)):
                client = Client(seat, self._epoll, self._context if seat.tls else None)
                self._clients[client.fd] = client
                under_way[client.fd] = client, time.monotonic()
            if not under_way:
                return
            self._turn(0.05)
            for fd, (client, since) in list(under_way.items()):
                if client.state == OPEN:
                    del under_way[fd]
                    then(client)
                elif client.state == GONE or time.monotonic() - since > OPEN_TIMEOUT:
                    raise ConnectionError(f"A connection of {client.seat} did not open: {client.reason or 'timed out'}")

    def close(self, group: str) -> None:
        """Close the connections of a group."""
        for client in self._groups.pop(group, []):
            self._clients.pop(client.fd, None)
            self._seats.pop(client.seat.number, None)
            self._sent.pop(client.seat.number, None)
            client.close()
        self._rooms = {key: room for key, room in self._rooms.items() if key[0] != group}

    def load(self, group: str, load: Load) -> Tally:
        """Write as `load` says, and count who has received what."""
        writers = [self._seats[number] for number in load.writers]
        tally = self._tally = Tally()
        gc.collect()
        gc.disable()
        moments = load.moments()
        while (ahead := load.start - now()) > 0:
            self._turn(ahead / 1e9)
        used, began = time.process_time(), now()
        for index, due in enumerate(moments):
            while (ahead := due - now()) > 0:
                self._turn(ahead / 1e9)
            writer = writers[index % len(writers)]
            if writer.state == GONE:
                tally.unsent += 1
                continue
            self._write(writer, due)
            tally.late.append(max(0, now() - due))
            if index % 8 == 7:
                # However late it is, it also reads.
                self._turn(0)
            room = self._rooms[group, writer.seat.room_id]
            tally.expected += sum(each.state != GONE for each in room)
        self._drain(group, tally, load.drain)
        tally.seconds = (now() - began) / 1e9
        tally.generator_seconds = time.process_time() - used
        tally.busy = tally.generator_seconds / ((now() - began) / 1e9)
        gc.enable()
        self._settle(group, tally)
        return tally

    def _drain(self, group: str, tally: Tally, patience: float) -> None:
        """Wait for what is under way: late is not lost, as long as something comes."""
        count, since, end = tally.delivered, time.monotonic(), time.monotonic() + LONGEST_DRAIN
        while self._is_awaited(group, tally) and since <= time.monotonic() < min(end, since + patience):
            self._turn(0.05)
            if tally.delivered != count:
                count, since = tally.delivered, time.monotonic()

    def _is_awaited(self, group: str, tally: Tally) -> bool:
        # What has come twice stands for nothing else that is still to come.
        return tally.delivered < tally.expected or tally.delivered < tally.expected + sum(
            each.received.doubled for each in self._groups[group]
        )

    def _write(self, client: Client, due: int) -> None:
        number = client.seat.number
        count = self._sent[number] = self._sent.get(number, 0) + 1
        mark = stamp(number, count, due)
        self._tally.sent += 1
        client.send(client.wire.message(client.seat.room_id, content(mark)))

    def _settle(self, group: str, tally: Tally) -> None:
        """Sum up, and begin anew: what was lost or doubled counts once."""
        senders: dict[int, list[int]] = {}
        for client in self._groups[group]:
            received, number, room_id = client.received, client.seat.number, client.seat.room_id
            if room_id not in senders:
                senders[room_id] = self._senders(self._rooms[group, room_id])
            tally.doubled += received.doubled
            tally.disordered += received.disordered
            if client.state != GONE:
                tally.lost += received.lost(self._sent, senders[room_id])
            elif number not in self._dropped:
                # It counts once, as a connection; what it did not get any more is not lost on the way.
                tally.dropped += 1
                tally.slow += client.code == SLOW_READER
                self._dropped.add(number)
            received.begin(self._sent, senders[room_id])
        self._stamps.clear()

    def _senders(self, room: list[Client]) -> list[int]:
        """Who has written in a room, by number. The last words of somebody who is gone may never have been heard."""
        numbers = [each.seat.number for each in room if each.seat.number in self._sent]
        for number in numbers:
            if self._seats[number].state == GONE:
                self._sent[number] = max(each.received.last.get(number, 0) for each in room)
        return numbers

    def rest(self, group: str, seconds: float, ping_every: float) -> tuple[float, int]:
        """Let a group be idle but for a ping of each client now and then; the share of a core, and the pings."""
        clients, began, used = self._groups[group], time.monotonic(), time.process_time()
        interval, sent = ping_every / len(clients), 0
        while (passed := time.monotonic() - began) < seconds:
            due = min(int(passed / interval), int(seconds / interval))
            for _ in range(due - sent):
                # Whoever pinged last in the window before is followed by her neighbour.
                client = clients[self._pings % len(clients)]
                self._pings += 1
                if client.state != GONE:
                    client.send(client.wire.ping())
            sent = due
            self._turn(min(0.05, seconds - passed))
        return (time.process_time() - used) / seconds, sent

    def dropped(self, group: str) -> int:
        """How many connections of a group a server has closed."""
        return sum(client.state == GONE for client in self._groups[group])

    def _turn(self, seconds: float) -> None:
        """Handle what has come; wait so long for it."""
        # epoll's own time-out counts milliseconds, rounded up; the last of them are left to select.
        ready = self._epoll.poll(max(0.0, seconds - 0.001), 1024)
        if not ready and 0 < seconds < 0.002:
            select.select([self._epoll], [], [], seconds)
            ready = self._epoll.poll(0, 1024)
        for fd, events in ready:
            if client := self._clients.get(fd):
                if events & select.EPOLLOUT:
                    client.flush()
                if events & ~select.EPOLLOUT and client.state != GONE and (data := client.read()):
                    if client.state == OPEN:
                        self._take(client, data)
                    else:
                        self._advance(client, data)

    def _advance(self, client: Client, data: bytes) -> None:
        try:
            client.advance(data)
        except (ConnectionError, ValueError) as error:
            client.gone(str(error))

    def _take(self, client: Client, data: bytes) -> None:
        """Count the messages in what a connection has received."""
        arrived = now()
        spans, end = walk(data)
        client.rest = data[end:]
        tally, stamps = self._tally, self._stamps
        for span in spans:
            opcode, start, stop = span
            if opcode != TEXT:
                client.answer_control(data, span)
                continue
            at = data.find(b"~", start, stop)
            if at < 0:
                if reply := client.wire.reply(data[start:stop]):
                    client.send(reply)
                continue
            mark = data[at : at + STAMP_SIZE]
            if not (known := stamps.get(mark)):
                known = stamps[mark] = read_stamp(mark)
                tally.frame_size = stop - start + 4
            sender, number, due = known
            if sender not in self._seats:
                # The end of what a group was sent that has been closed; who has come after it need not get it.
                continue
            tally.delivered += 1
            tally.latencies.append(arrived - due)
            client.received.take(sender, number)


def prepare() -> None:
    """Let this process have as many sockets as it may, and wake up when it asked to."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    ctypes.CDLL(None).prctl(29, 1)  # PR_SET_TIMERSLACK: the default of 50 µs would count as the server's


def serve(pipe: Connection, authority: Path | None) -> None:
    """Carry out what comes through the pipe, `(method, arguments)`; connections are looked after in between."""
    prepare()
    generator = Generator(authority)
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(generator._epoll, select.POLLIN)
    while True:
        poll.poll()
        if pipe.poll():
            try:
                method, arguments = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send((getattr(generator, method)(*arguments), None))
            except Exception as error:  # noqa: BLE001 (it is raised again on the other side of the pipe)
                pipe.send((None, f"{type(error).__name__}: {error}"))
        else:
            generator._turn(0)
