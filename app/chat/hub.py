"""The sockets of one process, and the way of an event to all of them in all processes.

The process takes part in the channel layer as one channel, which is in the group of each room that a socket here has
joined. An event is encoded once, by the process that publishes it, and every socket is handed the same text. The
sockets of that process are handed it at once; the channel layer is for the others.

The channel layer may lose what it is given. Messages have numbers without a gap, so what is missing of a room is
noticed and read from the database (`Hub.look`, `chat.order`): nobody misses a message, and all get them in one order.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from datetime import timedelta
from uuid import uuid4

from channels.layers import BaseChannelLayer, get_channel_layer
from django.conf import settings
from django.utils import timezone

from chat import database, messages, protocol, services
from chat.auth import Identity
from chat.batches import slices
from chat.catchup import Recent
from chat.connection import Attendance, Connection, Socket
from chat.order import Order
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

LOOK_INTERVAL = 1.0
"""Seconds between two looks whether messages have been stored that have not come here, though nobody says so."""

GAP_PATIENCE = 0.05
"""Seconds that a message may come later than one with a greater number before it is looked for in the database: two
processes that store at the same time publish in any order."""

RETRY_INTERVAL = 0.5
"""Seconds between two tries to read what is missing while the database is away."""

LONGEST_BREAK = 120.0
"""Seconds for which the channel layer may be away without a change of a message getting lost: what was edited or
deleted in that time is told again when it is back."""

FILL_ROOMS, FILL_MESSAGES = 50, 500
"""Rooms that are asked for in one query, and messages that it brings at most."""

SHOWN_ANEW = ("message_edited", "message_deleted")
"""Kinds of `room_update` after which what is remembered of a room's messages is not as it was."""


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
        services.channel_layer.failed(str(error) or "timed out")
        raise ChatError(
            ErrorCode.UNAVAILABLE, "The server cannot reach its channel layer; try again in a moment."
        ) from error
    services.channel_layer.answered()


class Audience:
    """The sockets that have joined a room in this process.

    Most of the time all of them are to get what comes, at once: the list of them is made when it is needed and kept
    until somebody comes or goes. `after` is the greatest `Attendance.after` there was; `order` is that of the room's
    messages; `recent` is what many who come at once need of them, as long as it is true.
    """

    __slots__ = ("_direct", "_frames", "_held", "_others", "_room_id", "after", "connections", "order", "recent")

    def __init__(self, room_id: int) -> None:
        self.connections: set[Connection] = set()
        self.after = 0
        self.order: Order[dict] = Order()
        self.recent: Recent | None = None
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


