"""The sockets of one process, and the way of an event to all of them in all processes.

The process takes part in the channel layer as one channel, which is in the group of each room that a socket here has
joined. An event is encoded once, by the process that publishes it, and every socket is handed the same text.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from uuid import uuid4

from channels.layers import BaseChannelLayer, get_channel_layer
from django.conf import settings

from chat import protocol
from chat.auth import Identity
from chat.connection import Attendance, Connection, Socket
from chat.protocol import (
    ChatError,
    ErrorCode,
    Message,
    MessageData,
    RoomUpdate,
    RoomUpdateData,
    ServerEvent,
    UserStatus,
)
from salon import frames

logger = logging.getLogger(__name__)

PEOPLE = "chat_people"
"""The group that every process is in: events for persons, wherever they are connected."""

REMEMBERED_DELIVERIES = 10_000
"""Events that were delivered without the channel layer and could still come back through it."""


def room_group(room_id: int) -> str:
    return f"chat_{room_id}"


@contextlib.asynccontextmanager
async def _channel_layer() -> AsyncIterator[BaseChannelLayer]:
    """The channel layer, for one use of at most `CHANNEL_LAYER_TIMEOUT` seconds.

    Raises `ChatError` (`unavailable`) for whatever goes wrong with it: each kind of layer has its own errors.
    """
    try:
        async with asyncio.timeout(settings.CHANNEL_LAYER_TIMEOUT):
            yield get_channel_layer()
    except Exception as error:
        logger.error("The channel layer does not answer: %s", str(error) or "timed out")
        raise ChatError(
            ErrorCode.UNAVAILABLE, "The server cannot reach its channel layer; try again in a moment."
        ) from error


class Audience:
    """The sockets that have joined a room in this process.

    Most of the time all of them are to get what comes, at once: the list of them is made when it is needed and kept
    until somebody comes or goes. `after` is the greatest `Attendance.after` there was.
    """

    __slots__ = ("_direct", "_frames", "_held", "_others", "_room_id", "after", "connections")

    def __init__(self, room_id: int) -> None:
        self.connections: set[Connection] = set()
        self.after = 0
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

    def send(self, text: str, frame: bytes, seq: int | None) -> None:
        """Send an event to all of them, with the next `flush`; those for whom events are held get it later."""
        if self._direct is None:
            self._sort()
        self._frames.append(frame)
        for connection in self._others:
            connection.send(text)
        for attendance in self._held:
            attendance.held.append((seq, text))

    def flush(self) -> None:
        """Let the sockets have what was sent, before anybody comes or goes or is sent something else."""
        waiting, self._frames = self._frames, []
        if waiting and self._direct:
            self._direct[0].broadcast(self._direct, b"".join(waiting))

    def _sort(self) -> None:
        self._direct, self._others, self._held = [], [], []
        for connection in self.connections:
            if (attendance := connection.rooms[self._room_id]).held is not None:
                self._held.append(attendance)
            elif connection.socket:
                self._direct.append(connection.socket)
            else:
                self._others.append(connection)


class Hub:
    """All sockets of this process; one a process."""

    def __init__(self) -> None:
        self._people: defaultdict[int, set[Connection]] = defaultdict(set)
        self._rooms: dict[int, Audience] = {}
        self._name = uuid4().hex
        self._published = 0
        self._on_their_way: dict[str, bool] = {}
        """Events that are being published, and whether they have come back already."""
        self._channel = ""
        self._groups: set[str] = set()
        self._abandoned_rooms: set[int] = set()
        self._subscribing = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self._tidier: asyncio.Task[None] | None = None
        self._echoes: dict[str, asyncio.Future[None]] = {}
        self._delivered: dict[str, None] = {}
        self._arrived: dict[int, int] = {}
        self._lapses: dict[tuple[int, int], tuple[asyncio.TimerHandle, str]] = {}
        self._on_notice: list[Callable[[dict], None]] = []
        self._publishing: set[asyncio.Task[None]] = set()
        self._unsent: list[Audience] = []
        self._on_removal: list[Callable[[int, Collection[int] | None], None]] = []

    async def connect(self, connection: Connection, identity: Identity) -> None:
        """From now on, events for this person reach this socket. Raises `ChatError` (`unavailable`)."""
        await self._subscribe(PEOPLE)
        if not connection.is_closing:
            connection.identity = identity
            self._people[identity.person.id].add(connection)

    def connections(self, user_id: int) -> Collection[Connection]:
        """Her sockets in this process."""
        return self._people.get(user_id, ())

    def people(self) -> dict[int, set[Connection]]:
        """Who is connected to this process, and her sockets."""
        return self._people

    def disconnect(self, connection: Connection) -> None:
        """The socket is gone, or about to be."""
        for room_id in list(connection.rooms):
            self.leave(connection, room_id)
        if connection.person:
            _discard(self._people, connection.person.id, connection)

    def hears(self, room_id: int) -> bool:
        """Whether this process receives the room's events."""
        return room_group(room_id) in self._groups

    async def listen(self, room_id: int) -> None:
        """Have this process receive the room's events. Raises `ChatError` (`unavailable`)."""
        await self._subscribe(room_group(room_id))

    def join(self, connection: Connection, room_id: int, *, is_held: bool = False) -> Attendance:
        """From now on, events of this room, which the process must hear already, reach this socket.

        With `is_held` they wait for `release`.
        """
        attendance = Attendance(self._arrived.get(room_id, 0), is_held=is_held)
        if not connection.is_closing:
            connection.rooms[room_id] = attendance
            if room_id not in self._rooms:
                self._rooms[room_id] = Audience(room_id)
            self._rooms[room_id].add(connection)
        return attendance

    def release(self, connection: Connection, room_id: int, attendance: Attendance, after: int) -> set[int]:
        """Let what was held go to the socket, without the messages up to `after`, which it has.

        Returns the people whose presence it was told of meanwhile.
        """
        held, told = attendance.held or [], attendance.told or set()
        attendance.held, attendance.told, attendance.after = None, None, after
        if connection.rooms.get(room_id) is attendance:
            self._rooms[room_id].settle(after)
            if late := [text for seq, text in held if seq is None or seq > after]:
                connection.send(*late)
        return told

    def leave(self, connection: Connection, room_id: int) -> None:
        """From now on, events of this room do not reach this socket."""
        if connection.rooms.pop(room_id, None) is None:
            return
        audience = self._rooms[room_id]
        audience.discard(connection)
        if not audience.connections:
            del self._rooms[room_id]
        if room_id not in self._rooms and self.hears(room_id):
            self._abandoned_rooms.add(room_id)
            if self._tidier is None:
                self._tidier = asyncio.create_task(self._unsubscribe())

    def arrivals(self) -> list[tuple[int, set[int], int]]:
        """What came to sockets here since the last call: room id, person ids, the newest sequence number."""
        arrived, self._arrived = self._arrived, {}
        return [
            (room_id, {each.person.id for each in here.connections if each.rooms[room_id].arrived < seq}, seq)
            for room_id, seq in arrived.items()
            if (here := self._rooms.get(room_id))
        ]

    def remember(self, arrivals: list[tuple[int, set[int], int]]) -> None:
        """Give them out again with the next call of `arrivals`."""
        for room_id, _, seq in arrivals:
            self._arrived[room_id] = max(seq, self._arrived.get(room_id, 0))

    def joined(self) -> set[tuple[int, int]]:
        """Who is where in this process: room id and person id."""
        return {
            (room_id, connection.person.id) for room_id, here in self._rooms.items() for connection in here.connections
        }

    def present(self, room_id: int) -> set[int]:
        """The ids of the people who are in the room in this process."""
        return {connection.person.id for connection in self._here(room_id)}

    def expel(self, room_id: int, user_id: int) -> None:
        """Tell a person's sockets here that she is no longer in the room, and take them out of it."""
        for connection in [each for each in self._here(room_id) if each.person.id == user_id]:
            gone = RoomUpdateData(room_id=room_id, kind="participants_removed", participants=[connection.person])
            connection.send(protocol.encode(RoomUpdate(gone)))
            self.leave(connection, room_id)

    async def publish_to_room(
        self,
        room_id: int,
        event: ServerEvent,
        *,
        except_person: int | None = None,
        then_remove: Collection[int] = (),
        then_empty: bool = False,
        lapses_into: ServerEvent | None = None,
    ) -> None:
        """Send an event to every socket that has joined the room, in every process.

        Sockets of `except_person` are left out; sockets of the persons in `then_remove`, or with `then_empty` all of
        them, get the event and are then no longer in the room. `lapses_into` is an event that every process sends
        after it by itself, `TYPING_TIMEOUT` seconds later, or before the next message of `except_person`, unless
        another event that leaves her out comes first: that she types must end, whatever becomes of her process.
        """
        envelope = {"room": room_id, "text": protocol.encode(event)}
        if except_person is not None:
            envelope["except"] = except_person
        if lapses_into is not None:
            envelope["lapse"] = protocol.encode(lapses_into)
        if then_remove:
            envelope["remove"] = list(then_remove)
        if then_empty:
            envelope["empty"] = True
        await self._publish([(room_group(room_id), envelope)])

    def tell(self, messages: Sequence[MessageData]) -> None:
        """Send stored messages on their way to every socket that has joined their rooms, in their order."""
        envelopes = [
            (
                room_group(message.chat),
                {
                    "room": message.chat,
                    "text": protocol.encode(Message(message, message.chat)),
                    "seq": message.seq,
                    "sender": message.sender,
                },
            )
            for message in messages
        ]
        task = asyncio.create_task(self._publish(envelopes))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def finish(self) -> None:
        """Wait until what was told is published."""
        while self._publishing:
            await asyncio.wait(self._publishing)

    async def publish_to_people(self, user_ids: Collection[int], event: ServerEvent) -> None:
        """Send an event to every socket of these persons, in every process."""
        if user_ids:
            envelope = {"people": list(user_ids), "text": protocol.encode(event)}
            if isinstance(event, UserStatus):
                envelope["present"] = event.data.user_id
            await self._publish([(PEOPLE, envelope)])

    def on_notice(self, receiver: Callable[[dict], None]) -> None:
        """Have `receiver` called with every notice that another process, or this one, sends to all."""
        self._on_notice.append(receiver)

    def on_removal(self, receiver: Callable[[int, Collection[int] | None], None]) -> None:
        """Have `receiver` called with each room that persons, or with None everybody, are told to be removed from."""
        self._on_removal.append(receiver)

    async def notify(self, notice: dict) -> None:
        """Send a notice, of which no socket hears, to every process."""
        await self._publish([(PEOPLE, {"notice": notice})])

    async def check(self) -> None:
        """Raise `ChatError` unless what this process publishes comes back to it within `CHANNEL_LAYER_TIMEOUT`."""
        echo = asyncio.get_running_loop().create_future()
        name = uuid4().hex
        self._echoes[name] = echo
        try:
            await self._subscribe(PEOPLE)
            async with _channel_layer() as layer:
                await layer.send(self._channel, {"type": "hub", "echo": name})
                await echo
        finally:
            del self._echoes[name]

    async def stop(self) -> None:
        """End what runs in the background; the hub is not used afterwards."""
        for timer, _ in self._lapses.values():
            timer.cancel()
        tasks = [task for task in (self._reader, self._tidier) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _publish(self, envelopes: list[tuple[str, dict]]) -> None:
        """Send envelopes, each to its group."""
        for _, envelope in envelopes:
            self._published += 1
            envelope |= {"type": "hub", "id": f"{self._name}:{self._published}"}
            self._on_their_way[envelope["id"]] = False
        try:
            async with _channel_layer() as layer:
                if send_all := getattr(layer, "group_send_all", None):
                    await send_all(envelopes)
                else:
                    for group, envelope in envelopes:
                        await layer.group_send(group, envelope)
        except ChatError:
            # Those who are connected here need not wait for the channel layer. It may have taken the events all the
            # same and only its answer be late: then they come back, and are known.
            missing = [envelope for _, envelope in envelopes if not self._on_their_way[envelope["id"]]]
            for envelope in missing:
                self._delivered[envelope["id"]] = None
                if len(self._delivered) > REMEMBERED_DELIVERIES:
                    del self._delivered[next(iter(self._delivered))]
            self._deliver_all(missing)
        finally:
            for _, envelope in envelopes:
                del self._on_their_way[envelope["id"]]

    async def _subscribe(self, group: str) -> None:
        if group in self._groups:
            return
        async with _channel_layer() as layer, self._subscribing:
            if not self._channel:
                self._channel = await layer.new_channel()
            if self._reader is None:
                self._reader = asyncio.create_task(self._read())
            await layer.group_add(group, self._channel)
            self._groups.add(group)

    async def _unsubscribe(self) -> None:
        """Leave the groups of rooms that nobody here is in any more."""
        try:
            while self._abandoned_rooms:
                room_id = self._abandoned_rooms.pop()
                with contextlib.suppress(ChatError):
                    async with _channel_layer() as layer, self._subscribing:
                        if room_id not in self._rooms:
                            self._groups.discard(room_group(room_id))
                            await layer.group_discard(room_group(room_id), self._channel)
        finally:
            self._tidier = None

    async def _read(self) -> None:
        layer = get_channel_layer()
        while True:
            try:
                if receive_all := getattr(layer, "receive_all", None):
                    envelopes = await receive_all(self._channel)
                else:
                    envelopes = [await layer.receive(self._channel)]
            except Exception:
                logger.exception("Events cannot be received from the channel layer; trying again in a second")
                await asyncio.sleep(1)
            else:
                self._deliver_all([each for each in envelopes if not self._is_known(each)])

    def _is_known(self, envelope: dict) -> bool:
        """Whether it was delivered already, without the channel layer; else it is from now on."""
        name = envelope.get("id")
        if name in self._delivered:
            del self._delivered[name]
            return True
        if name in self._on_their_way:
            self._on_their_way[name] = True
        return False

    def _deliver_all(self, envelopes: list[dict]) -> None:
        """Deliver what has come together; of one room's messages a socket gets in one write what it can."""
        for envelope in envelopes:
            try:
                self._deliver(envelope)
            except Exception:
                logger.exception("An event could not be delivered")
        self._flush()

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        for audience in unsent:
            try:
                audience.flush()
            except Exception:
                logger.exception("Events could not be delivered to a room")

    def _deliver(self, envelope: dict) -> None:
        if (name := envelope.get("echo")) is not None:
            if (echo := self._echoes.get(name)) and not echo.done():
                echo.set_result(None)
        elif (room_id := envelope.get("room")) is not None:
            self._deliver_to_room(room_id, envelope)
        elif (notice := envelope.get("notice")) is not None:
            for receiver in self._on_notice:
                receiver(notice)
        else:
            self._flush()
            for user_id in envelope["people"]:
                for connection in self._people.get(user_id, ()):
                    connection.send(envelope["text"])
                    if (present := envelope.get("present")) is not None:
                        _remember_told(connection, present)

    def _deliver_to_room(self, room_id: int, envelope: dict) -> None:
        seq, excepted = envelope.get("seq"), envelope.get("except")
        removed, everyone = envelope.get("remove", ()), envelope.get("empty", False)
        if seq is not None:
            self._arrived[room_id] = max(seq, self._arrived.get(room_id, 0))
            # With what she says, she types no longer.
            for connection in self.connections(envelope["sender"]):
                connection.typing.pop(room_id, None)
            self._lapse(room_id, envelope["sender"])
        elif excepted is not None:
            self._expect_lapse(room_id, excepted, envelope.get("lapse"))
        self._send(room_id, envelope["text"], seq=seq, excepted=excepted, can_wait=not (removed or everyone))
        if removed or everyone:
            self._flush()
            for receiver in self._on_removal:
                receiver(room_id, None if everyone else removed)
            for connection in list(self._here(room_id)):
                if everyone or connection.person.id in removed:
                    self.leave(connection, room_id)

    def _send(
        self, room_id: int, text: str, *, seq: int | None = None, excepted: int | None = None, can_wait: bool = True
    ) -> None:
        if (audience := self._rooms.get(room_id)) is None:
            return
        frame = frames.text(text.encode())
        if can_wait and excepted is None and (seq is None or seq > audience.after):
            audience.send(text, frame, seq)
            self._unsent.append(audience)
            return
        audience.flush()
        for connection in audience.connections:
            attendance = connection.rooms[room_id]
            if connection.person.id == excepted or (seq is not None and seq <= attendance.after):
                continue
            if can_wait and attendance.held is not None:
                attendance.held.append((seq, text))
            elif connection.socket:
                connection.socket.send_frames(frame)
            else:
                connection.send(text)

    def _here(self, room_id: int) -> Collection[Connection]:
        return self._rooms[room_id].connections if room_id in self._rooms else ()

    def _expect_lapse(self, room_id: int, user_id: int, text: str | None) -> None:
        """What was to lapse is overtaken by another event; `text` is what that one lapses into, if it does."""
        if earlier := self._lapses.pop((room_id, user_id), None):
            earlier[0].cancel()
        if text is not None and room_id in self._rooms:
            timer = asyncio.get_running_loop().call_later(settings.TYPING_TIMEOUT, self._lapse, room_id, user_id)
            self._lapses[room_id, user_id] = (timer, text)

    def _lapse(self, room_id: int, user_id: int) -> None:
        if lapse := self._lapses.pop((room_id, user_id), None):
            timer, text = lapse
            timer.cancel()
            self._send(room_id, text, excepted=user_id)


def _remember_told(connection: Connection, user_id: int) -> None:
    for attendance in connection.rooms.values():
        if attendance.held is not None:
            attendance.told.add(user_id)


def _discard(index: defaultdict[int, set[Connection]], key: int, connection: Connection) -> None:
    if key in index:
        index[key].discard(connection)
        if not index[key]:
            del index[key]


hub = Hub()
