"""Messages become durable here, in batches (group commit).

What arrives while a commit is under way becomes the next transaction, so that the database sees one transaction for
many messages under load, and none waits when there is no load. Each room counts its messages without a gap, inside that
transaction.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from django.conf import settings
from django.db import Error, IntegrityError, OperationalError, connection, transaction
from django.utils import timezone
from msgspec import Struct, field, structs

from chat import database, failures, files, messages, postgresql, protocol, rooms, services, sql
from chat.batches import Batches
from chat.changes import feed
from chat.failures import Trouble
from chat.files import StoredFile
from chat.held import Held, Place, StillHeldError, Waiting
from chat.models import Attachment, ChatMessage, ChatRoom, Membership, MessageType
from chat.protocol import ChatError, ErrorCode, MessageData, SenderInfo
from salon import measures

logger = logging.getLogger(__name__)

MAX_BATCH = 200
"""Messages of one transaction: enough to spread the cost of a commit, few enough that nobody waits long for it."""

MAX_LOSSES = 5
"""Connections that may be lost over the same drafts before each of these is tried by itself, and over one draft before
it is refused: it may be what ends them."""

PACE = 0.005
"""Seconds from the beginning of one transaction to that of the next: what comes in between shares it, and its publish.
Nobody sees a message five milliseconds earlier; a server that carries hundreds a second does a fraction of the work."""


LIMIT_WAIT = f"SET LOCAL lock_timeout = {int(settings.LOCK_PATIENCE * 1000)}"
"""On a connection that others use too."""


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
    received_at: float = field(default_factory=time.time)

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


class PendingError(ChatError):
    """The database has not said what became of a message. If it is stored after all, it is told like any other.

    Its files are the journal's from now on, which removes them when it is not.
    """


Outcome = Stored | Exception | Waiting


class Journal:
    """Stores drafts, and has the new messages told (`tell`), in order; one a process."""

    def __init__(self, tell: Callable[[list[MessageData], list[float]], None]) -> None:
        self._tell = tell
        self._line = postgresql.Line(settings.LOCK_PATIENCE)
        self._line_of_held = postgresql.Line(settings.HELD_LOCK_PATIENCE)
        self._batches: Batches[Draft, Stored | Waiting] = Batches(
            self._write_and_tell, MAX_BATCH, PACE, settings.MESSAGE_TIMEOUT
        )
        self._held = Held(self._write_held, functools.partial(self._locked, self._line_of_held), MAX_BATCH)
        measures.queues["journal"] = lambda: self._batches.length
        measures.queues["held_messages"] = lambda: self._held.length
        self._under_way: dict[postgresql.Line, list[Draft]] = {}
        self._refused: set[UUID] = set()
        """Of what is under way, what nobody waits for any more: it is not begun a second time."""
        self._newest: frozenset[UUID] = frozenset()
        """What was stored by the last batch; those who wait for it may not have been told yet."""
        self._is_ending = False
        services.database.on_loss(self._let_nobody_wait)
        services.database.on_return(lambda: self._give_up_lines(database.LATE))
        # A connection may be one that was made to be read from only.
        services.storage.on_return(lambda: self._give_up_lines(settings.DATABASE_TIMEOUT))

    async def append(self, draft: Draft, patience: float | None = None) -> Stored:
        """The message once it is committed; it is told to the others even when whoever waited has gone.

        `patience`: seconds to wait at most, if they are fewer than `MESSAGE_TIMEOUT`. Raises `ChatError`:
        `invalid_room` when she is not an active member of a living room, `forbidden` when she may not write there,
        `unavailable` when the database is away or somebody has locked the room; then it is not stored later, unless its
        writing has begun (`PendingError`).
        """
        if services.database.is_away:
            raise database.unavailable()
        if self._held.is_refused(draft):
            raise _room_is_locked()
        loop = asyncio.get_running_loop()
        until = loop.time() + (settings.MESSAGE_TIMEOUT if patience is None else patience)
        try:
            # Whoever waits may go: the draft stays.
            if patience is None:
                outcome = await asyncio.shield(self._batches.put(draft))
            else:
                outcome = await _wait(self._batches.put(draft), patience)
        except TimeoutError:
            raise self._late(draft) from None
        if isinstance(outcome, Waiting):
            return await self._wait_for_place(outcome, until - loop.time())
        return outcome

    async def finish(self) -> None:
        """Wait until what was given to it is stored, or refused; nothing is given to it afterwards."""
        self._is_ending = True
        if services.database.is_away:
            self._give_up_lines(0)
        await self._batches.finish()
        await self._held.finish()
        await self._line.close()
        await self._line_of_held.close()

    async def _wait_for_place(self, waiting: Waiting, seconds: float) -> Stored:
        try:
            return await _wait(waiting.outcome, seconds, cancel=False)
        except TimeoutError:
            if services.database.is_away:
                waiting.outcome.cancel()
                raise self._late(waiting.draft) from None
            self._held.refuse(waiting)
            raise self._late(waiting.draft, is_locked=True) from None

    def _late(self, draft: Draft, *, is_locked: bool = False) -> ChatError:
        error = _room_is_locked() if is_locked else database.late()
        if draft.uuid in self._newest:
            return _pending(error)
        if (line := self._line_of(draft)) is None:
            return error
        self._refused.add(draft.uuid)
        # A connection of which nothing comes at all, though the database is there, is given up some time.
        line.give_up(settings.DATABASE_TIMEOUT)
        return _pending(error)

    def _line_of(self, draft: Draft) -> postgresql.Line | None:
        """Where a draft is under way, if it is."""
        on = (line for line, drafts in self._under_way.items() if any(each is draft for each in drafts))
        return next(on, None)

    def _let_nobody_wait(self) -> None:
        self._batches.give_up()
        self._held.give_up()

    def _give_up_lines(self, seconds: float) -> None:
        for line in (self._line, self._line_of_held):
            line.give_up(seconds)

    async def _write_and_tell(self, drafts: list[Draft]) -> Sequence[Outcome]:
        self._under_way[self._line] = drafts
        outcomes: dict[UUID, Outcome] = {}
        try:
            outcomes = await self._write_what_is_free(drafts)
        finally:
            self._newest = self._end(drafts, self._line, outcomes)
        return [outcomes[draft.uuid] for draft in drafts]

    async def _write_held(self, drafts: list[Draft]) -> dict[UUID, Outcome]:
        self._under_way[self._line_of_held] = drafts
        outcomes: dict[UUID, Outcome] = {}
        try:
            outcomes = await self._store(drafts, self._line_of_held)
        finally:
            self._end(drafts, self._line_of_held, outcomes)
        return outcomes

    def _end(self, drafts: list[Draft], line: postgresql.Line, outcomes: dict[UUID, Outcome]) -> frozenset[UUID]:
        """What was under way is not any more: tell what is new, and forget what nobody waits for. Returns what is new.

        Of a draft without an outcome it is not known what became of it.
        """
        del self._under_way[line]
        new = {draft.uuid: outcome.message for draft in drafts if _is_new(outcome := outcomes.get(draft.uuid))}
        if new:
            now, received_at = time.time(), [draft.received_at for draft in drafts if draft.uuid in new]
            for moment in received_at:
                measures.committed.observe(now - moment)
            self._tell(list(new.values()), received_at)
        if self._refused:
            for draft in drafts:
                if draft.uuid in self._refused:
                    self._forget(draft, outcomes.get(draft.uuid))
        return frozenset(new)

    def _forget(self, draft: Draft, outcome: Outcome | None) -> None:
        if isinstance(outcome, Waiting):
            outcome.outcome.cancel()
            if self._line_of(draft):  # it is being stored at this moment, and comes here again
                return
        self._refused.discard(draft.uuid)
        if outcome is None or isinstance(outcome, PendingError) or _is_new(outcome):
            return
        # Whoever was told that it might yet be stored has left them to us.
        for file in draft.files:
            files.discard(file)

    async def _write_what_is_free(self, drafts: list[Draft]) -> dict[UUID, Outcome]:
        """What becomes of drafts, by their uuids; those that are in the way of a lock wait for its end elsewhere."""
        outcomes: dict[UUID, Outcome] = {}
        free = drafts
        if self._held:
            free = []
            for draft in drafts:
                if place := self._held.place_of(draft):
                    outcomes[draft.uuid] = self._held.put(draft, place)
                else:
                    free.append(draft)
        if free:
            outcomes |= await self._store(free, self._line)
            if busy := _busy(free, outcomes):
                outcomes |= await self._go_round(busy)
        return outcomes

    async def _go_round(self, drafts: list[Draft]) -> dict[UUID, Outcome]:
        """Find out whose way is free, store that, and let the rest wait."""
        # On the line of those who do not wait: the other one may be in use.
        locked = await self._locked(self._line, {(draft.room_id, draft.sender.id) for draft in drafts})
        outcomes: dict[UUID, Outcome] = {}
        free = []
        for draft in drafts:
            places = ((draft.room_id, None), (draft.room_id, draft.sender.id))
            if place := next((each for each in places if each in locked), None):
                outcomes[draft.uuid] = self._hold(draft, place)
            else:
                free.append(draft)
        if free:
            outcomes |= await self._store(free, self._line)
            for draft in _busy(free, outcomes):
                # Somebody else's lock again, or one of a kind that was not looked for.
                outcomes[draft.uuid] = self._hold(draft, (draft.room_id, None))
        return outcomes

    def _hold(self, draft: Draft, place: Place) -> Outcome:
        return _room_is_locked() if draft.uuid in self._refused else self._held.put(draft, place)

    async def _locked(self, line: postgresql.Line, places: Collection[Place]) -> set[Place]:
        try:
            return await line.locked(places)
        except OperationalError:
            # Nobody knows: a table is locked, or the connection was lost.
            await asyncio.sleep(settings.LOCK_PATIENCE)
            return {(room_id, None) for room_id, _ in places}

    async def _store(self, drafts: list[Draft], line: postgresql.Line) -> dict[UUID, Outcome]:
        """What becomes of drafts, by their uuids; `StillHeldError` for those that are in the way of a lock.

        Where the answer is lost, it is asked what is stored; what is not, is stored if somebody still waits for it.
        """
        outcomes: dict[UUID, Outcome] = {}
        left, failed, lost = drafts, 0, 0
        while left:
            began = time.perf_counter()
            try:
                written = await self._write(left, line)
            except postgresql.LostError as error:
                measures.database_errors.add(Trouble.AWAY.name.lower())
                outcomes |= await self._what_became_of(left, error.backend)
                left = [draft for draft in left if draft.uuid not in outcomes]
                lost += 1
                if lost < MAX_LOSSES:
                    continue
                if len(left) == 1:
                    return outcomes | {left[0].uuid: _fatal(left[0])}
                return outcomes | await self._store_each(left, line)
            except Exception as error:
                measures.database_errors.add(failures.trouble(error).name.lower())
                failed += 1
                if isinstance(error, IntegrityError) and failed == 1:
                    # Somebody has stored a message of the same name meanwhile; it is seen now.
                    continue
                if isinstance(error, OperationalError) and failed == 1 and await self._may_work_now(error):
                    continue
                if failures.is_passing(error):
                    refusal = await self._refusal(error)
                    return outcomes | {draft.uuid: refusal for draft in left}
                if len(left) == 1:
                    logger.exception("A message could not be stored")
                    return outcomes | {left[0].uuid: error}
                return outcomes | await self._store_each(left, line)
            measures.database["journal"].observe(time.perf_counter() - began)
            services.storage.answered()
            return outcomes | {draft.uuid: outcome for draft, outcome in zip(left, written, strict=True)}
        return outcomes

    async def _store_each(self, drafts: list[Draft], line: postgresql.Line) -> dict[UUID, Outcome]:
        """The same, each by itself: one that the database does not take must not take the others with it."""
        outcomes: dict[UUID, Outcome] = {}
        for draft in drafts:
            if draft.uuid in self._refused:
                outcomes[draft.uuid] = database.unavailable()
            else:
                outcomes |= await self._store([draft], line)
        return outcomes

    async def _may_work_now(self, error: OperationalError) -> bool:
        """Whether to try once more what failed with this error."""
        match failures.trouble(error):
            case Trouble.AWAY:
                return await self._is_there()
            case Trouble.OTHER:
                # A plan that a migration has overtaken.
                return True
        return False

    async def _refusal(self, error: Exception) -> Exception:
        """What those are told whose drafts were not stored because of this error, which is not theirs."""
        match failures.trouble(error):
            case Trouble.BUSY if settings.HAS_POSTGRESQL:
                return StillHeldError()
            case Trouble.AWAY:
                # When the database is there for others, it is only that it does not take this.
                if await self._is_there():
                    services.storage.failed(failures.reason(error))
                return database.unavailable()
            case Trouble.BUSY:
                return database.late()
        services.storage.failed(failures.reason(error))
        return database.unavailable(settings.REFUSED_RETRY)

    async def _is_there(self) -> bool:
        try:
            await feed.poll()
        except ChatError:
            return False
        return True

    async def _what_became_of(self, drafts: list[Draft], backend: int) -> dict[UUID, Outcome]:
        """Which of the drafts are stored, now that a connection was lost; of the others, those that are given up."""
        found: dict[UUID, Outcome] | None = None
        while found is None:
            try:
                if not services.database.is_away:
                    found = dict(await database.look_up(recovered, drafts, backend))
                    break
            except ChatError:
                await self._is_there()
            if self._is_ending:
                found = {draft.uuid: _pending(database.unavailable()) for draft in drafts}
                break
            await services.database.there(settings.DATABASE_TIMEOUT if not self._is_ending else 0)
            await asyncio.sleep(settings.PROBE_RETRY)
        refused = {draft.uuid: database.unavailable() for draft in drafts if draft.uuid in self._refused}
        return refused | found

    async def _write(self, drafts: list[Draft], line: postgresql.Line) -> Sequence[Stored | ChatError]:
        if settings.HAS_POSTGRESQL and not any(draft.files for draft in drafts):
            return await self._write_at_once(drafts, line)
        return await database.finish(write, drafts)

    async def _write_at_once(self, drafts: list[Draft], line: postgresql.Line) -> list[Stored | ChatError]:
        """The same as `write` on PostgreSQL, for messages without files, of people whose roles let them write."""
        # Of two drafts of one name in a batch, the second is answered with the first.
        firsts: dict[object, Draft] = {}
        for draft in drafts:
            firsts.setdefault(_name(draft) if draft.client_id else draft.uuid, draft)
        writings = [_writing(position, draft) for position, draft in enumerate(firsts.values())]
        written = await line.store(writings)
        stored = {
            draft.uuid: _data(draft, found)
            for draft, writing in zip(firsts.values(), writings, strict=True)
            if (found := written.get(writing.uuid))
        }
        known, missing = {}, rooms.invalid_room()
        if left_out := [draft for draft in firsts.values() if draft.uuid not in stored and draft.client_id]:
            try:
                known = await database.look_up(_known, left_out)
            except ChatError as error:
                # That some cannot be answered must not keep the others from being told.
                missing = error
        outcomes: list[Stored | ChatError] = []
        for draft in drafts:
            first = firsts[_name(draft) if draft.client_id else draft.uuid]
            if message := stored.get(first.uuid):
                outcomes.append(Stored(message, is_new=first is draft))
            else:
                outcomes.append(known.get(_name(draft)) or (missing if draft.client_id else rooms.invalid_room()))
        return outcomes


async def _wait(outcome: asyncio.Future[Stored], seconds: float, *, cancel: bool = True) -> Stored:
    """The outcome, which stays when whoever waits is cancelled; `TimeoutError` after so many seconds."""
    # It may be that nobody waits for it any more.
    outcome.add_done_callback(lambda done: done.cancelled() or done.exception())
    done, _ = await asyncio.wait([outcome], timeout=max(0.0, seconds))
    if done and not outcome.cancelled():
        return outcome.result()
    if cancel:
        outcome.cancel()
    raise TimeoutError


def _busy(drafts: list[Draft], outcomes: dict[UUID, Outcome]) -> list[Draft]:
    return [draft for draft in drafts if isinstance(outcomes[draft.uuid], StillHeldError)]


def _is_new(outcome: Outcome | None) -> bool:
    return isinstance(outcome, Stored) and outcome.is_new


def _pending(error: ChatError) -> PendingError:
    return PendingError(error.code, error.sentence, error.retry_after)


def _fatal(draft: Draft) -> ChatError:
    """The answer to a draft that has ended one connection after the other. To try again would do it again."""
    logger.error(
        "A message of person %d in room %d was not stored: %d times in a row the database has ended the connection",
        draft.sender.id,
        draft.room_id,
        MAX_LOSSES,
    )
    sentence = "The database breaks off whenever it is to store this message; change it, or tell the server's operator."
    return ChatError(ErrorCode.INTERNAL, sentence)


def _room_is_locked() -> ChatError:
    return ChatError(ErrorCode.UNAVAILABLE, "Nothing can be stored in this room for the moment; try again.")


def recovered(drafts: list[Draft], backend: int) -> dict[UUID, Stored]:
    """Those of the drafts that are stored, when a process of the database's server was lost that was to store them.

    None of the others comes later from there. Raises Django's `DatabaseError`.
    """
    postgresql.end_backends([backend])
    found = messages.complete().filter(uuid__in=[draft.uuid for draft in drafts])
    return {each.uuid: Stored(messages.message_data(each)) for each in found}


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


def write(drafts: list[Draft]) -> list[Stored | ChatError]:
    """Store drafts in one transaction, in their order; in the place of one that may not be stored stands the error.

    Raises Django's `DatabaseError`; then nothing is stored, except for `postgresql.LostError`, which leaves that open.
    """
    connection.ensure_connection()
    if not settings.HAS_POSTGRESQL:
        return _write(drafts)
    backend = connection.connection.info.backend_pid
    try:
        return _write(drafts)
    except Error as error:
        if failures.trouble(error) is Trouble.AWAY:
            raise postgresql.LostError(str(error), backend) from error
        raise


@transaction.atomic
def _write(drafts: list[Draft]) -> list[Stored | ChatError]:
    if settings.HAS_POSTGRESQL:
        sql.execute(LIMIT_WAIT)
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
