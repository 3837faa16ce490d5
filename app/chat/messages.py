"""Stored messages: as they go over the wire, page by page, changed, and how far they were read.

All of it is synchronous. That a room is hers is for the caller to know (`chat.rooms`).
"""

from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import Literal

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Min, Prefetch, QuerySet
from django.db.models.functions import Greatest
from django.utils import timezone

from chat import files, postgresql, protocol, rooms
from chat.models import ChatMessage, FileKind, Membership, User
from chat.people import person
from chat.protocol import AttachmentData, MessageData, SenderInfo

DeliveryStatus = Literal["sent", "delivered", "read"]
"""How far a message has come: stored; on a device of every other member; read by every other member."""


def message_data(
    message: ChatMessage, sender: SenderInfo | None = None, attachments: list[AttachmentData] | None = None
) -> MessageData:
    """A stored message as it goes over the wire; what was deleted goes without its content and its files."""
    if attachments is None:
        found = message.read_attachments if hasattr(message, "read_attachments") else message.attachments.all()
        attachments = [files.attachment_data(attachment) for attachment in found]
    return shown(
        attachments,
        id=message.pk,
        uuid=str(message.uuid),
        seq=message.seq,
        content=message.content,
        sender=message.sender_id,
        chat=message.room_id,
        created_at=protocol.timestamp(message.created_at),
        last_update=protocol.timestamp(message.last_update),
        is_deleted=message.is_deleted,
        extra_data=message.extra_data,
        message_type=message.message_type,
        client_id=message.client_id,
        sender_info=sender or person(message.sender),
    )


def shown(
    attachments: list[AttachmentData], *, content: str, extra_data: dict | None, is_deleted: bool, **others: object
) -> MessageData:
    """A message of these fields, as people may see it: what was deleted has no content and no extra data."""
    return MessageData(
        content="" if is_deleted else content,
        extra_data=None if is_deleted else extra_data,
        is_deleted=is_deleted,
        attachments=attachments,
        attachment_url=_first_url(attachments, FileKind.ATTACHMENT),
        voice_note_url=_first_url(attachments, FileKind.VOICE_NOTE),
        **others,
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
