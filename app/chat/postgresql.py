"""What every message costs, in the fewest statements and round trips that PostgreSQL needs for it.

The journal's batch is one round trip and one transaction on a connection of the event loop's own: no thread is woken
for it, and its plan is made once. What a message costs is then mostly the writing of its rows. On other databases, and
for messages with files, the ORM does the same in several statements (`chat.journal`, `chat.messages`).
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import msgspec
import psycopg
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DataError, IntegrityError, OperationalError, connections
from psycopg import pq
from psycopg.conninfo import make_conninfo

from chat import services
from chat.failures import Trouble, trouble

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

# Nothing here waits: what is locked is passed over, and so missing among what is free.
LOCKED = b"""
WITH place AS MATERIALIZED (
    SELECT DISTINCT room_id, sender_id FROM json_to_recordset($1) AS place (room_id bigint, sender_id bigint)
),
free_room AS MATERIALIZED (
    SELECT id FROM chat_chatroom WHERE id = ANY(ARRAY(SELECT room_id FROM place)) FOR NO KEY UPDATE SKIP LOCKED
),
free_member AS MATERIALIZED (
    SELECT room_id, user_id FROM chat_membership
    WHERE room_id = ANY(ARRAY(SELECT room_id FROM place)) AND user_id = ANY(ARRAY(SELECT sender_id FROM place))
    FOR NO KEY UPDATE SKIP LOCKED
),
free_person AS MATERIALIZED (
    SELECT id FROM chat_user WHERE id = ANY(ARRAY(SELECT sender_id FROM place)) FOR KEY SHARE SKIP LOCKED
)
SELECT DISTINCT place.room_id, NULL::bigint FROM place JOIN chat_chatroom AS room ON room.id = place.room_id
WHERE place.room_id NOT IN (SELECT id FROM free_room)
UNION ALL
SELECT place.room_id, place.sender_id
FROM place
JOIN chat_membership AS member ON member.room_id = place.room_id AND member.user_id = place.sender_id
WHERE place.sender_id NOT IN (SELECT id FROM free_person)
    OR NOT EXISTS (
        SELECT FROM free_member WHERE free_member.room_id = place.room_id AND free_member.user_id = place.sender_id
    )
"""

# A process of the server whose client has lost it may not have noticed.
END_BACKENDS = """
    SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity
    WHERE pid = ANY(%s) AND application_name = current_setting('application_name') AND usename = current_user
        AND pid != pg_backend_pid()
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


Place = tuple[int, int | None]
"""Where a lock can be: a room's id, and None or the id of a person in it."""


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


class LostError(OperationalError):
    """The connection was lost before the answer came: what was asked for is done, or not, or may yet be.

    `backend`: the server's process that was to do it.
    """

    def __init__(self, sentence: str, backend: int) -> None:
        super().__init__(sentence)
        self.backend = backend


