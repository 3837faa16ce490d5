"""Messages become durable here, in batches (group commit).

What arrives while a commit is under way becomes the next transaction, so that the database sees one transaction for
many messages under load, and none waits when there is no load. Each room counts its messages without a gap, inside that
transaction.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from django.db import transaction
from django.utils import timezone

from chat import database, files, messages, protocol, rooms
from chat.batches import Batches
from chat.files import StoredFile
from chat.models import Attachment, ChatMessage, ChatRoom, Membership, MessageType
from chat.protocol import ChatError, ErrorCode, MessageData, SenderInfo

logger = logging.getLogger(__name__)

MAX_BATCH = 200
"""Messages of one transaction: enough to spread the cost of a commit, few enough that nobody waits long for it."""


@dataclass(frozen=True)
class Draft:
    """A message that was checked and is not yet stored. `files` are safe already."""

    room_id: int
    sender: SenderInfo
    content: str
    client_id: str | None = None
    message_type: str = MessageType.TEXT
    extra_data: dict | None = None
    files: tuple[StoredFile, ...] = ()
    uuid: UUID = field(default_factory=uuid4)

    def cleaned(self) -> "Draft":
        """The draft with its text as it is stored. Raises `ChatError` (`content_…`)."""
        if self.client_id is not None and not protocol.is_storable(self.client_id):
            raise ChatError(ErrorCode.CONTENT_INVALID, "The `client_id` holds NUL; send a name without.")
        return replace(self, content=protocol.clean_content(self.content, may_be_empty=bool(self.files)))


@dataclass(frozen=True)
class Stored:
    """A stored message; not a new one, but the first, when its sender has used its `client_id` before."""

    message: MessageData
    is_new: bool = True


class Journal:
    """Stores drafts; one a process. `append` returns once the message is committed."""

    def __init__(self) -> None:
        self._batches: Batches[Draft, Stored] = Batches(self._write, MAX_BATCH)

    async def append(self, draft: Draft) -> Stored:
        """The stored message.

        Raises `ChatError`: `invalid_room` when she is not an active member of a living room, `forbidden` when she may
        not write there, `unavailable` when the database is away.
        """
        return await self._batches.ask(draft)

    def withdraw(self, draft: Draft) -> None:
        """Do not store a draft of which the writing has not begun; its `append` is cancelled."""
        # It was answered with an error, and must not be stored after that.
        for waiting, stored in self._batches.waiting():
            if waiting.uuid == draft.uuid:
                stored.cancel()

    async def _write(self, drafts: list[Draft]) -> Sequence[Stored | Exception]:
        try:
            return await database.finish(write, drafts)
        except ChatError as error:
            return [error] * len(drafts)
        except Exception as error:
            if len(drafts) == 1:
                logger.exception("A message could not be stored")
                return [error]
            # One draft that the database refuses must not take the others with it.
            return [outcome for draft in drafts for outcome in await self._write([draft])]


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
