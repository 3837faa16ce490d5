"""Stored messages: as they go over the wire, page by page, changed, and how far they were read.

All of it is synchronous. That a room is hers is for the caller to know (`chat.rooms`).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Min, Prefetch, QuerySet
from django.db.models.functions import Greatest
from django.utils import timezone

from chat import files, postgresql, protocol, rooms, sql
from chat.models import ChatMessage, ChatRoom, FileKind, Membership, User
from chat.people import person
from chat.protocol import MAX_HISTORY, AttachmentData, MessageData, SenderInfo

DeliveryStatus = Literal["sent", "delivered", "read"]
"""How far a message has come: stored; on a device of every other member; read by every other member."""


def message_data(
    message: ChatMessage, sender: SenderInfo | None = None, attachments: list[AttachmentData] | None = None
) -> MessageData:
    """A stored message as it goes over the wire; what was deleted goes without its content and its files."""
    if attachments is None:
        found = message.read_attachments if hasattr(message, "read_attachments") else message.attachments.all()
        attachments = [files.attachment_data(attachment) for attachment in found]
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
        extra_data=None if message.is_deleted else message.extra_data,
        message_type=message.message_type,
        attachment_url=_first_url(attachments, FileKind.ATTACHMENT),
        voice_note_url=_first_url(attachments, FileKind.VOICE_NOTE),
        attachments=attachments,
        client_id=message.client_id,
        sender_info=sender or person(message.sender),
    )


def _first_url(attachments: list[AttachmentData], kind: str) -> str | None:
    return next((attachment.url for attachment in attachments if attachment.kind == kind), None)


def complete() -> QuerySet[ChatMessage]:
    """Messages with all that `message_data` looks at, in a constant number of queries."""
    # Under a name of its own, for which Django needs no manager and no query set for each message: they would be half
    # of what a history costs, and garbage that only a collection of all of it takes away.
    attachments = Prefetch("attachments", to_attr="read_attachments")
    return ChatMessage.objects.select_related("sender").prefetch_related(attachments)


def newest(room_id: int, limit: int) -> list[ChatMessage]:
    """The newest messages of a room, at most `limit`, oldest first."""
    return list(reversed(complete().filter(room_id=room_id).order_by("-seq")[:limit]))


def between(room_id: int, after: int, before: int, limit: int, *, from_the_end: bool) -> list[ChatMessage]:
    """The messages with `after` < seq < `before`, oldest first: the first `limit` of them, or the last.

    The room's index leads straight to them: they cost the same wherever in the room they are.
    """
    found = complete().filter(room_id=room_id, seq__gt=after, seq__lt=before)
    if from_the_end:
        return list(reversed(found.order_by("-seq")[:limit]))
    return list(found.order_by("seq")[:limit])


FOLLOWING = """
    WITH wanted (room_id, position) AS (VALUES {positions})
    SELECT message.id
    FROM wanted
    JOIN chat_chatmessage AS message ON message.room_id = wanted.room_id AND message.seq > wanted.position
    ORDER BY message.room_id, message.seq
    LIMIT {limit}