class Line:
    """A connection to PostgreSQL that belongs to the event loop; one statement is under way on it at a time.

    No statement waits longer than `lock_timeout` seconds for somebody else's lock.
    """

    def __init__(self, lock_timeout: float) -> None:
        self._lock_timeout = lock_timeout
        self._connection: psycopg.AsyncConnection | None = None
        self._descriptor = -1
        self._answer: asyncio.Future[pq.abc.PGresult] | None = None
        self._result: pq.abc.PGresult | None = None

    async def store(self, messages: Sequence[Writing]) -> dict[str, Written]:
        """Store messages in one transaction, in their order, and give their rooms and senders the new marks.

        Returns what is stored, by uuid. Those are left out whose sender is not an active member of a living room, and
        those whose name (`client_id`) their sender has used in the room before. Raises `django.db.IntegrityError` for
        two of one name in a batch, or in two batches at once, and `DataError` for what the database does not take;
        `OperationalError` when the database is away or refuses. Then nothing is stored; except for `LostError`, which
        leaves that open.
        """
        parameter = msgspec.json.encode(messages)
        result = await self._ask(lambda pgconn: pgconn.send_query_prepared(b"store", [parameter]))
        value = result.get_value
        return {
            value(row, 0).decode(): Written(int(value(row, 1)), int(value(row, 2)), value(row, 3).decode())
            for row in range(result.ntuples)
        }

    async def locked(self, places: Collection[Place]) -> set[Place]:
        """Where somebody else has a lock at the moment: (room, None) for a room, (room, person) for her part in it.

        Raises `OperationalError`.
        """
        parameter = msgspec.json.encode([{"room_id": room_id, "sender_id": user_id} for room_id, user_id in places])
        result = await self._ask(lambda pgconn: pgconn.send_query_params(LOCKED, [parameter]))
        value = result.get_value
        return {
            (int(value(row, 0)), None if value(row, 1) is None else int(value(row, 1))) for row in range(result.ntuples)
        }

    async def close(self) -> None:
        """End the connection; the next statement makes another one."""
        self._drop("closed")

    def give_up(self, seconds: float) -> None:
        """End the connection: where something is under way on it, only if that still is after so many seconds."""
        if (answer := self._answer) is None:
            # One that is being made has its own time-out.
            self._drop("it may be dead")
        else:
            asyncio.get_running_loop().call_later(
                seconds, lambda: self._drop("no answer came") if self._answer is answer else None
            )

    async def _ask(self, send: Callable[[pq.abc.PGconn], None]) -> pq.abc.PGresult:
        if self._connection is None:
            await self._connect()
        pgconn = self._connection.pgconn
        backend = pgconn.backend_pid
        self._answer = asyncio.get_running_loop().create_future()
        try:
            send(pgconn)
            self._write()
            result = await self._answer
        except psycopg.OperationalError as error:
            self._drop(str(error))
            raise LostError(str(error), backend) from error
        except BaseException:
            # Whatever comes now would be taken for the answer to the next statement.
            self._drop("abandoned")
            raise
        finally:
            self._answer = None
        if result.status == pq.ExecStatus.TUPLES_OK:
            # It is committed only when the server is ready for the next one.
            if pgconn.transaction_status == pq.TransactionStatus.IDLE:
                services.database.heard()
                return result
            self._drop("the connection is lost")
            raise LostError("the connection is lost", backend)
        raise self._refusal(result, backend)

    async def _connect(self) -> None:
        parameters = connections[DEFAULT_DB_ALIAS].get_connection_params()
        for name in ("context", "cursor_factory", "prepare_threshold"):
            parameters.pop(name, None)
        own = {
            "lock_timeout": int(self._lock_timeout * 1000),
            # One plan for every batch, not a new one for each: planning costs more than the writing.
            "plan_cache_mode": "force_generic_plan",
            # The tables are large, or will be: what is asked for of them is a few rows that their indexes know.
            "enable_seqscan": "off",
        }
        options = [parameters.pop("options", ""), *(f"-c {name}={value}" for name, value in own.items())]
        try:
            async with asyncio.timeout(settings.DATABASE_TIMEOUT):
                conninfo = make_conninfo(**parameters, options=" ".join(options).strip())
                made = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
                try:
                    await made.execute(STORE)
                except BaseException:
                    made.pgconn.finish()
                    raise
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

    def _refusal(self, result: pq.abc.PGresult, backend: int) -> Exception:
        """The database's error, as one of Django's."""
        error = psycopg.errors.error_from_result(result)
        sentence = error.diag.message_primary or str(error)
        state = error.sqlstate or ""
        if error.diag.severity_nonlocalized in ("FATAL", "PANIC"):
            # It ends the connection, in the midst of something or after it.
            self._drop(sentence)
            return LostError(sentence, backend)
        if state.startswith("23"):
            return IntegrityError(sentence)
        if state.startswith("22"):
            return DataError(sentence)
        if trouble(error) is Trouble.OTHER:
            # A plan that a migration has overtaken: a new connection begins anew.
            self._drop(sentence)
        refusal = OperationalError(sentence)
        refusal.__cause__ = error
        return refusal


def end_backends(backends: Sequence[int]) -> None:
    """See that nothing more comes of what these processes of the server were asked for.

    Raises Django's `OperationalError` while one of them cannot be ended.
    """
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(END_BACKENDS, [list(backends)])
        if not all(has_ended for (has_ended,) in cursor.fetchall()):
            raise OperationalError("a process of the server does not end")


def mark_delivered(marks: Sequence[tuple[int, int, int]]) -> None:
    """Note for each (room id, person id, seq) that everything up to `seq` has reached a device of hers.

    Raises Django's `DatabaseError`.
    """
    room_ids, user_ids, seqs = map(list, zip(*marks, strict=True)) if marks else ([], [], [])
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(MARK_DELIVERED, {"room_ids": room_ids, "user_ids": user_ids, "seqs": seqs})
