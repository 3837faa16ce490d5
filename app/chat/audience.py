"""The sockets that have joined a room in this process."""

from collections.abc import Iterator

from chat.catchup import Recent
from chat.connection import Attendance, Connection, Socket
from chat.order import Order
from chat.relay import Envelope
from salon import measures


class Audience:
    """The sockets that have joined a room in this process.

    Most of the time all of them are to get what comes, at once: the list of them is made when it is needed and kept
    until somebody comes or goes. `after` is the greatest `Attendance.after` there was; `order` is that of the room's
    messages; `recent` is what many who come at once need of them, as long as it is true. `changes` are events that
    messages were changed, which may be among those that are missing.
    """

    __slots__ = (
        "_direct",
        "_frames",
        "_held",
        "_others",
        "_room_id",
        "after",
        "changes",
        "connections",
        "order",
        "recent",
    )

    def __init__(self, room_id: int) -> None:
        self.connections: set[Connection] = set()
        self.after = 0
        self.order: Order[Envelope] = Order()
        self.recent: Recent | None = None
        self.changes: list[str] = []
        self._room_id = room_id
        self._direct: list[Socket] | None = None
        self._others: list[Connection] = []
        self._held: list[Attendance] = []
        self._frames: list[bytes] = []

    def add(self, connection: Connection) -> None:
        self.connections.add(connection)
        self._direct = None

    def discard(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._direct = None

    def settle(self, after: int) -> None:
        """For one of them, nothing is held any more, and messages up to `after` are known."""
        self.after = max(self.after, after)
        self._direct = None

    def go_back(self, newest: int) -> None:
        """The database has messages only up to there any more: numbers that were known come again, for others."""
        self.order.go_back(newest)
        self.recent = None
        self.changes.clear()
        self.after = min(self.after, newest)
        for connection in self.connections:
            attendance = connection.rooms[self._room_id]
            attendance.after = min(attendance.after, newest)

    def send(self, text: str, frame: bytes, seq: int | None) -> None:
        """Send an event to all of them, with the next `flush`; those for whom events are held get it later."""
        if self._direct is None:
            self._sort()
        self._frames.append(frame)
        if seq is None:
            measures.counts.delivered_others += len(self._direct)
        else:
            measures.counts.delivered_messages += len(self._direct)
        for connection in self._others:
            connection.send(text)
        for attendance in self._held:
            attendance.held.append((seq, text))

    def flush(self) -> None:
        """Let the sockets have what was sent, before anybody comes or goes or is sent something else."""
        waiting, self._frames = self._frames, []
        if waiting and self._direct:
            self._direct[0].broadcast(self._direct, b"".join(waiting))

    def held(self) -> Iterator[Attendance]:
        """Those of them for whom events are held."""
        for connection in self.connections:
            if (attendance := connection.rooms[self._room_id]).held is not None:
                yield attendance

    def _sort(self) -> None:
        self._direct, self._others, self._held = [], [], []
        for connection in self.connections:
            if (attendance := connection.rooms[self._room_id]).held is not None:
                self._held.append(attendance)
            elif connection.socket:
                self._direct.append(connection.socket)
            else:
                self._others.append(connection)
