"""Messages become durable here, in batches (group commit).

What arrives while a commit is under way becomes the next transaction, so that the database sees one transaction for
many messages under load, and none waits when there is no load. Each room counts its messages without a gap, inside that
transaction.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from django.conf import settings
from django.db import IntegrityError, OperationalError, transaction
from django.utils import timezone
from msgspec import Struct, field, structs

from chat import database, files, messages, postgresql, protocol, rooms
from chat.batches import Batches
from chat.files import StoredFile
from chat.models import Attachment, ChatMessage, ChatRoom, Membership, MessageType
from chat.protocol import ChatError, ErrorCode, MessageData, SenderInfo

logger = logging.getLogger(__name__)

MAX_BATCH = 200
"""Messages of one transaction: enough to spread the cost of a commit, few enough that nobody waits long for it."""

PACE = 0.005
"""Seconds from the beginning of one transaction to that of the next: what comes in between shares it, and its publish.
Nobody sees a message five milliseconds earlier; a server that carries hundreds a second does a fraction of the work."""


class Draft(Struct, frozen=True):
    """A message that was checked and is not yet stored. `files` are safe already."""

    room_id: int
    sender: SenderInfo
    content: str
    client_id: str | None = None
    message_type: str = MessageType.TEXT
    extra_data: dict | None = None
    files: tuple[StoredFile, ...] = ()
    uuid: UUID = field(default_factory=uuid4)

    def cleaned(self, sender: SenderInfo) -> "Draft":
        """The draft as it is stored, and its sender as others see her now. Raises `ChatError` (`content_…`)."""
        if self.client_id is not None and not protocol.is_storable(self.client_id):
            raise ChatError(ErrorCode.CONTENT_INVALID, "The `client_id` holds NUL; send a name without.")
        return structs.replace(
            self, sender=sender, content=protocol.clean_content(self.content, may_be_empty=bool(self.files))
        )


class Stored(Struct, frozen=True):
    """A stored message; not a new one, but the first, when its sender has used its `client_id` before."""

    message: MessageData
    is_new: bool = True


class Journal:
    """Stores drafts, and has the new messages told (`tell`), in order; one a process."""

    def __init__(self, tell: Callable[[list[MessageData]], None]) -> None:
        self._tell = tell
        self._line = postgresql.Line()
        self._batches: Batches[Draft, Stored] = Batches(
            self._write_and_tell, MAX_BATCH, PACE, settings.DATABASE_TIMEOUT
        )

    async def append(self, draft: Draft) -> Stored:
        """The message once it is committed; it is told to the others even when whoever waited has gone.

        Raises `ChatError`: `invalid_room` when she is not an active member of a living room, `forbidden` when she may
        not write there, `unavailable` when the database is away; then it is not stored later, unless its writing has
        begun.
        """
        try:
            # Whoever waits may go: the draft stays.
            return await asyncio.shield(self._batches.put(draft))
        except TimeoutError:
            raise database.unavailable("timed out") from None

    async def finish(self) -> None:
        """Wait until what was given to it is stored; nothing is given to it afterwards."""
        await self._batches.finish()
        await self._line.close()

    async def _write_and_tell(self, drafts: list[Draft]) -> Sequence[Stored | Exception]:
        outcomes = await self._write(drafts)
        if new := [stored.message for stored in outcomes if isinstance(stored, Stored) and stored.is_new]:
            self._tell(new)
        return outcomes

    async def _write(self, drafts: list[Draft]) -> Sequence[Stored | Exception]:
        try:
            if settings.HAS_POSTGRESQL and not any(draft.files for draft in drafts):
                return await self._write_at_once(drafts)
            return await database.finish(write, drafts)
        except ChatError as error:
            return [error] * len(drafts)
        except OperationalError as error:
            return [database.unavailable(str(error).strip())] * len(drafts)
        except Exception as error:
            if len(drafts) == 1:
                logger.exception("A message could not be stored")
                return [error]
            # One draft that the database refuses must not take the others with it.
            return [outcome for draft in drafts for outcome in await self._write([draft])]

    async def _write_at_once(self, drafts: list[Draft]) -> list[Stored | ChatError]:
        """The same as `write` on PostgreSQL, for messages without files, of people whose roles let them write."""
        # Of two drafts of one name in a batch, the second is answered with the first.
        firsts: dict[object, Draft] = {}
        for draft in drafts:
            firsts.setdefault(_name(draft) if draft.client_id else draft.uuid, draft)
        writings = [_writing(position, draft) for position, draft in enumerate(firsts.values())]
        try:
            written = await self._line.store(writings)
        except IntegrityError:
            # Somebody has stored a message of the same name meanwhile; it is seen now.
            written = await self._line.store(writings)
        stored = {
            draft.uuid: _data(draft, found)
            for draft, writing in zip(firsts.values(), writings, strict=True)
            if (found := written.get(writing.uuid))
        }
        left_out = [draft for draft in firsts.values() if draft.uuid not in stored and draft.client_id]
        known = await database.query(_known, left_out) if left_out else {}
        outcomes: list[Stored | ChatError] = []
        for draft in drafts:
            first = firsts[_name(draft) if draft.client_id else draft.uuid]
            if message := stored.get(first.uuid):
                outcomes.append(Stored(message, is_new=first is draft))
            else:
                outcomes.append(known.get(_name(draft)) or rooms.invalid_room())
        return outcomes


def _writing(position: int, draft: Draft) -> postgresql.Writing:
    return postgresql.Writing(
        position,
        draft.room_id,
        draft.sender.id,
        str(draft.uuid),
        draft.content,
        draft.client_id,
        draft.message_type,
        draft.extra_data,
    )


def _data(draft: Draft, written: postgresql.Written) -> MessageData:
    return MessageData(
        id=written.id,
        uuid=str(draft.uuid),
        seq=written.seq,
        content=draft.content,
        sender=draft.sender.id,
        chat=draft.room_id,
        created_at=written.created_at,
        last_update=written.created_at,
        is_deleted=False,
        extra_data=draft.extra_data,
        message_type=draft.message_type,
        attachment_url=None,
        voice_note_url=None,
        attachments=[],
        client_id=draft.client_id,
        sender_info=draft.sender,
    )


@transaction.atomic
def write(drafts: list[Draft]) -> list[Stored | ChatError]:
    """Store drafts in one transaction, in their order; in the place of one that may not be stored stands the error."""
    wanted = sorted({draft.room_id for draft in drafts})
    # Locked in the order of their ids, so that two processes with the same rooms cannot wait for each other.
    locked = ChatRoom.objects.select_for_update().filter(pk__in=wanted, is_deleted=False).order_by("pk")
    found = {room.pk: room for room in locked}
    members = _members(drafts)
    known = _known(drafts)
    now = timezone.now()
    outcomes: list[ChatMessage | Stored | ChatError] = []
    for draft in drafts:
        room, member = found.get(draft.room_id), members.get((draft.room_id, draft.sender.id))
        if room is None or member is None:
            outcomes.append(rooms.invalid_room())
        elif refusal := rooms.refusal_to_write(room.room_type, member.user.role):
            outcomes.append(refusal)
        elif draft.client_id and (earlier := known.get(_name(draft))):
            outcomes.append(earlier)
        else:
            room.last_seq += 1
            # A frontend sorts by this moment, so within a room it rises with every message, whatever the clock does.
            room.last_update = max(now, room.last_update + timedelta(microseconds=1))
            # Who writes has read what is above.
            member.read_seq = member.delivered_seq = room.last_seq
            message = _message(draft, room.last_seq, room.last_update)
            outcomes.append(message)
            if draft.client_id:
                known[_name(draft)] = message
    _store(drafts, outcomes)
    ChatRoom.objects.bulk_update(found.values(), ["last_seq", "last_update"])
    Membership.objects.bulk_update(members.values(), ["read_seq", "delivered_seq"])
    return _answers(drafts, outcomes)


def _name(draft: Draft) -> tuple[int, int, str | None]:
    return draft.room_id, draft.sender.id, draft.client_id


def _members(drafts: list[Draft]) -> dict[tuple[int, int], Membership]:
    wanted = {(draft.room_id, draft.sender.id) for draft in drafts}
    found = Membership.objects.select_related("user").filter(
        room_id__in={room_id for room_id, _ in wanted},
        user_id__in={user_id for _, user_id in wanted},
        user__is_active=True,
    )
    locked = found.select_for_update(of=("self",)).order_by("pk")
    return {(each.room_id, each.user_id): each for each in locked if (each.room_id, each.user_id) in wanted}


def _known(drafts: list[Draft]) -> dict[tuple[int, int, str | None], ChatMessage | Stored]:
    """What was stored before under the names that the drafts bear."""
    named = [draft for draft in drafts if draft.client_id]
    if not named:
        return {}
    found = messages.complete().filter(
        room_id__in={draft.room_id for draft in named},
        sender_id__in={draft.sender.id for draft in named},
        client_id__in={draft.client_id for draft in named},
    )
    return {
        (each.room_id, each.sender_id, each.client_id): Stored(messages.message_data(each), is_new=False)
        for each in found
    }


def _store(drafts: list[Draft], outcomes: list[ChatMessage | Stored | ChatError]) -> None:
    new = {id(each): each for each in outcomes if isinstance(each, ChatMessage)}
    ChatMessage.objects.bulk_create(new.values())
    attachments = [
        Attachment(
            uuid=file.uuid,
            message=message,
            kind=file.kind,
            position=position,
            name=file.name,
            content_type=file.content_type,
            size=file.size,
        )
        for draft, message in zip(drafts, outcomes, strict=True)
        if isinstance(message, ChatMessage) and message.uuid == draft.uuid
        for position, file in enumerate(draft.files)
    ]
    if attachments:
        Attachment.objects.bulk_create(attachments)


def _answers(drafts: list[Draft], outcomes: list[ChatMessage | Stored | ChatError]) -> list[Stored | ChatError]:
    answers = []
    originals = {draft.uuid: draft for draft in drafts}
    for draft, outcome in zip(drafts, outcomes, strict=True):
        if isinstance(outcome, ChatMessage):
            # Of two drafts of one name in a batch, the second is answered with the first.
            attachments = [files.attachment_data(file) for file in originals[outcome.uuid].files]
            data = messages.message_data(outcome, draft.sender, attachments)
            answers.append(Stored(data, is_new=outcome.uuid == draft.uuid))
        else:
            answers.append(outcome)
    return answers


def _message(draft: Draft, seq: int, moment: datetime) -> ChatMessage:
    return ChatMessage(
        uuid=draft.uuid,
        room_id=draft.room_id,
        seq=seq,
        sender_id=draft.sender.id,
        content=draft.content,
        client_id=draft.client_id,
        message_type=draft.message_type,
        extra_data=draft.extra_data,
        created_at=moment,
        last_update=moment,
    )
