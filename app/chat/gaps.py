"""What has not come to this process though it is stored: noticed, read from the database, and passed on.

A message that comes says by its number what is missing before it (`chat.order`). The last one before a silence has no
other behind it: so the rooms that somebody here has joined are looked at now and then, and at once when the channel
layer says that it has lost something.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from django.utils import timezone

from chat import database, histories, protocol
from chat.audience import Audience
from chat.batches import slices
from chat.protocol import ChatError, MessageData, RoomUpdate, RoomUpdateData
from chat.relay import Envelope, message_envelope
from salon import measures
from salon.logs import about, nobodys

logger = logging.getLogger(__name__)

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


PassOn = Callable[[int, Audience, Sequence[tuple[int, Envelope]]], None]


class Gaps:
    """The gaps in the rooms of this process; one a process.

    `rooms` are those that somebody here has joined. Messages whose turn it is are given to `pass_on`, with the room's
    id and who is to get them; other events to `send`, with the room's id.
    """

    def __init__(self, rooms: Mapping[int, Audience], pass_on: PassOn, send: Callable[[int, str], None]) -> None:
        self._rooms = rooms
        self._pass_on = pass_on
        self._send = send
        self._behind: set[int] = set()
        """Rooms of which messages are missing."""
        self._filler: asyncio.Task[None] | None = None
        self._look_now = asyncio.Event()
        self._has_missed_changes = False

    def notice(self, room_id: int, audience: Audience) -> None:
        """See whether something of a room is missing, and have it read soon."""
        if audience.order.is_behind:
            self._behind.add(room_id)
            if self._filler is None:
                self._filler = asyncio.create_task(self._fill(), context=nobodys())

    def suspect(self) -> None:
        """The channel layer has lost something, and hears again."""
        for audience in self._rooms.values():
            audience.recent = None
        self._has_missed_changes = True
        self._look_now.set()

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
        found = await database.look_up(histories.newest_numbers, list(positions))
        for room_id, newest in found.items():
            if (audience := self._rooms.get(room_id)) is None or audience.order.position is None:
                continue
            if newest < positions[room_id]:
                logger.warning(
                    "Room %d has lost messages: the newest is now %d",
                    room_id,
                    newest,
                    extra=about("room.went_back", room=room_id),
                )
                audience.go_back(newest)
            audience.order.expect(newest)
            self.notice(room_id, audience)
        if self._has_missed_changes:
            self._has_missed_changes = False
            try:
                await self._tell_changes(list(positions))
            except ChatError:
                self._has_missed_changes = True
                raise

    async def _tell_changes(self, room_ids: Sequence[int]) -> None:
        since = timezone.now() - timedelta(seconds=LONGEST_BREAK)
        for message in await database.look_up_many(histories.changed_since, room_ids, since, FILL_MESSAGES):
            kind = "message_deleted" if message.is_deleted else "message_edited"
            event = RoomUpdate(RoomUpdateData(room_id=message.chat, kind=kind, message=message))
            self._send(message.chat, protocol.encode(event))

    async def stop(self) -> None:
        """End what runs in the background."""
        if self._filler:
            self._filler.cancel()
            await asyncio.gather(self._filler, return_exceptions=True)

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
        found, cut = await database.look_up_many(histories.following, positions, FILL_MESSAGES)
        for room_id, (position, newest) in wanted.items():
            audience = self._rooms.get(room_id)
            if audience is None or audience.order is not orders[room_id]:
                continue
            items = [(message.seq, message_envelope(message, _moment(message))) for message in found.get(room_id, ())]
            last = items[-1][0] if items else position
            # What the database does not have up to the newest that was known has gone.
            measures.counts.filled_gaps += bool(items)
            measures.counts.filled_messages += len(items)
            ready = audience.order.fill(items, last if room_id in cut else max(last, newest))
            self._pass_on(room_id, audience, ready)
            self.notice(room_id, audience)


def _moment(message: MessageData) -> float:
    """When it was stored: when it was received, only the process knows that has."""
    return datetime.fromisoformat(message.created_at).timestamp()
