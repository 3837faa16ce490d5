"""Messages become durable here, in batches (group commit).

What arrives while a commit is under way becomes the next transaction, so that the database sees one transaction for
many messages under load, and none waits when there is no load. Each room counts its messages without a gap, inside that
transaction.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from django.db import transaction
from django.utils import timezone

from chat import database, protocol, rooms
from chat.models import ChatMessage, ChatRoom, MessageType
from chat.people import person
from chat.protocol import ChatError, MessageData, SenderInfo

logger = logging.getLogger(__name__)

MAX_BATCH = 200
"""Messages of one transaction: enough to spread the cost of a commit, few enough that nobody waits long for it."""


@dataclass(frozen=True)
class Draft:
    """A message that was checked and is not yet stored."""

    room_id: int
    sender: SenderInfo
    content: str
    message_type: str = MessageType.TEXT
    extra_data: dict | None = None
    uuid: UUID = field(default_factory=uuid4)


class Journal:
    """Stores drafts; one a process. `append` returns once the message is committed."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Draft, asyncio.Future[MessageData]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def append(self, draft: Draft) -> MessageData:
        """The stored message.

        Raises `ChatError`: `invalid_room` when the room was deleted meanwhile, `unavailable` when the database is away.
        """
        stored: asyncio.Future[MessageData] = asyncio.get_running_loop().create_future()
        self._waiting.append((draft, stored))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all())
        return await stored

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                outcomes = await self._write([draft for draft, _ in batch])
                for (_, stored), outcome in zip(batch, outcomes, strict=True):
                    if stored.done():  # the one who waited has gone
                        continue
                    if isinstance(outcome, Exception):
                        stored.set_exception(outcome)
                    else:
                        stored.set_result(outcome)
        finally:
            self._writer = None

    async def _write(self, drafts: list[Draft]) -> Sequence[MessageData | Exception]:
        try:
            return await database.query(write, drafts)
        except ChatError as error:
            return [error] * len(drafts)
        except Exception as error:
            if len(drafts) == 1:
                logger.exception("A message could not be stored")
                return [error]
            # One draft that the database refuses must not take the others with it.
            return [outcome for draft in drafts for outcome in await self._write([draft])]


@transaction.atomic
def write(drafts: list[Draft]) -> list[MessageData | ChatError]:
    """Store drafts in one transaction, in their order; in the place of one whose room is gone stands the error."""
    wanted = sorted({draft.room_id for draft in drafts})
    # Locked in the order of their ids, so that two processes with the same rooms cannot wait for each other.
    locked = ChatRoom.objects.select_for_update().filter(pk__in=wanted, is_deleted=False).order_by("pk")
    found = {room.pk: room for room in locked}
    now = timezone.now()
    messages: list[ChatMessage | None] = []
    for draft in drafts:
        if (room := found.get(draft.room_id)) is None:
            messages.append(None)
            continue
        room.last_seq += 1
        # A frontend sorts by this moment, so within a room it rises with every message, whatever the clock does.
        room.last_update = max(now, room.last_update + timedelta(microseconds=1))
        messages.append(_message(draft, room.last_seq, room.last_update))
    ChatMessage.objects.bulk_create([message for message in messages if message])
    ChatRoom.objects.bulk_update(found.values(), ["last_seq", "last_update"])
    return [
        message_data(message, draft.sender) if message else rooms.invalid_room()
        for message, draft in zip(messages, drafts, strict=True)
    ]


def _message(draft: Draft, seq: int, moment: datetime) -> ChatMessage:
    return ChatMessage(
        uuid=draft.uuid,
        room_id=draft.room_id,
        seq=seq,
        sender_id=draft.sender.id,
        content=draft.content,
        message_type=draft.message_type,
        extra_data=draft.extra_data,
        created_at=moment,
        last_update=moment,
    )


def message_data(message: ChatMessage, sender: SenderInfo | None = None) -> MessageData:
    """A stored message as it goes over the wire; what was deleted goes without its content."""
    return MessageData(
        id=message.pk,
        uuid=str(message.uuid),
        seq=message.seq,
        content="" if message.is_deleted else message.content,
        sender=message.sender_id,
        chat=message.room_id,
        created_at=protocol.timestamp(message.created_at),
        last_update=protocol.timestamp(message.last_update),
        is_deleted=message.is_deleted,
        extra_data=message.extra_data,
        message_type=message.message_type,
        attachment_url=None,
        voice_note_url=None,
        attachments=[],
        client_id=message.client_id,
        sender_info=sender or person(message.sender),
    )


def newest(room_id: int, limit: int) -> list[MessageData]:
    """The newest messages of a room, at most `limit`, oldest first."""
    messages = ChatMessage.objects.filter(room_id=room_id).select_related("sender").order_by("-seq")[:limit]
    return [message_data(message) for message in reversed(messages)]
