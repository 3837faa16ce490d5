"""What people do in rooms, step by step: may she, make it durable, tell the others.

The consumer calls this, and so does everything else that speaks for a person.
"""

from chat import database, people, protocol, rooms
from chat.connection import Connection
from chat.hub import hub
from chat.journal import Draft, Journal
from chat.protocol import (
    Message,
    MessageData,
    SenderInfo,
    Status,
    Typing,
    TypingData,
    UserStatus,
    UserStatusData,
)

journal = Journal()


async def join(connection: Connection, room_id: int) -> None:
    """Let a socket hear the room from now on. Raises `ChatError`: `invalid_room`, `unavailable`."""
    while True:
        removals = hub.removals
        await database.query(rooms.require_member, connection.person.id, room_id)
        # What is known now holds only if the process would have heard of a removal since, and did not.
        if hub.hears(room_id) and hub.removals == removals:
            hub.join(connection, room_id)
            return
        await hub.listen(room_id)


async def say(sender: SenderInfo, room_id: int, content: str) -> MessageData:
    """Store a message, then send it to everyone who has joined the room.

    Raises `ChatError`: `invalid_room`, `content_empty`, `content_too_long`, `content_invalid`, `unavailable`.
    """
    content = protocol.clean_content(content)
    await database.query(rooms.require_member, sender.id, room_id)
    message = await journal.append(Draft(room_id, sender, content))
    await hub.publish_to_room(room_id, Message(message, room_id))
    return message


async def set_typing(person: SenderInfo, room_id: int, is_typing: bool) -> None:
    """Tell the other members that she types, or no longer does. Raises `ChatError`: `invalid_room`, `unavailable`."""
    await database.query(rooms.require_member, person.id, room_id)
    event = Typing(TypingData(room_id, person.id, person.name, is_typing))
    await hub.publish_to_room(room_id, event, except_person=person.id)


async def set_status(person: SenderInfo, status: Status) -> None:
    """Tell everyone who shares a room with her. Raises `ChatError`: `unavailable`."""
    last_seen = await database.query(people.mark_seen, person.id)
    others = await database.query(rooms.people_sharing_a_room, person.id)
    event = UserStatus(UserStatusData(person.id, status, protocol.timestamp(last_seen)))
    await hub.publish_to_people(others, event)