"""


def following(positions: Mapping[int, int], limit: int) -> tuple[dict[int, list[MessageData]], set[int]]:
    """The messages of each room after a sequence number, by room in order; of all rooms together at most `limit`.

    Also the rooms of which there may be more.
    """
    keys = [key for (key,) in sql.rows(FOLLOWING, positions=list(positions.items()), limit=limit)]
    found: dict[int, list[MessageData]] = {}
    for message in complete().filter(pk__in=keys).order_by("room_id", "seq"):
        found.setdefault(message.room_id, []).append(message_data(message))
    is_cut = len(keys) == limit
    return found, {room_id for room_id in positions if is_cut and room_id >= max(found, default=0)}


NEWEST = "SELECT id, last_seq FROM chat_chatroom WHERE id IN ({room_ids}) AND NOT is_deleted"


def newest_numbers(room_ids: Collection[int]) -> dict[int, int]:
    """The sequence number of the newest message of each living room; there is at least one room."""
    return dict(sql.rows(NEWEST, room_ids=list(room_ids)))


@dataclass(frozen=True)
class Missed:
    """What a person who joins has missed: the newest of it, what was changed of the rest, and how much there is."""

    messages: list[MessageData]
    changed: list[MessageData]
    count: int
    last_seq: int


def missed(room_id: int, since: int | None, history: int | None) -> Missed:
    """The messages after `since`, or else the newest `history`; of either at most 500, the newest."""
    last_seq = ChatRoom.objects.values_list("last_seq", flat=True).get(pk=room_id)
    if since is None:
        since = max(0, last_seq - (history or 0))
        seen_at = None
    else:
        seen_at = ChatMessage.objects.filter(room_id=room_id, seq=since).values_list("created_at", flat=True).first()
    found = between(room_id, since, last_seq + 1, MAX_HISTORY, from_the_end=True)
    changed = [] if seen_at is None else _changed(room_id, since, seen_at)
    return Missed(
        [message_data(message) for message in found],
        [message_data(message) for message in changed],
        max(0, last_seq - since),
        last_seq,
    )


@dataclass
class Recent:
    """The messages of a room after `start`, which was sent at `start_at` (None: there is no such message), and those up
    to it that were changed later; as they were when `last_seq` was the newest."""

    start: int
    start_at: str | None
    messages: list[MessageData]
    changed: list[MessageData]
    last_seq: int


def recent(room_id: int, since: int | None, count: int) -> Recent:
    """The messages after `since`, or else the newest `count`; of the former at most 500, the newest."""
    last_seq = ChatRoom.objects.values_list("last_seq", flat=True).get(pk=room_id)
    start = max(0, last_seq - (count if since is None else MAX_HISTORY), since or 0)
    # Who says that she has seen what is not there yet has seen everything.
    start = min(start, last_seq)
    found = between(room_id, start, last_seq + 1, MAX_HISTORY + count, from_the_end=True)
    start_at = ChatMessage.objects.filter(room_id=room_id, seq=start).values_list("created_at", flat=True).first()
    changed = [] if start_at is None else _changed(room_id, start, start_at)
    return Recent(
        start,
        None if start_at is None else protocol.timestamp(start_at),
        [message_data(message) for message in found],
        [message_data(message) for message in changed],
        last_seq,
    )


def _changed(room_id: int, up_to: int, since: datetime) -> list[ChatMessage]:
    """The messages up to a sequence number that were edited or deleted after a moment, the last change last."""
    # The second condition is the one that the index is for.
    found = complete().filter(room_id=room_id, seq__lte=up_to).filter(last_update__gt=F("created_at"))
    found = found.filter(last_update__gt=since)
    return list(reversed(found.order_by("-last_update")[:MAX_HISTORY]))


def changed_since(room_ids: Collection[int], moment: datetime, limit: int) -> list[MessageData]:
    """The messages of some rooms that were edited or deleted after a moment, the last change last; at most `limit`."""
    found = (
        complete().filter(room_id__in=room_ids).filter(last_update__gt=F("created_at")).filter(last_update__gt=moment)
    )
    return [message_data(message) for message in reversed(found.order_by("-last_update")[:limit])]


def try_to_store() -> None:
    """Find out whether a message could be stored; none is. Raises Django's `DatabaseError` where it could not."""
    # As a new connection finds it: one that is there may have been made to be read from only.
    connection.close()
    now = timezone.now()
    with transaction.atomic():
        # That there is no such room and nobody who wrote it, the database would say at the end.
        ChatMessage.objects.bulk_create([ChatMessage(room_id=0, seq=1, sender_id=0, created_at=now, last_update=now)])
        transaction.set_rollback(True)


