"""What people do in rooms, step by step: may she, make it durable, tell the others.

The consumer calls this, the HTTP API calls this, and so does everything else that speaks for a person.
"""

import asyncio
from asyncio import gather
from collections.abc import Sequence

from django.conf import settings

from chat import catchup, database, limits, messages, presence, rooms
from chat.batches import Turns
from chat.connection import Attendance, Connection
from chat.histories import Missed
from chat.hub import hub
from chat.journal import Draft, Journal, Stored
from chat.protocol import (
    ChatError,
    ErrorCode,
    JoinData,
    RoomUpdate,
    RoomUpdateData,
    SenderInfo,
    Typing,
    TypingData,
)
from chat.roster import roster

journal = Journal(tell=hub.tell)

HISTORIES_TOGETHER = 4
"""Histories that are sent in one turn of the event loop: all who wait for the same room have it at once, each of them
hundreds of messages, and nobody else waits for all of that."""

_histories = Turns(HISTORIES_TOGETHER)


async def join(connection: Connection, room_id: int, wanted: JoinData) -> None:
    """Let a socket hear the room from now on, after what it wants to know of before. Where that fails, it hears the
    room if it did so far.

    Raises `ChatError`: `invalid_room`, `invalid_event`, `too_many_rooms`, `rate_limited`, `unavailable`.
    """
    if wanted.since is not None and wanted.history is not None:
        raise ChatError(ErrorCode.INVALID_EVENT, "Ask for what came `since`, or for so much `history`; not for both.")
    if room_id not in connection.rooms and len(connection.rooms) >= settings.ROOMS_PER_CONNECTION:
        raise ChatError(
            ErrorCode.TOO_MANY_ROOMS,
            f"This connection has joined {settings.ROOMS_PER_CONNECTION} rooms; leave one, or open another connection.",
        )
    limits.people.take(connection.person.id, "joins")
    while True:
        told = roster.told
        await roster.standing(connection.person.id, room_id)
        # Whoever joins is put out again by what is told from then on; but not by what was told meanwhile.
        if hub.hears(room_id) and roster.told == told:
            break
        await hub.listen(room_id)
    earlier = connection.rooms.get(room_id)
    attendance = hub.join(connection, room_id, is_held=True)
    try:
        missed, newest, states = await _before(connection.person.id, room_id, wanted, attendance)
    except BaseException:
        if earlier:
            hub.restore(connection, room_id, attendance, earlier)
        else:
            hub.leave(connection, room_id)
        raise
    if connection.rooms.get(room_id) is not attendance:
        raise rooms.invalid_room()  # she was removed meanwhile
    if missed:
        connection.send(*catchup.told(room_id, wanted, missed))
    told = hub.release(connection, room_id, attendance, newest=newest, after=missed.last_seq if missed else 0)
    # What was told meanwhile is newer than what was looked up.
    if states := [text for other_id, text in states if other_id not in told]:
        connection.send(*states)


async def _before(
    user_id: int, room_id: int, wanted: JoinData, attendance: Attendance
) -> tuple[Missed | None, int | None, Sequence[tuple[int, str]]]:
    """What she has missed, if she wants to know; the newest number, if it is needed; how present others are, each with
    her id."""
    if (audience := hub.audience(room_id)) is None:
        return None, None, []  # she has gone meanwhile
    if wanted.since is not None or wanted.history is not None:
        found, (_, states) = await gather(catchup.missed(audience, room_id, wanted), presence.look_at(user_id, room_id))
        await _histories.turn()
        if found.last_seq < attendance.begun:
            # Somebody else knew of more sooner, and what is in between is not passed on.
            found = await catchup.missed_now(room_id, wanted)
        return found, found.last_seq, states
    has_begun = audience.order.position is not None
    newest, states = await presence.look_at(user_id, room_id)
    return None, None if has_begun else newest, states


async def leave(connection: Connection, room_id: int) -> None:
    """Let a socket hear the room no more. Raises `ChatError` (`not_joined`)."""
    if room_id not in connection.rooms:
        raise ChatError(ErrorCode.NOT_JOINED, "You have not joined this room; there is nothing to leave.")
    hub.leave(connection, room_id)
    await stop_typing(connection, room_id)


async def say(draft: Draft) -> Stored:
    """Store a message, then send it to everyone who has joined the room; one that was stored before is not sent again.

    Raises `ChatError`: `rate_limited`, `invalid_room`, `forbidden`, `content_…`, `unavailable`.
    """
    limits.people.take(draft.sender.id, "messages")
    patience = None
    if (standing := roster.known(draft.sender.id, draft.room_id)) is None:
        # Both ways to the database together take no longer than one.
        loop = asyncio.get_running_loop()
        until = loop.time() + settings.MESSAGE_TIMEOUT
        asked = roster.standing(draft.sender.id, draft.room_id)
        standing = await database.in_time(asked, settings.MESSAGE_TIMEOUT)
        patience = until - loop.time()
    if refusal := rooms.refusal_to_write(standing.room_type, standing.person.role):
        raise refusal
    return await journal.append(draft.cleaned(standing.person), patience)


async def finish() -> None:
    """Wait until what is being stored is stored and told."""
    await journal.finish()
    await hub.finish()


async def mark_read(person: SenderInfo, room_id: int, seq: int | None = None) -> None:
    """Move her read mark up to `seq`, or to the newest message, and tell the room if it moved.

    Raises `ChatError`: `rate_limited`, `invalid_room`, `unavailable`.
    """
    limits.people.take(person.id, "signals")
    if (mark := await database.query(messages.mark_read, person.id, room_id, seq)) is not None:
        await hub.publish_to_room(
            room_id, RoomUpdate(RoomUpdateData(room_id=room_id, kind="read", user_id=person.id, seq=mark))
        )


async def set_typing(connection: Connection, room_id: int, is_typing: bool) -> None:
    """Tell the other members that she types, or no longer does; that she still does, only now and then.

    Raises `ChatError`: `rate_limited`, `invalid_room`, `forbidden`, `unavailable`.
    """
    person = connection.person
    limits.people.take(person.id, "signals")
    told, now = connection.typing.get(room_id), asyncio.get_running_loop().time()
    if is_typing and told is not None and now - told < settings.TYPING_REPEAT:
        return
    standing = await roster.standing_or_remembered(person.id, room_id)
    if refusal := rooms.refusal_to_write(standing.room_type, standing.person.role):
        raise refusal
    if is_typing:
        connection.typing[room_id] = now
        await hub.publish_to_room(
            room_id,
            _typing(standing.person, room_id, is_typing=True),
            except_person=person.id,
            lapses_into=_typing(standing.person, room_id, is_typing=False),
        )
    else:
        await stop_typing(connection, room_id)


async def stop_typing(connection: Connection, room_id: int) -> None:
    """Tell the other members that she types no longer, if she did at this socket."""
    if connection.typing.pop(room_id, None) is not None:
        person = connection.person
        await hub.publish_to_room(room_id, _typing(person, room_id, is_typing=False), except_person=person.id)


def _typing(person: SenderInfo, room_id: int, *, is_typing: bool) -> Typing:
    return Typing(TypingData(room_id, person.id, person.name, is_typing))
