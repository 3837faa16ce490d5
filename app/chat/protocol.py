"""The wire: every event in both directions, the error codes and the close codes.

This is the only module that knows what a frame looks like. A frame is a text frame with one JSON object:
`{"type": str, "data": object, "room_id"?: int, "user_id"?: int, "timestamp": str}`.
"""

from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

MAX_CONTENT = 2000
"""Characters (code points) of a message, after white space at both ends is taken off."""

Id = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Status = Literal["online", "offline", "away"]


class ErrorCode(StrEnum):
    """Why an `error` event was sent. The values are stable; the sentence beside them is for a person."""

    INVALID_JSON = "invalid_json"
    NOT_AN_OBJECT = "not_an_object"
    BINARY_FRAME = "binary_frame"
    UNKNOWN_TYPE = "unknown_type"
    INVALID_EVENT = "invalid_event"
    INVALID_ROOM = "invalid_room"
    NOT_JOINED = "not_joined"
    CONTENT_EMPTY = "content_empty"
    CONTENT_TOO_LONG = "content_too_long"
    CONTENT_INVALID = "content_invalid"
    NOT_AUTHENTICATED = "not_authenticated"
    INVALID_TOKEN = "invalid_token"  # noqa: S105 (the name of an error)
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 (the name of an error)
    IDENTITY_MISMATCH = "identity_mismatch"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class CloseCode(IntEnum):
    """WebSocket close codes (RFC 6455, 7.4.2: 4000 to 4999 are the application's own).

    4400 to 4499: what the client did; 4500 to 4599: the server's own trouble.
    """

    UNAUTHENTICATED = 4401
    INTERNAL = 4500
    UNAVAILABLE = 4503


