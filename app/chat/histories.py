"""Stored messages for those who listen: what somebody has missed, what a process has missed, what was changed since.

In plain SQL, and made at once into what goes over the wire: after a restart everybody asks for hundreds of messages,
and the event loop stands still for each of them that a thread makes an object of. All of it is synchronous. That a room
is hers is for the caller to know (`chat.rooms`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec

from chat import files, messages, people, protocol, rooms, sql
from chat.models import Attachment
from chat.protocol import MAX_HISTORY, MessageData, SenderInfo

SHOWN = """
    SELECT message.id, message.uuid, message.seq, message.content, message.room_id, message.created_at,
        message.last_update, message.is_deleted, message.extra_data, message.message_type, message.client_id,
        sender.id, sender.first_name, sender.last_name, sender.username, sender.role, sender.avatar,
        EXISTS (SELECT 1 FROM chat_attachment AS file WHERE file.message_id = message.id)
    FROM chat_chatmessage AS message
    JOIN chat_user AS sender ON sender.id = message.sender_id
"""
NEWEST_OF_ROOM = f"""
    {SHOWN}
    WHERE message.room_id = {{room_id}} AND message.seq > {{after}} AND message.seq <= {{up_to}}
    ORDER BY message.seq DESC
    LIMIT {{limit}}
"""
# The second condition is the one that the index is for.
CHANGED = f"""
    {SHOWN}
    WHERE message.room_id IN ({{room_ids}}) AND message.last_update > message.created_at
        AND message.last_update > {{since}} AND message.seq <= {{up_to}}
    ORDER BY message.last_update DESC
    LIMIT {{limit}}
"""
FOLLOWING = f"""
    WITH wanted (room_id, position) AS (VALUES {{positions: bigint, bigint}})
    {SHOWN}
    JOIN wanted ON wanted.room_id = message.room_id AND message.seq > wanted.position
    ORDER BY message.room_id, message.seq
    LIMIT {{limit}}
"""
LAST_NUMBER = "SELECT last_seq FROM chat_chatroom WHERE id = {room_id}"
LAST_NUMBERS = "SELECT id, last_seq FROM chat_chatroom WHERE id IN ({room_ids}) AND NOT is_deleted"
SENT_AT = "SELECT created_at FROM chat_chatmessage WHERE room_id = {room_id} AND seq = {seq}"

MAX_NUMBER = 2**63 - 1
"""Of a message: every one is below it."""


@dataclass
class Missed:
    """What a person who joins has missed: the newest of it, what was changed of the rest, and how much there is.

    `told`: the events that say so to her, once they are made.
    """

    messages: list[MessageData]
    changed: list[MessageData]
    count: int
    last_seq: int
    told: list[str] | None = None


def missed(room_id: int, since: int | None, history: int | None) -> Missed:
    """The messages after `since`, or else the newest `history`; of either at most 500, the newest.

    Raises `ChatError` (`invalid_room`).
    """
    last_seq = _last_number(room_id)
    if since is None:
        since = max(0, last_seq - (history or 0))
        seen_at = None
    else:
        seen_at = _sent_at(room_id, since)
    found = _newest(room_id, since, last_seq, MAX_HISTORY)
    changed = [] if seen_at is None else _changed([room_id], seen_at, since, MAX_HISTORY)
    return Missed(found, changed, max(0, last_seq - since), last_seq)


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
    """The messages after `since`, or else the newest `count`; of the former at most 500, the newest.

    Raises `ChatError` (`invalid_room`).
    """
    last_seq = _last_number(room_id)
    start = max(0, last_seq - (count if since is None else MAX_HISTORY), since or 0)
    # Who says that she has seen what is not there yet has seen everything.
    start = min(start, last_seq)
    found = _newest(room_id, start, last_seq, MAX_HISTORY + count)
    start_at = _sent_at(room_id, start)
    changed = [] if start_at is None else _changed([room_id], start_at, start, MAX_HISTORY)
    return Recent(start, None if start_at is None else protocol.timestamp(start_at), found, changed, last_seq)


def following(positions: Mapping[int, int], limit: int) -> tuple[dict[int, list[MessageData]], set[int]]:
    """The messages of each room after a sequence number, by room in order; of all rooms together at most `limit`.

    Also the rooms of which there may be more.
    """
    shown = _shown(FOLLOWING, positions=list(positions.items()), limit=limit)
    found: dict[int, list[MessageData]] = {}
    for message in shown:
        found.setdefault(message.chat, []).append(message)
    is_cut = len(shown) == limit
    return found, {room_id for room_id in positions if is_cut and room_id >= max(found, default=0)}


def changed_since(room_ids: Collection[int], moment: datetime, limit: int) -> list[MessageData]:
    """The messages of some rooms that were edited or deleted after a moment, the last change last; at most `limit`."""
    return _changed(list(room_ids), moment, MAX_NUMBER, limit)


def newest_numbers(room_ids: Collection[int]) -> dict[int, int]:
    """The sequence number of the newest message of each living room; there is at least one room."""
    return dict(sql.rows(LAST_NUMBERS, room_ids=list(room_ids)))


def _last_number(room_id: int) -> int:
    if found := sql.rows(LAST_NUMBER, room_id=room_id):
        return found[0][0]
    raise rooms.invalid_room()


def _sent_at(room_id: int, seq: int) -> datetime | None:
    found = sql.rows(SENT_AT, room_id=room_id, seq=seq)
    return sql.moment(found[0][0]) if found else None


def _newest(room_id: int, after: int, up_to: int, limit: int) -> list[MessageData]:
    return _shown(NEWEST_OF_ROOM, room_id=room_id, after=after, up_to=up_to, limit=limit)[::-1]


def _changed(room_ids: list[int], since: datetime, up_to: int, limit: int) -> list[MessageData]:
    return _shown(CHANGED, room_ids=room_ids, since=since, up_to=up_to, limit=limit)[::-1]


def _shown(statement: str, **values: object) -> list[MessageData]:
    found = sql.rows(statement, **values)
    attachments = _attachments([row[0] for row in found if row[-1]])
    senders: dict[int, SenderInfo] = {}
    return [_message(row, senders, attachments.get(row[0], ())) for row in found]


def _attachments(message_ids: list[int]) -> dict[int, list[Attachment]]:
    found: dict[int, list[Attachment]] = {}
    if message_ids:
        for attachment in Attachment.objects.filter(message__in=message_ids):
            found.setdefault(attachment.message_id, []).append(attachment)
    return found


def _message(row: tuple, senders: dict[int, SenderInfo], found: Sequence[Attachment]) -> MessageData:
    key, uuid, seq, content, room_id, created_at, changed_at, is_deleted, extra, kind, client_id, sender_id = row[:12]
    if (sender := senders.get(sender_id)) is None:
        sender = senders[sender_id] = people.as_seen(sender_id, *row[12:17])
    sent = protocol.timestamp(sql.moment(created_at))
    return messages.shown(
        [files.attachment_data(file) for file in found],
        id=key,
        # SQLite keeps it as text without hyphens.
        uuid=str(uuid if isinstance(uuid, UUID) else UUID(uuid)),
        seq=seq,
        content=content,
        sender=sender_id,
        chat=room_id,
        created_at=sent,
        last_update=sent if changed_at == created_at else protocol.timestamp(sql.moment(changed_at)),
        is_deleted=bool(is_deleted),
        extra_data=None if extra is None else msgspec.json.decode(extra),
        message_type=kind,
        client_id=client_id,
        sender_info=sender,
    )