class Hub:
    """All sockets of this process; one a process."""

    def __init__(self) -> None:
        self._people: defaultdict[int, set[Connection]] = defaultdict(set)
        self._rooms: dict[int, Audience] = {}
        self._name = uuid4().hex
        self._loop: asyncio.AbstractEventLoop | None = None
        """The event loop of the sockets, once there is one."""
        self._channel = ""
        self._groups: set[str] = set()
        self._missing: set[str] = set()
        """Groups that this process is to be in as soon as the channel layer answers."""
        self._abandoned_rooms: set[int] = set()
        self._subscribing = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self._tidier: asyncio.Task[None] | None = None
        self._echoes: dict[str, asyncio.Future[None]] = {}
        self._behind: set[int] = set()
        """Rooms of which messages are missing."""
        self._filler: asyncio.Task[None] | None = None
        self._look_now = asyncio.Event()
        self._has_missed_changes = False
        self._arrived: dict[int, int] = {}
        self._lapses: dict[tuple[int, int], tuple[asyncio.TimerHandle, str]] = {}
        self._on_notice: list[Callable[[dict], None]] = []
        self._publishing: set[asyncio.Task[None]] = set()
        self._unsent: list[Audience] = []
        self._on_removal: list[Callable[[int, Collection[int] | None], None]] = []

    async def connect(self, connection: Connection, identity: Identity) -> None:
        """From now on, events for this person reach this socket."""
        await self._hear(PEOPLE)
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
        """Whether this process receives the room's events, or will as soon as the channel layer answers."""
        group = room_group(room_id)
        return group in self._groups or group in self._missing

    async def listen(self, room_id: int) -> None:
        """Have this process receive the room's events. With the channel layer away, its messages come a moment later:
        they are looked for in the database."""
        await self._hear(room_group(room_id))

    def audience(self, room_id: int) -> Audience | None:
        """Who has joined the room here, if anybody has."""
        return self._rooms.get(room_id)

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

    def release(
        self, connection: Connection, room_id: int, attendance: Attendance, *, newest: int | None, after: int
    ) -> set[int]:
        """Let what was held go to the socket, without the messages up to `after`, which it has.

        `newest` is the number of the room's newest message as it was looked up after the join; it is not needed where
        the room's order had begun. Returns the people whose presence the socket was told of meanwhile.
        """
        audience = self._rooms.get(room_id)
        is_here = audience is not None and connection.rooms.get(room_id) is attendance
        if is_here and newest is not None:
            self._begin(room_id, audience, newest)
        held, told = attendance.held or [], attendance.told or set()
        attendance.held, attendance.told, attendance.after = None, None, after
        if is_here:
            if after:
                # She has everything up to there, whatever had come before she did.
                attendance.arrived = 0
                self._arrived[room_id] = max(after, self._arrived.get(room_id, 0))
            audience.settle(after)
            if late := [text for seq, text in held if seq is None or seq > after]:
                connection.send(*late)
        return told

    def _begin(self, room_id: int, audience: Audience, newest: int) -> None:
        if audience.order.position is not None:
            # What was looked up may be news.
            audience.order.expect(newest)
        else:
            before, ready = audience.order.begin(newest)
            for attendance in audience.held():
                attendance.held += [(seq, envelope["text"]) for seq, envelope in before]
            self._pass_on(room_id, audience, ready)
            self._flush()
        if audience.order.is_behind:
            self._fill_soon(room_id)

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
        if isinstance(event, RoomUpdate) and event.data.kind in SHOWN_ANEW:
            envelope["anew"] = True
        await self._publish([(room_group(room_id), envelope)])

    def tell(self, stored: Sequence[MessageData]) -> None:
        """Send stored messages on their way to every socket that has joined their rooms, in their order."""
        envelopes = [(room_group(message.chat), _envelope(message)) for message in stored]
        self._deliver_here(envelopes)
        self._in_background(self._send_to_others(envelopes))

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

    async def wait_to_look(self) -> None:
        """Wait until it is time for `look`: after a while, or at once when the channel layer has lost something."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._look_now.wait(), LOOK_INTERVAL)
        self._look_now.clear()

    async def look(self) -> None:
        """See whether rooms have newer messages than have come here, and have those read.

        Raises `ChatError` (`unavailable`).
        """
        positions = {
            room_id: here.order.position for room_id, here in self._rooms.items() if here.order.position is not None
        }
        if not positions:
            return
        found = await database.query_ahead(messages.newest_numbers, list(positions))
        for room_id, newest in found.items():
            if (audience := self._rooms.get(room_id)) is None or audience.order.position is None:
                continue
            if newest < positions[room_id]:
                logger.warning("Room %d has lost messages: the newest is now %d", room_id, newest)
                audience.order.go_back(newest)
                audience.recent = None
            audience.order.expect(newest)
            if audience.order.is_behind:
                self._fill_soon(room_id)
        if self._has_missed_changes:
            await self._tell_changes(list(positions))
            self._has_missed_changes = False

    async def _tell_changes(self, room_ids: Sequence[int]) -> None:
        since = timezone.now() - timedelta(seconds=LONGEST_BREAK)
        for message in await database.query(messages.changed_since, room_ids, since, FILL_MESSAGES):
            kind = "message_deleted" if message.is_deleted else "message_edited"
            event = RoomUpdate(RoomUpdateData(room_id=message.chat, kind=kind, message=message))
            self._send(message.chat, protocol.encode(event))
        self._flush()

    async def hear_all(self) -> None:
        """Enter the groups that could not be entered when it was wanted. Raises `ChatError` (`unavailable`)."""
        while self._missing:
            await self._subscribe(next(iter(self._missing)))

    async def stop(self) -> None:
        """End what runs in the background; the hub is not used afterwards."""
        for timer, _ in self._lapses.values():
            timer.cancel()
        tasks = [task for task in (self._reader, self._tidier, self._filler) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _publish(self, envelopes: list[tuple[str, dict]]) -> None:
        """Send envelopes, each to its group."""
        self._deliver_here(envelopes)
        sending = self._send_to_others(envelopes)
        if services.channel_layer.is_away and asyncio.get_running_loop() is self._loop:
            # Nobody waits for what may not answer; that it is tried all the same tells when it answers again.
            self._in_background(sending)
        else:
            await sending

    def _deliver_here(self, envelopes: list[tuple[str, dict]]) -> None:
        here = [envelope for _, envelope in envelopes]
        if self._loop is None or self._loop.is_closed():
            return
        for envelope in here:
            envelope["from"] = self._name
        if asyncio.get_running_loop() is self._loop:
            self._deliver_all(here)
        else:
            self._loop.call_soon_threadsafe(self._deliver_all, here)

    async def _send_to_others(self, envelopes: list[tuple[str, dict]]) -> None:
        for _, envelope in envelopes:
            envelope["type"] = "hub"
        # Who listens elsewhere and misses a message notices; what else there is can be lost.
        with contextlib.suppress(ChatError):
            async with _channel_layer() as layer:
                if send_all := getattr(layer, "group_send_all", None):
                    await send_all(envelopes)
                else:
                    for group, envelope in envelopes:
                        await layer.group_send(group, envelope)

    def _in_background(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def _hear(self, group: str) -> None:
        """Enter a group, or else do it when the channel layer answers again."""
        if group in self._groups or group in self._missing:
            return
        self._loop = asyncio.get_running_loop()
        self._missing.add(group)
        if not services.channel_layer.is_away:
            with contextlib.suppress(ChatError):
                await self._subscribe(group)

    async def _subscribe(self, group: str) -> None:
        """Enter a group. Raises `ChatError` (`unavailable`)."""
        if group in self._groups:
            return
        self._loop = asyncio.get_running_loop()
        async with _channel_layer() as layer, self._subscribing:
            if not self._channel:
                if on_break := getattr(layer, "on_break", None):
                    on_break(self._layer_broke)
                self._channel = await layer.new_channel()
            if self._reader is None:
                self._reader = asyncio.create_task(self._read())
            await layer.group_add(group, self._channel)
            self._groups.add(group)
            self._missing.discard(group)

    def _layer_broke(self, reason: str) -> None:
        """The channel layer has lost something, and hears again."""
        for audience in self._rooms.values():
            audience.recent = None
        self._has_missed_changes = True
        self._look_now.set()

    async def _unsubscribe(self) -> None:
        """Leave the groups of rooms that nobody here is in any more."""
        try:
            while self._abandoned_rooms:
                room_id = self._abandoned_rooms.pop()
                if room_id not in self._rooms:
                    self._missing.discard(room_group(room_id))
                with contextlib.suppress(ChatError):
                    async with _channel_layer() as layer, self._subscribing:
                        if room_id not in self._rooms and room_group(room_id) in self._groups:
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
                self._deliver_all([each for each in envelopes if each.get("from") != self._name])

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
        if "seq" in envelope:
            self._take(room_id, envelope)
            return
        excepted = envelope.get("except")
        removed, everyone = envelope.get("remove", ()), envelope.get("empty", False)
        if excepted is not None:
            self._expect_lapse(room_id, excepted, envelope.get("lapse"))
        elif envelope.get("anew") and (audience := self._rooms.get(room_id)):
            audience.recent = None
        self._send(room_id, envelope["text"], excepted=excepted, can_wait=not (removed or everyone))
        if removed or everyone:
            self._flush()
            for receiver in self._on_removal:
                receiver(room_id, None if everyone else removed)
            for connection in list(self._here(room_id)):
                if everyone or connection.person.id in removed:
                    self.leave(connection, room_id)

    def _take(self, room_id: int, envelope: dict) -> None:
        """A message has come, and has its turn or waits for it."""
        # With what she says, she types no longer.
        for connection in self.connections(envelope["sender"]):
            connection.typing.pop(room_id, None)
        if (audience := self._rooms.get(room_id)) is None:
            return
        self._pass_on(room_id, audience, audience.order.take(envelope["seq"], envelope))
        if audience.order.is_behind:
            self._fill_soon(room_id)

    def _pass_on(self, room_id: int, audience: Audience, ready: list[tuple[int, dict]]) -> None:
        for seq, envelope in ready:
            self._arrived[room_id] = max(seq, self._arrived.get(room_id, 0))
            self._lapse(room_id, envelope["sender"])
            if audience.recent:
                audience.recent.add(seq, envelope["text"])
            self._send(room_id, envelope["text"], seq=seq)

    def _fill_soon(self, room_id: int) -> None:
        self._behind.add(room_id)
        if self._filler is None:
            self._filler = asyncio.create_task(self._fill())

    async def _fill(self) -> None:
        """Read from the database what is missing, until nothing is."""
        try:
            while self._behind:
                noticed, self._behind = self._behind, set()
                await asyncio.sleep(GAP_PATIENCE)
                for rooms in slices(sorted(noticed), FILL_ROOMS):
                    try:
                        await self._fill_rooms(rooms)
                    except ChatError:
                        self._behind.update(rooms)
                        await asyncio.sleep(RETRY_INTERVAL)
                    except Exception:
                        # The next look finds them again.
                        logger.exception("Missing messages could not be delivered")
        finally:
            self._filler = None

    async def _fill_rooms(self, room_ids: Sequence[int]) -> None:
        orders = {room_id: self._rooms[room_id].order for room_id in room_ids if room_id in self._rooms}
        wanted = {room_id: (order.position, order.newest) for room_id, order in orders.items() if order.is_behind}
        if not wanted:
            return
        positions = {room_id: position for room_id, (position, _) in wanted.items()}
        found, cut = await database.query(messages.following, positions, FILL_MESSAGES)
        for room_id, (position, newest) in wanted.items():
            audience = self._rooms.get(room_id)
            if audience is None or audience.order is not orders[room_id]:
                continue
            items = [(message.seq, _envelope(message)) for message in found.get(room_id, ())]
            last = items[-1][0] if items else position
            # What the database does not have up to the newest that was known has gone.
            ready = audience.order.fill(items, last if room_id in cut else max(last, newest))
            self._pass_on(room_id, audience, ready)
            if audience.order.is_behind:
                self._behind.add(room_id)
        self._flush()

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


def _envelope(message: MessageData) -> dict:
    return {
        "room": message.chat,
        "text": protocol.encode(Message(message, message.chat)),
        "seq": message.seq,
        "sender": message.sender,
    }


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