class ChatError(Exception):
    """Something that a client is told in an `error` event: a stable code, and a sentence that says what to do."""

    def __init__(self, code: ErrorCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


# Client to server


class AuthData(Struct, frozen=True):
    user_id: Id | None = None
    token: str | None = None


class RoomData(Struct, frozen=True):
    room_id: Id | None = None


class MessageContent(Struct, frozen=True):
    content: str
    room_id: Id | None = None


class TypingState(Struct, frozen=True):
    is_typing: bool
    room_id: Id | None = None


class StatusData(Struct, frozen=True):
    status: Status


class ClientEvent(Struct, frozen=True, tag_field="type", kw_only=True):
    """What every client event may carry. `user_id` is a claim, which nothing believes."""

    room_id: Id | None = None
    user_id: Id | None = None
    timestamp: str | None = None


class Auth(ClientEvent, tag="auth"):
    data: AuthData = AuthData()


class JoinRoom(ClientEvent, tag="join_room"):
    data: RoomData = RoomData()


class LeaveRoom(ClientEvent, tag="leave_room"):
    data: RoomData = RoomData()


class SendMessage(ClientEvent, tag="message"):
    data: MessageContent


class SetTyping(ClientEvent, tag="typing"):
    data: TypingState


class SetStatus(ClientEvent, tag="user_status"):
    data: StatusData


class Ping(ClientEvent, tag="ping"):
    pass


AnyClientEvent = Auth | JoinRoom | LeaveRoom | SendMessage | SetTyping | SetStatus | Ping
RoomEvent = TypeVar("RoomEvent", JoinRoom, LeaveRoom, SendMessage, SetTyping)


class _Typed(Struct):
    type: str


_decoder = msgspec.json.Decoder(AnyClientEvent)
_type_decoder = msgspec.json.Decoder(_Typed)
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_known_types = sorted(event.__struct_config__.tag for event in AnyClientEvent.__args__)


def decode(text: str) -> AnyClientEvent:
    """The event in a text frame.

    Raises `ChatError` with one of `invalid_json`, `not_an_object`, `unknown_type`, `invalid_event`.
    """
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise _explain(text, error) from None


def _explain(text: str, error: Exception) -> ChatError:
    """Why `text` is not an event; only refused frames pay for the second look."""
    if isinstance(error, RecursionError):
        return ChatError(ErrorCode.INVALID_JSON, "The frame is nested too deeply; send one flat JSON object.")
    if not isinstance(error, msgspec.ValidationError):
        return ChatError(ErrorCode.INVALID_JSON, "The frame is not valid JSON; send one JSON object.")
    try:
        _object_decoder.decode(text)
    except msgspec.MsgspecError:
        return ChatError(ErrorCode.NOT_AN_OBJECT, 'The frame is not a JSON object; send {"type": …, "data": {…}}.')
    try:
        name = _type_decoder.decode(text).type
    except msgspec.MsgspecError:
        return ChatError(ErrorCode.INVALID_EVENT, "The event's `type` is missing or not a string.")
    if name not in _known_types:
        return ChatError(ErrorCode.UNKNOWN_TYPE, f"Unknown event type; this server knows {', '.join(_known_types)}.")
    return ChatError(ErrorCode.INVALID_EVENT, f"The `{name}` event is not as it should be: {error}.")


def room_of(event: RoomEvent) -> int:
    """The room that an event names: `data.room_id`, or else the one beside `data`."""
    room_id = event.room_id if event.data.room_id is None else event.data.room_id
    if room_id is None:
        raise ChatError(ErrorCode.INVALID_EVENT, "The event names no room; put `room_id` into `data`.")
    return room_id


def claimed_user(event: Auth) -> int | None:
    """The person that an `auth` event claims to be: `data.user_id`, or else the one beside `data`."""
    return event.user_id if event.data.user_id is None else event.data.user_id


def clean_content(content: str) -> str:
    """A message's text as it is stored: trimmed, 1 to 2,000 characters, none of which a database refuses."""
    content = content.strip()
    if not content:
        raise ChatError(ErrorCode.CONTENT_EMPTY, "The message is empty; write something.")
    if len(content) > MAX_CONTENT:
        raise ChatError(
            ErrorCode.CONTENT_TOO_LONG,
            f"The message has {len(content)} characters; shorten it to {MAX_CONTENT}.",
        )
    if "\0" in content or not _is_unicode(content):
        raise ChatError(ErrorCode.CONTENT_INVALID, "The message holds NUL or half a surrogate pair; send text without.")
    return content


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


# Server to client


def timestamp(moment: datetime | None = None) -> str:
    """ISO 8601 in UTC, always with microseconds, so that sorting the strings sorts the moments."""
    moment = datetime.now(UTC) if moment is None else moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class SenderInfo(Struct, frozen=True):
    """A person as others see her."""

    id: int
    name: str
    role: str
    avatar: str | None


class MessageData(Struct, frozen=True, kw_only=True):
    id: int
    uuid: str
    seq: int
    content: str
    sender: int
    chat: int
    created_at: str
    last_update: str
    is_deleted: bool
    extra_data: dict | None
    message_type: str
    attachment_url: str | None
    voice_note_url: str | None
    sender_info: SenderInfo


class Message(Struct, frozen=True, tag_field="type", tag="message"):
    data: MessageData
    room_id: int
    timestamp: str = field(default_factory=timestamp)


class TypingData(Struct, frozen=True):
    room_id: int
    user_id: int
    user_name: str
    is_typing: bool


class Typing(Struct, frozen=True, tag_field="type", tag="typing"):
    data: TypingData
    timestamp: str = field(default_factory=timestamp)


class UserStatusData(Struct, frozen=True):
    user_id: int
    status: Status
    last_seen: str


class UserStatus(Struct, frozen=True, tag_field="type", tag="user_status"):
    data: UserStatusData
    timestamp: str = field(default_factory=timestamp)


class RoomUpdateData(Struct, frozen=True, kw_only=True):
    """What changed in a room: `kind`, and the one field that belongs to it."""

    room_id: int
    kind: Literal[
        "participants_added",
        "participants_removed",
        "renamed",
        "deleted",
        "message_edited",
        "message_deleted",
    ]
    participants: list[SenderInfo] | UnsetType = UNSET
    name: str | UnsetType = UNSET
    message: MessageData | UnsetType = UNSET


class RoomUpdate(Struct, frozen=True, tag_field="type", tag="room_update"):
    data: RoomUpdateData
    timestamp: str = field(default_factory=timestamp)


class ErrorData(Struct, frozen=True):
    error: str
    code: ErrorCode


class Error(Struct, frozen=True, tag_field="type", tag="error"):
    data: ErrorData
    timestamp: str = field(default_factory=timestamp)


class Pong(Struct, frozen=True, tag_field="type", tag="pong"):
    data: dict = field(default_factory=dict)
    timestamp: str = field(default_factory=timestamp)


ServerEvent = Message | Typing | UserStatus | RoomUpdate | Error | Pong

_encoder = msgspec.json.Encoder()


def encode(event: ServerEvent) -> str:
    """The text frame of an event."""
    return _encoder.encode(event).decode()


def encode_error(error: ChatError) -> str:
    """The text frame that tells a client of an error."""
    return encode(Error(ErrorData(error.sentence, error.code)))
