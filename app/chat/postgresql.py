"""What every message costs, in the fewest statements that PostgreSQL needs for it.

The journal's batch is one round trip and one transaction, and its plan is made once: what a message costs is then
mostly the writing of its rows. Everywhere else, and for messages with files, the ORM does the same in several
statements (`chat.journal`, `chat.messages`).
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

import psycopg
from django.db import connection

STORE = """
WITH draft AS MATERIALIZED (
    SELECT * FROM unnest(
        %(room_ids)s::bigint[], %(sender_ids)s::bigint[], %(uuids)s::uuid[], %(contents)s::text[],
        %(client_ids)s::text[], %(types)s::text[], %(extras)s::text[]
    ) WITH ORDINALITY AS draft (room_id, sender_id, uuid, content, client_id, message_type, extra_data, position)
),
-- Locked in the order of their ids, rooms before memberships: so does everything that locks them.
room AS MATERIALIZED (
    SELECT id, last_seq, last_update FROM chat_chatroom
    WHERE id = ANY(%(room_ids)s::bigint[]) AND NOT is_deleted
    ORDER BY id FOR NO KEY UPDATE
),
member AS MATERIALIZED (
    SELECT membership.id, membership.room_id, membership.user_id
    FROM room
    JOIN chat_membership AS membership ON membership.room_id = room.id
    JOIN chat_user AS person ON person.id = membership.user_id AND person.is_active
    WHERE membership.user_id = ANY(%(sender_ids)s::bigint[])
    ORDER BY membership.id FOR NO KEY UPDATE OF membership
),
message AS MATERIALIZED (
    SELECT
        draft.*,
        member.id AS membership_id,
        room.last_seq + row_number() OVER this_room AS seq,
        -- A frontend sorts by this moment, so within a room it rises with every message, whatever the clock does.
        greatest(%(now)s::timestamptz, room.last_update + interval '1 microsecond')
            + (row_number() OVER this_room - 1) * interval '1 microsecond' AS created_at
    FROM draft
    JOIN room ON room.id = draft.room_id
    JOIN member ON member.room_id = draft.room_id AND member.user_id = draft.sender_id
    WHERE draft.client_id IS NULL OR NOT EXISTS (
        SELECT FROM chat_chatmessage AS known
        WHERE known.room_id = draft.room_id AND known.sender_id = draft.sender_id
            AND known.client_id = draft.client_id
    )
    WINDOW this_room AS (PARTITION BY draft.room_id ORDER BY draft.position)
),
stored AS (
    INSERT INTO chat_chatmessage (
        uuid, room_id, seq, sender_id, content, client_id, message_type, extra_data, is_deleted, created_at, last_update
    )
    SELECT
        uuid, room_id, seq, sender_id, content, client_id, message_type, extra_data::jsonb, false, created_at,
        created_at
    FROM message ORDER BY position
    RETURNING id, uuid, seq, created_at
),
counted AS (
    UPDATE chat_chatroom SET last_seq = newest.seq, last_update = newest.created_at
    FROM (SELECT room_id, max(seq) AS seq, max(created_at) AS created_at FROM message GROUP BY room_id) AS newest
    WHERE chat_chatroom.id = newest.room_id
),
-- Who writes has read what is above.
marked AS (
    UPDATE chat_membership SET read_seq = newest.seq, delivered_seq = newest.seq
    FROM (SELECT membership_id, max(seq) AS seq FROM message GROUP BY membership_id) AS newest
    WHERE chat_membership.id = newest.membership_id
)
SELECT uuid, id, seq, created_at FROM stored
"""


MARK_DELIVERED = """
WITH member AS MATERIALIZED (
    SELECT membership.id, mark.seq
    FROM unnest(%(room_ids)s::bigint[], %(user_ids)s::bigint[], %(seqs)s::bigint[]) AS mark (room_id, user_id, seq)
    JOIN chat_membership AS membership
        ON membership.room_id = mark.room_id AND membership.user_id = mark.user_id
        AND membership.delivered_seq < mark.seq
    ORDER BY membership.id FOR NO KEY UPDATE OF membership
)
UPDATE chat_membership SET delivered_seq = member.seq FROM member WHERE chat_membership.id = member.id
"""


class Writing(Protocol):
    """What is to be written of a message."""

    room_id: int
    content: str
    client_id: str | None
    message_type: str
    extra_data: dict | None
    uuid: UUID

    @property
    def sender_id(self) -> int: ...


class Row(NamedTuple):
    """What the database has given a message."""

    id: int
    seq: int
    created_at: datetime


def store(drafts: Sequence[Writing], now: datetime) -> dict[UUID, Row]:
    """Store drafts in one transaction, in their order, and give their rooms and senders the new marks.

    Those are left out whose sender is not an active member of a living room, and those whose name (`client_id`) their
    sender has used in the room before. Two of one name in a batch, or in two batches at once, raise
    `django.db.IntegrityError`, and nothing is stored.
    """
    with _cursor() as cursor:
        cursor.execute(
            STORE,
            {
                "room_ids": [draft.room_id for draft in drafts],
                "sender_ids": [draft.sender_id for draft in drafts],
                "uuids": [draft.uuid for draft in drafts],
                "contents": [draft.content for draft in drafts],
                "client_ids": [draft.client_id for draft in drafts],
                "types": [draft.message_type for draft in drafts],
                "extras": _texts(draft.extra_data for draft in drafts),
                "now": now,
            },
            prepare=True,
        )
        return {uuid: Row(*row) for uuid, *row in cursor}


def mark_delivered(marks: Sequence[tuple[int, int, int]]) -> None:
    """Note for each (room id, person id, seq) that everything up to `seq` has reached a device of hers."""
    room_ids, user_ids, seqs = map(list, zip(*marks, strict=True)) if marks else ([], [], [])
    with _cursor() as cursor:
        cursor.execute(
            MARK_DELIVERED,
            {
                "room_ids": room_ids,
                "user_ids": user_ids,
                "seqs": seqs,
            },
            prepare=True,
        )


@contextlib.contextmanager
def _cursor() -> Iterator[psycopg.Cursor]:
    """A cursor that binds on the server, for statements that are prepared once. Raises Django's `DatabaseError`."""
    connection.ensure_connection()
    raw = connection.connection
    with connection.wrap_database_errors:
        if raw.prepare_threshold is None:
            # The ORM's cursors bind on this side, and are not touched by this.
            raw.prepare_threshold = 0
            # One plan for every batch, not a new one for each: planning costs more than the writing.
            raw.execute("SET plan_cache_mode TO force_generic_plan")
        with psycopg.Cursor(raw) as cursor:
            yield cursor


def _texts(values: Iterable[dict | None]) -> list[str | None]:
    return [None if value is None else json.dumps(value) for value in values]
