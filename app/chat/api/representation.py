"""What the HTTP API answers: rooms, messages, pages and errors, as typed structs, which the OpenAPI document shows."""

from collections.abc import Iterable
from typing import Any

import msgspec
from django.db.models import F
from msgspec import Struct

from chat import messages, protocol
from chat.messages import DeliveryStatus, message_data
from chat.models import ChatMessage, ChatRoom, Membership, RoomType, School, User
from chat.protocol import MessageData, SenderInfo

NEWEST = 50
"""Messages that a room is shown with."""


class Participant(Struct, frozen=True):
    """A member of a room."""

    id: int
    username: str
    full_name: str
    email: str
    image_url: str | None


class MessageSender(Struct, frozen=True):
    """Who wrote a message, where a room shows it."""

    id: int
    username: str
    full_name: str
    email: str


class SchoolData(Struct, frozen=True):
    """The school that a room belongs to."""

    id: int
    name: str
    code: str


class ChatMessageData(MessageData, frozen=True, kw_only=True):
    """A message, as over the WebSocket; with its room's school, and how far it has come."""

    school: SchoolData | None
    status: DeliveryStatus


class RoomMessageData(ChatMessageData, frozen=True, kw_only=True):
    """A message where a room shows it: its sender is an object there."""

    sender: MessageSender


class Room(Struct, frozen=True, kw_only=True):
    """A room. `recipient` is the other person of a private room; `unread_count` is the caller's."""

    id: int
    uuid: str
    name: str
    details: str
    is_group: bool
    room_type: str
    is_deleted: bool
    created_at: str
    last_update: str
    last_seq: int
    extra_data: dict[str, Any] | None
    participants: list[Participant]
    last_message: RoomMessageData | None
    recipient: Participant | None
    unread_count: int
    school: SchoolData | None


class RoomDetail(Room, frozen=True, kw_only=True):
    """A room with its newest messages, oldest first, under two names for the same."""

    messages: list[RoomMessageData]
    mmessages: list[RoomMessageData]


class RoomPage(Struct, frozen=True):
    """Some of the caller's rooms. `next` and `previous` are URLs, or null at the ends."""

    count: int
    next: str | None
    previous: str | None
    results: list[Room]


class MessagePage(Struct, frozen=True):
    """Some of the messages, oldest first. `next` (newer) and `previous` (older) are URLs, or null at the ends."""

    count: int
    next: str | None
    previous: str | None
    results: list[ChatMessageData]


class People(Struct, frozen=True):
    """People whom the caller may write to."""

    results: list[SenderInfo]


class ReadMark(Struct, frozen=True):
    """Up to which message the caller has read a room, and how many are left."""

    room_id: int
    read_seq: int
    unread_count: int


class Problem(Struct, frozen=True):
    """Why a call failed: `detail` for a person, `code` for a program."""

    detail: str
    code: str


def participant(user: User) -> Participant:
    """A person as a member of a room."""
    return Participant(user.pk, user.username, user.display_name, user.email, user.avatar or None)


def school_data(school: School | None) -> SchoolData | None:
    """A school as it is shown."""
    return SchoolData(school.pk, school.name, school.code) if school else None


def _fields(data: Struct) -> dict[str, Any]:
    return {name: getattr(data, name) for name in data.__struct_fields__}


def message(
    stored: ChatMessage, school: School | None, marks: dict[int, tuple[int, int]], data: MessageData | None = None
) -> ChatMessageData:
    """A message as it is listed; `data` where it is at hand."""
    return ChatMessageData(
        **_fields(data or message_data(stored)),
        school=school_data(school),
        status=messages.status_of(stored.room_id, stored.seq, marks),
    )


def room_message(stored: ChatMessage, school: School | None, marks: dict[int, tuple[int, int]]) -> RoomMessageData:
    """A message where a room shows it."""
    sender = stored.sender
    shown = MessageSender(sender.pk, sender.username, sender.display_name, sender.email)
    return RoomMessageData(**{**_fields(message(stored, school, marks)), "sender": shown})


def rooms(found: Iterable[ChatRoom], user: User) -> list[Room]:
    """Rooms as the caller sees them, in a constant number of queries."""
    found = list(found)
    ids = [room.pk for room in found]
    members: dict[int, list[Membership]] = {room_id: [] for room_id in ids}
    for membership in Membership.objects.filter(room_id__in=ids).select_related("user").order_by("pk"):
        members[membership.room_id].append(membership)
    newest = messages.complete().filter(room_id__in=ids, seq=F("room__last_seq"))
    last = {each.room_id: each for each in newest}
    marks = messages.statuses(ids)
    return [_room(room, user, members[room.pk], last.get(room.pk), marks) for room in found]


def _room(
    room: ChatRoom,
    user: User,
    members: list[Membership],
    last: ChatMessage | None,
    marks: dict[int, tuple[int, int]],
) -> Room:
    mine = next((each for each in members if each.user_id == user.pk), None)
    shown = [participant(each.user) for each in members]
    other = next((each for each in shown if each.id != user.pk), None)
    recipient = other if room.room_type == RoomType.PRIVATE else None
    return Room(
        id=room.pk,
        uuid=str(room.uuid),
        name=recipient.full_name if recipient else room.name,
        details=room.details,
        is_group=room.is_group,
        room_type=room.room_type,
        is_deleted=room.is_deleted,
        created_at=protocol.timestamp(room.created_at),
        last_update=protocol.timestamp(room.last_update),
        last_seq=room.last_seq,
        extra_data=room.extra_data,
        participants=shown,
        last_message=room_message(last, room.school, marks) if last else None,
        recipient=recipient,
        unread_count=room.last_seq - mine.read_seq if mine else 0,
        school=school_data(room.school),
    )


def room_detail(room: ChatRoom, user: User) -> RoomDetail:
    """A room with its newest messages."""
    marks = messages.statuses([room.pk])
    shown = [room_message(each, room.school, marks) for each in messages.newest(room.pk, NEWEST)]
    return RoomDetail(**_fields(rooms([room], user)[0]), messages=shown, mmessages=shown)


def components() -> dict[str, Any]:
    """The JSON Schemas of all answers, by name."""
    answers = [Room, RoomDetail, RoomPage, ChatMessageData, MessagePage, People, ReadMark, Problem]
    _, found = msgspec.json.schema_components(answers, ref_template="#/components/schemas/{name}")
    return found
