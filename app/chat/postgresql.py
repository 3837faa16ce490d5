"""What every message costs, in the fewest statements and round trips that PostgreSQL needs for it.

The journal's batch is one round trip and one transaction on a connection of the event loop's own: no thread is woken
for it, and its plan is made once. What a message costs is then mostly the writing of its rows. On other databases, and
for messages with files, the ORM does the same in several statements (`chat.journal`, `chat.messages`).
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import psycopg
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DataError, IntegrityError, OperationalError, connections
from psycopg import pq
from psycopg.conninfo import make_conninfo

STORE = """
PREPARE store (json) AS
WITH draft AS MATERIALIZED (
    SELECT * FROM json_to_recordset($1) AS draft (
        position integer, room_id bigint, sender_id bigint, uuid uuid, content text, client_id text, message_type text,
        extra_data jsonb
    )
),
-- Locked in the order of their ids, rooms before memberships: so does everything that locks them.
room AS MATERIALIZED (
    SELECT id, last_seq, last_update FROM chat_chatroom
    WHERE id = ANY(ARRAY(SELECT room_id FROM draft)) AND NOT is_deleted
    ORDER BY id FOR NO KEY UPDATE
),
member AS MATERIALIZED (
    SELECT membership.id, membership.room_id, membership.user_id
    FROM room
    JOIN chat_membership AS membership ON membership.room_id = room.id
    JOIN chat_user AS person ON person.id = membership.user_id AND person.is_active
    WHERE membership.user_id = ANY(ARRAY(SELECT sender_id FROM draft))
    ORDER BY membership.id FOR NO KEY UPDATE OF membership
),
message AS MATERIALIZED (
    SELECT
        draft.*,
        member.id AS membership_id,
        room.last_seq + row_number() OVER this_room AS seq,
        -- A frontend sorts by this moment, so within a room it rises with every message, whatever the clock does.
        greatest(statement_timestamp(), room.last_update + interval '1 microsecond')
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
    SELECT uuid, room_id, seq, sender_id, content, client_id, message_type, extra_data, false, created_at, created_at
    FROM message ORDER BY position
    RETURNING uuid, id, seq, created_at
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
SELECT uuid, id, seq, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') FROM stored
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


class Writing(msgspec.Struct, frozen=True):
    """What is to be stored of a message; `position` is its place in the batch."""

    position: int
    room_id: int
    sender_id: int
    uuid: str
    content: str
    client_id: str | None
    message_type: str
    extra_data: dict | None


class Written(NamedTuple):
    """What the database has given a message; `created_at` as it goes over the wire."""

    id: int
    seq: int
    created_at: str


class Line:
    """A connection to PostgreSQL that belongs to the event loop; one statement is under way on it at a time."""

    def __init__(self) -> None:
        self._connection: psycopg.AsyncConnection | None = None
        self._descriptor = -1
        self._answer: asyncio.Future[pq.abc.PGresult] | None = None
        self._result: pq.abc.PGresult | None = None

    async def store(self, messages: Sequence[Writing]) -> dict[str, Written]:
        """Store messages in one transaction, in their order, and give their rooms and senders the new marks.

        Returns what is stored, by uuid. Those are left out whose sender is not an active member of a living room, and
        those whose name (`client_id`) their sender has used in the room before. Raises `django.db.IntegrityError` for
        two of one name in a batch, or in two batches at once, and `DataError` for what the database does not take; then
        nothing is stored. Raises `OperationalError` when the database is away or refuses; then it may be stored or not.
        """
        result = await self._execute(msgspec.json.encode(messages))
        value = result.get_value
        return {
            value(row, 0).decode(): Written(int(value(row, 1)), int(value(row, 2)), value(row, 3).decode())
            for row in range(result.ntuples)
        }

    async def close(self) -> None:
        """End the connection; the next statement makes another one."""
        self._drop("closed")

    async def _execute(self, parameter: bytes) -> pq.abc.PGresult:
        if self._connection is None:
            await self._connect()
        pgconn = self._connection.pgconn
        self._answer = asyncio.get_running_loop().create_future()
        try:
            pgconn.send_query_prepared(b"store", [parameter])
            self._write()
            result = await self._answer
        except psycopg.OperationalError as error:
            self._drop(str(error))
            raise OperationalError(str(error)) from error
        except BaseException:
            # Whatever comes now would be taken for the answer to the next statement.
            self._drop("abandoned")
            raise
        finally:
            self._answer = None
        if result.status == pq.ExecStatus.TUPLES_OK:
            return result
        raise self._refusal(result)

    async def _connect(self) -> None:
        parameters = connections[DEFAULT_DB_ALIAS].get_connection_params()
        for name in ("context", "cursor_factory", "prepare_threshold"):
            parameters.pop(name, None)
        try:
            async with asyncio.timeout(settings.DATABASE_TIMEOUT):
                made = await psycopg.AsyncConnection.connect(make_conninfo(**parameters), autocommit=True)
                # One plan for every batch, not a new one for each: planning costs more than the writing.
                await made.execute("SET plan_cache_mode TO force_generic_plan")
                # The tables are large, or will be: what is asked for of them is a few rows that their indexes know.
                await made.execute("SET enable_seqscan TO off")
                await made.execute(STORE)
        except (psycopg.Error, TimeoutError) as error:
            raise OperationalError(str(error) or "timed out") from error
        self._connection = made
        # A connection that is lost does not tell its own any more.
        self._descriptor = made.pgconn.socket
        made.pgconn.nonblocking = 1
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def _write(self) -> None:
        """Send what libpq has not sent yet."""
        loop = asyncio.get_running_loop()
        try:
            is_full = self._connection.pgconn.flush()
        except psycopg.OperationalError as error:
            self._drop(str(error))
            return
        if is_full:
            loop.add_writer(self._descriptor, self._write)
        else:
            loop.remove_writer(self._descriptor)

    def _read(self) -> None:
        pgconn = self._connection.pgconn
        try:
            pgconn.consume_input()
            while not pgconn.is_busy():
                if (result := pgconn.get_result()) is None:
                    self._give(self._result)
                    self._result = None
                    return
                self._result = result
        except psycopg.OperationalError as error:
            self._drop(str(error))

    def _give(self, result: pq.abc.PGresult | None) -> None:
        if self._answer and not self._answer.done() and result is not None:
            self._answer.set_result(result)
        elif self._connection and self._connection.pgconn.status != pq.ConnStatus.OK:
            self._drop("the connection is lost")

    def _drop(self, reason: str) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(psycopg.OperationalError(reason))
        made, self._connection, self._result = self._connection, None, None
        if made is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._descriptor)
            loop.remove_writer(self._descriptor)
            made.pgconn.finish()

    def _refusal(self, result: pq.abc.PGresult) -> Exception:
        """The database's error, as one of Django's."""
        sentence = result.get_error_message()
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        if state.startswith("23"):
            return IntegrityError(sentence)
        if state.startswith("22"):
            return DataError(sentence)
        if self._connection is not None:
            # A plan that a migration has overtaken, a server that shuts down: a new connection begins anew.
            self._drop(sentence)
        return OperationalError(sentence)


def mark_delivered(marks: Sequence[tuple[int, int, int]]) -> None:
    """Note for each (room id, person id, seq) that everything up to `seq` has reached a device of hers.

    Raises Django's `DatabaseError`.
    """
    room_ids, user_ids, seqs = map(list, zip(*marks, strict=True)) if marks else ([], [], [])
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(MARK_DELIVERED, {"room_ids": room_ids, "user_ids": user_ids, "seqs": seqs})
