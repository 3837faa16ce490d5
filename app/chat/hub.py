"""The sockets of one process, and the way of an event to all of them in all processes.

The process takes part in the channel layer as one channel, which is in the group of each room that a socket here has
joined. An event is encoded once, by the process that publishes it, and every socket is handed the same text.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection

from channels.layers import BaseChannelLayer, get_channel_layer
from django.conf import settings

from chat import protocol
from chat.protocol import ChatError, ErrorCode, SenderInfo, ServerEvent

logger = logging.getLogger(__name__)

PEOPLE = "chat_people"
"""The group that every process is in: events for persons, wherever they are connected."""


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


class Connection:
    """One WebSocket: who it belongs to, the rooms it has joined, and what is still to be sent to it, in order."""

    def __init__(self, send: Callable[[dict], Awaitable[None]]) -> None:
        self.person: SenderInfo | None = None
        self.rooms: set[int] = set()
        self._send = send
        self._outbox: deque[dict] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._closing = False

    def send(self, text: str) -> None:
        """Send a text frame, after all that was given before; nothing after `close`."""
        self._put({"type": "websocket.send", "text": text})

    def close(self, code: int) -> None:
        """Close with this code once all that was given before is sent."""
        self._put({"type": "websocket.close", "code": int(code)})
        self._closing = True

    async def abandon(self) -> None:
        """The socket is gone: forget what is still to be sent."""
        self._closing = True
        self._outbox.clear()
        if self._writer:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer

    def _put(self, message: dict) -> None:
        if self._closing:
            return
        self._outbox.append(message)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._outbox:
                await self._send(self._outbox.popleft())
        except Exception as error:  # noqa: BLE001 (servers differ in what they raise when the peer is gone)
            self._closing = True
            self._outbox.clear()
            logger.info("A socket went away while it was written to: %r", error)
        finally:
            self._writer = None


class Hub:
    """All sockets of this process; one a process."""

    def __init__(self) -> None:
        self._people: defaultdict[int, set[Connection]] = defaultdict(set)
        self._rooms: defaultdict[int, set[Connection]] = defaultdict(set)
        self._channel = ""
        self._groups: set[str] = set()
        self._reader: asyncio.Task[None] | None = None
        self._subscribing = asyncio.Lock()
        self._echoes: dict[str, asyncio.Future[None]] = {}

    async def connect(self, connection: Connection, person: SenderInfo) -> None:
        """From now on, events for this person reach this socket."""
        connection.person = person
        self._people[person.id].add(connection)
        await self._subscribe(PEOPLE)

    async def disconnect(self, connection: Connection) -> None:
        """The socket is gone, or about to be."""
        for room_id in list(connection.rooms):
            await self.leave(connection, room_id)
        if connection.person:
            self._discard(self._people, connection.person.id, connection)

    async def join(self, connection: Connection, room_id: int) -> None:
        """From now on, events of this room reach this socket.

        Raises `ChatError` (`unavailable`) when the channel layer does not answer; the room is then not joined.
        """
        connection.rooms.add(room_id)
        self._rooms[room_id].add(connection)
        try:
            await self._subscribe(room_group(room_id))
        except ChatError:
            connection.rooms.discard(room_id)
            self._discard(self._rooms, room_id, connection)
            raise

    async def leave(self, connection: Connection, room_id: int) -> None:
        """From now on, events of this room do not reach this socket."""
        connection.rooms.discard(room_id)
        self._discard(self._rooms, room_id, connection)
        await self._unsubscribe_if_empty(room_id)

    async def publish_to_room(
        self,
        room_id: int,
        event: ServerEvent,
        *,
        except_person: int | None = None,
        then_remove: Collection[int] = (),
        then_empty: bool = False,
    ) -> None:
        """Send an event to every socket that has joined the room, in every process.

        Sockets of `except_person` are left out; sockets of the persons in `then_remove`, or with `then_empty` all of
        them, get the event and are then no longer in the room.
        """
        envelope = {"room": room_id, "text": protocol.encode(event)}
        if except_person is not None:
            envelope["except"] = except_person
        if then_remove:
            envelope["remove"] = list(then_remove)
        if then_empty:
            envelope["empty"] = True
        await self._publish(room_group(room_id), envelope)

    async def publish_to_people(self, user_ids: Collection[int], event: ServerEvent) -> None:
        """Send an event to every socket of these persons, in every process."""
        if user_ids:
            await self._publish(PEOPLE, {"people": list(user_ids), "text": protocol.encode(event)})

    async def check(self) -> None:
        """Raise `ChatError` unless what this process publishes comes back to it within `CHANNEL_LAYER_TIMEOUT`."""
        echo = asyncio.get_running_loop().create_future()
        name = str(id(echo))
        self._echoes[name] = echo
        try:
            await self._subscribe(PEOPLE)
            async with _channel_layer() as layer:
                await layer.send(self._channel, {"type": "hub", "echo": name})
                await echo
        finally:
            del self._echoes[name]

    async def _publish(self, group: str, envelope: dict) -> None:
        try:
            async with _channel_layer() as layer:
                await layer.group_send(group, {"type": "hub", **envelope})
        except ChatError:
            # What is stored is stored: those who are connected here need not wait for the others' way back.
            await self._deliver(envelope)

    async def _subscribe(self, group: str) -> None:
        if group in self._groups:
            return
        async with self._subscribing, _channel_layer() as layer:
            if not self._channel:
                self._channel = await layer.new_channel()
            if self._reader is None:
                self._reader = asyncio.create_task(self._read())
            if group not in self._groups:
                await layer.group_add(group, self._channel)
                self._groups.add(group)

    async def _unsubscribe_if_empty(self, room_id: int) -> None:
        group = room_group(room_id)
        if room_id in self._rooms or group not in self._groups:
            return
        with contextlib.suppress(ChatError):
            async with self._subscribing, _channel_layer() as layer:
                # Somebody may have joined while the lock was waited for.
                if room_id not in self._rooms and group in self._groups:
                    self._groups.discard(group)
                    await layer.group_discard(group, self._channel)

    async def _read(self) -> None:
        layer = get_channel_layer()
        while True:
            try:
                envelope = await layer.receive(self._channel)
                await self._deliver(envelope)
            except Exception:
                logger.exception("An event from the channel layer could not be delivered")
                await asyncio.sleep(1)

    async def _deliver(self, envelope: dict) -> None:
        if (name := envelope.get("echo")) is not None:
            if (echo := self._echoes.get(name)) and not echo.done():
                echo.set_result(None)
        elif (room_id := envelope.get("room")) is not None:
            await self._deliver_to_room(room_id, envelope)
        else:
            for user_id in envelope["people"]:
                for connection in self._people.get(user_id, ()):
                    connection.send(envelope["text"])

    async def _deliver_to_room(self, room_id: int, envelope: dict) -> None:
        excepted = envelope.get("except")
        connections = self._rooms.get(room_id, ())
        for connection in connections:
            if connection.person.id != excepted:
                connection.send(envelope["text"])
        removed = envelope.get("remove", ())
        if removed or envelope.get("empty"):
            for connection in list(connections):
                if envelope.get("empty") or connection.person.id in removed:
                    await self.leave(connection, room_id)

    @staticmethod
    def _discard(index: defaultdict[int, set[Connection]], key: int, connection: Connection) -> None:
        if key in index:
            index[key].discard(connection)
            if not index[key]:
                del index[key]


hub = Hub()