@transaction.atomic
def edit(user: User, message: ChatMessage, content: str | None = None, extra_data: dict | None = None) -> ChatMessage:
    """Give a message another content, or other extra data. Raises `ChatError`: `forbidden`, `content_…`."""
    _lock(message)
    rooms.require_author(user, message)
    if content is not None:
        message.content = protocol.clean_content(content, may_be_empty=message.attachments.exists())
    if extra_data is not None:
        message.extra_data = extra_data
    save_change(message, "content", "extra_data")
    return message


def delete(user: User, message: ChatMessage) -> None:
    """Mark a message as deleted, and remove its files. Raises `ChatError` (`forbidden`)."""
    rooms.require_may_delete(user, message)
    mark_deleted(message)


def _lock(message: ChatMessage) -> None:
    """Have the message as it is stored, and as it stays until the transaction ends."""
    message.refresh_from_db(
        fields=["content", "extra_data", "is_deleted", "last_update"],
        from_queryset=ChatMessage.objects.select_for_update(of=("self",)),
    )


@transaction.atomic
def mark_deleted(message: ChatMessage) -> None:
    """Mark a message as deleted, and remove its files."""
    _lock(message)
    if message.is_deleted:
        return
    for attachment in message.attachments.all():
        attachment.delete()
    message.is_deleted = True
    save_change(message, "is_deleted")


def save_change(message: ChatMessage, *fields: str) -> None:
    """Save some fields of a message, and that it was changed now."""
    message.last_update = max(timezone.now(), message.last_update + timedelta(microseconds=1))
    message.save(update_fields=[*fields, "last_update"])


def mark_read(user_id: int, room_id: int, seq: int | None = None) -> int | None:
    """Move her read mark to `seq`, or to the newest message; it never goes back. The new mark, or None if it stayed.

    Raises `ChatError` (`invalid_room`).
    """
    membership = rooms.require_member(user_id, room_id)
    mark = membership.room.last_seq if seq is None else min(seq, membership.room.last_seq)
    moved = Membership.objects.filter(pk=membership.pk, read_seq__lt=mark).update(
        read_seq=mark, delivered_seq=Greatest("delivered_seq", mark)
    )
    return mark if moved else None


def mark_delivered(arrivals: Iterable[tuple[int, Collection[int], int]]) -> None:
    """Note for each (room id, person ids, seq) that everything up to `seq` has reached a device of theirs."""
    if settings.HAS_POSTGRESQL:
        postgresql.mark_delivered([(room_id, user_id, seq) for room_id, ids, seq in arrivals for user_id in ids])
        return
    for room_id, user_ids, seq in arrivals:
        behind = Membership.objects.filter(room_id=room_id, user_id__in=user_ids, delivered_seq__lt=seq)
        if len(user_ids) == 1:
            behind.update(delivered_seq=seq)
            continue
        with transaction.atomic():
            # Everything that locks memberships does so in the order of their ids, so that nobody waits in a circle.
            locked = list(behind.select_for_update().order_by("pk").values_list("pk", flat=True))
            Membership.objects.filter(pk__in=locked).update(delivered_seq=seq)


def statuses(room_ids: Collection[int]) -> dict[int, tuple[int, int]]:
    """For each room, up to which seq all its members have read, and up to which all have received.

    Whoever writes has read up to her own message, so all members are all others too.
    """
    found = Membership.objects.filter(room_id__in=room_ids, user__is_active=True).values("room_id")
    marks = found.annotate(read=Min("read_seq"), delivered=Min("delivered_seq"))
    return {mark["room_id"]: (mark["read"], mark["delivered"]) for mark in marks}


def status_of(room_id: int, seq: int, marks: dict[int, tuple[int, int]]) -> DeliveryStatus:
    """How far a message has come, by the marks of its room."""
    read, delivered = marks.get(room_id, (0, 0))
    if seq <= read:
        return "read"
    return "delivered" if seq <= delivered else "sent"
