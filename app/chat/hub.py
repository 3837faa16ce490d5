"""The sockets of one process, and the way of an event to all of them in all processes.

An event is encoded once, by the process that publishes it, and every socket is handed the same text: those of that
process at once, those of the others by way of the channel layer (`chat.relay`), which may lose what it is given.
Messages have numbers without a gap, so what is missing of a room is noticed and read from the database (`chat.gaps`):
nobody misses a message, and all get them in one order (`chat.order`).
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

from django.conf import settings

from chat import follow, protocol, services
from chat.audience import Audience
from chat.auth import Identity
from chat.connection import Attendance, Connection
from chat.gaps import Gaps
from chat.protocol import MessageData, RoomUpdate, RoomUpdateData, ServerEvent, UserStatus
from chat.relay import CHANGED, PEOPLE, Addressed, Envelope, Relay, message_envelope, room_group
from salon import frames, measures

logger = logging.getLogger(__name__)

SHOWN_ANEW = ("message_edited", "message_deleted")
"""Kinds of `room_update` after which what is remembered of a room's messages is not as it was."""

MAX_CHANGES = 1000
"""Changes of a room's messages that are kept while messages are missing; beyond, the oldest are lost."""


class Hub:
    """All sockets of this process; one a process."""

    def __init__(self) -> None:
        self._people: defaultdict[int, set[Connection]] = defaultdict(set)
        self._rooms: dict[int, Audience] = {}
        self._relay = Relay(self._deliver_all, self._layer_broke)
        self.gaps = Gaps(self._rooms, self._fill, self._tell_change)
        self._arrived: dict[int, int] = {}
        self._lapses: dict[tuple[int, int], tuple[asyncio.TimerHandle, str]] = {}
        self._on_notice: list[Callable[[dict], None]] = [self._hear]
        self._unsent: list[Audience] = []
        self._moments: list[float] = []
        """When the messages were received that sockets get with the next `_flush`."""
        self._on_removal: list[Callable[[int, Collection[int] | None], None]] = []

    async def connect(self, connection: Connection, identity: Identity) -> None:
        """From now on, events for this person reach this socket."""
        await self._relay.enter(PEOPLE)
        if not connection.is_closing:
            connection.identity = identity
            self._people[identity.person.id].add(connection)

    def connections(self, user_id: int) -> Collection[Connection]:
        """Her sockets in this process."""
        return self._people.get(user_id, ())

    def people(self) -> dict[int, set[Connection]]:
        """Who is connected to this process, and her sockets."""
        return self._people

    def room_count(self) -> int:
        """How many rooms somebody here has joined."""
        return len(self._rooms)

    def disconnect(self, connection: Connection) -> None:
        """The socket is gone, or about to be."""
        for room_id in list(connection.rooms):
            self.leave(connection, room_id)
        if connection.person:
            _discard(self._people, connection.person.id, connection)

    def hears(self, room_id: int) -> bool:
        """Whether this process receives the room's events, or will as soon as the channel layer answers."""
        return self._relay.is_in(room_group(room_id))

    async def listen(self, room_id: int) -> None:
        """Have this process receive the room's events. With the channel layer away, its messages come a moment later:
        they are looked for in the database."""
        await self._relay.enter(room_group(room_id))

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
            self._relay.keep(room_group(room_id))
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

    def restore(self, connection: Connection, room_id: int, attendance: Attendance, earlier: Attendance) -> None:
        """Let it be as before a join that came to nothing: what was held meanwhile goes to the socket."""
        attendance.arrived = earlier.arrived
        self.release(connection, room_id, attendance, newest=None, after=earlier.after)

    def _begin(self, room_id: int, audience: Audience, newest: int) -> None:
        if audience.order.position is not None:
            # What was looked up may be news.
            audience.order.expect(newest)
        else:
            before, ready = audience.order.begin(newest)
            for attendance in audience.held():
                attendance.begun = newest
                attendance.held += [(seq, envelope["text"]) for seq, envelope in before]
            if audience.recent and not audience.recent.reaches(newest):
                audience.recent = None
            self._pass_on(room_id, audience, ready)
            self._flush()
        self.gaps.notice(room_id, audience)

    def leave(self, connection: Connection, room_id: int) -> None:
        """From now on, events of this room do not reach this socket."""
        if connection.rooms.pop(room_id, None) is None:
            return
        audience = self._rooms[room_id]
        audience.discard(connection)
        if not audience.connections:
            del self._rooms[room_id]
            self._relay.leave(room_group(room_id))

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

    def tell(self, stored: Sequence[MessageData], received_at: Sequence[float]) -> None:
        """Send stored messages on their way to every socket that has joined their rooms, in their order.

        `received_at` has for each when it came from her who has said it.
        """
        envelopes = [
            (room_group(message.chat), message_envelope(message, moment))
            for message, moment in zip(stored, received_at, strict=True)
        ]
        self._deliver_here(envelopes)
        self._relay.send_soon(envelopes)

    def brings(self, connection: Connection, message: MessageData) -> bool:
        """Whether a stored message, which may have been told by another process, is yet to come to a socket that has
        joined its room: before it come others, which a receipt must not overtake."""
        audience, attendance = self._rooms[message.chat], connection.rooms[message.chat]
        position = audience.order.position
        if position is None or message.seq <= max(position, attendance.after):
            return False
        audience.order.expect(message.seq)
        self.gaps.notice(message.chat, audience)
        return True

    async def finish(self) -> None:
        """Wait until what was told is published."""
        await self._relay.finish()

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
        await self._relay.check()

    async def listen_to_missing(self) -> None:
        """Receive the events that could not be received when it was wanted, and have the others know of changes that
        could not be sent. Raises `ChatError` (`unavailable`)."""
        await self._relay.enter_missing()
        await self._relay.tell_lost_changes()

    async def stop(self) -> None:
        """End what runs in the background; the hub is not used afterwards."""
        for timer, _ in self._lapses.values():
            timer.cancel()
        await self._relay.stop()
        await self.gaps.stop()

    async def _publish(self, envelopes: Sequence[Addressed]) -> None:
        """Send envelopes, each to its group."""
        self._deliver_here(envelopes)
        if services.channel_layer.is_away and asyncio.get_running_loop() is self._relay.loop:
            # Nobody waits for what may not answer; that it is tried all the same tells when it answers again.
            self._relay.send_soon(envelopes)
        else:
            await self._relay.send(envelopes)

    def _deliver_here(self, envelopes: Sequence[Addressed]) -> None:
        if (loop := self._relay.loop) is None or loop.is_closed():
            return
        self._relay.mark(envelopes)
        here = [envelope for _, envelope in envelopes]
        if asyncio.get_running_loop() is loop:
            self._deliver_all(here)
        else:
            loop.call_soon_threadsafe(self._deliver_all, here)

    def _hear(self, notice: dict) -> None:
        if notice == CHANGED:
            self.gaps.suspect()

    def _layer_broke(self) -> None:
        self.gaps.suspect()

    def _deliver_all(self, envelopes: Sequence[Envelope]) -> None:
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
        if self._moments:
            now, moments, self._moments = time.time(), self._moments, []
            for moment in moments:
                measures.delivered.observe(now - moment)

    def _deliver(self, envelope: Envelope) -> None:
        if (room_id := envelope.get("room")) is not None:
            self._deliver_to_room(room_id, envelope)
        elif (notice := envelope.get("notice")) is not None:
            for receiver in self._on_notice:
                receiver(notice)
        else:
            self._flush()
            for user_id in envelope["people"]:
                if follow.following and self._people.get(user_id) and follow.concerns(user_id, None):
                    follow.tell("event.delivered", user=user_id, type=follow.event_type(envelope["text"]))
                for connection in self._people.get(user_id, ()):
                    connection.send(envelope["text"])
                    if (present := envelope.get("present")) is not None:
                        _remember_told(connection, present)

    def _deliver_to_room(self, room_id: int, envelope: Envelope) -> None:
        if "seq" in envelope:
            self._take(room_id, envelope)
            return
        excepted = envelope.get("except")
        removed, everyone = envelope.get("remove", ()), envelope.get("empty", False)
        if excepted is not None:
            self._expect_lapse(room_id, excepted, envelope.get("lapse"))
        elif envelope.get("anew"):
            self._change(room_id, envelope["text"])
            return
        self._send(room_id, envelope["text"], excepted=excepted, can_wait=not (removed or everyone))
        if removed or everyone:
            self._flush()
            for receiver in self._on_removal:
                receiver(room_id, None if everyone else removed)
            for connection in list(self._here(room_id)):
                if everyone or connection.person.id in removed:
                    self.leave(connection, room_id)

    def _take(self, room_id: int, envelope: Envelope) -> None:
        """A message has come, and has its turn or waits for it."""
        # With what she says, she types no longer.
        for connection in self.connections(envelope["sender"]):
            connection.typing.pop(room_id, None)
        if (audience := self._rooms.get(room_id)) is None:
            return
        self._pass_on(room_id, audience, audience.order.take(envelope["seq"], envelope))
        self.gaps.notice(room_id, audience)

    def _fill(self, room_id: int, audience: Audience, ready: Sequence[tuple[int, Envelope]]) -> None:
        self._pass_on(room_id, audience, ready)
        self._flush()

    def _tell_change(self, room_id: int, text: str) -> None:
        self._change(room_id, text)
        self._flush()

    def _change(self, room_id: int, text: str) -> None:
        """A message was changed, which is told behind the message itself."""
        if (audience := self._rooms.get(room_id)) is None:
            return
        audience.recent = None
        if audience.order.position is None or audience.order.is_behind:
            audience.changes.append(text)
            del audience.changes[:-MAX_CHANGES]
        else:
            self._send(room_id, text)

    def _pass_on(self, room_id: int, audience: Audience, ready: Sequence[tuple[int, Envelope]]) -> None:
        for seq, envelope in ready:
            self._arrived[room_id] = max(seq, self._arrived.get(room_id, 0))
            self._lapse(room_id, envelope["sender"])
            if audience.recent:
                audience.recent.add(seq, envelope["text"])
            if (moment := envelope.get("at")) is not None:
                self._moments.append(moment)
            self._send(room_id, envelope["text"], seq=seq)
        if audience.changes and not audience.order.is_behind:
            changes, audience.changes = audience.changes, []
            for text in changes:
                self._send(room_id, text)

    def _send(
        self, room_id: int, text: str, *, seq: int | None = None, excepted: int | None = None, can_wait: bool = True
    ) -> None:
        if (audience := self._rooms.get(room_id)) is None:
            return
        frame = frames.text(text.encode())
        if follow.following:
            self._tell_followers(room_id, audience, text, seq, excepted)
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
                measures.counts.delivered_others += 1
                connection.socket.send_frames(frame)
            else:
                connection.send(text)

    def _tell_followers(
        self, room_id: int, audience: Audience, text: str, seq: int | None, excepted: int | None
    ) -> None:
        fields = {"type": follow.event_type(text), "room": room_id, "seq": seq}
        if follow.concerns(None, room_id):
            follow.tell("event.delivered", connections=len(audience.connections), **fields)
            return
        for connection in audience.connections:
            if connection.person.id != excepted and follow.concerns(connection.person.id, None):
                follow.tell("event.delivered", user=connection.person.id, connection=connection.caller.id, **fields)

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
