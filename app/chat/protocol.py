"""The wire: every event in both directions, the error codes and the close codes.

This is the only module that knows what a frame looks like. A frame is a text frame with one JSON object:
`{"type": str, "data": object, "room_id"?: int, "user_id"?: int, "timestamp": str}`.
"""

import re
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Annotated, Literal, Self, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from salon import measures

MAX_CONTENT = 2000
"""Characters (code points) of a message, after white space at both ends is taken off."""

MAX_CLIENT_ID = 64
"""Characters (code points) of the name that a client gives its message."""

MAX_HISTORY = 500
"""Messages that `join_room` answers at most; what is older is paged over HTTP."""

HISTORY_FRAME = 50
"""Messages of one `history` event: a frame stays below the 1 MiB that client libraries take by default."""

RETRY_AFTER = 0.5
"""Seconds until another try, where nobody knows better: a service that is away is asked several times a second."""

Id = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Seq = Annotated[int, Meta(ge=0, le=2**63 - 1)]
ClientId = Annotated[str, Meta(min_length=1, max_length=MAX_CLIENT_ID)]
Content = Annotated[
    str,
    Meta(
        description=f"1 to {MAX_CONTENT} characters (code points), counted once white space at both ends is taken off.",
        # Told, and not enforced while decoding: `clean_content` counts what is left, and has a sentence for each case.
        extra_json_schema={"minLength": 1, "maxLength": MAX_CONTENT},
    ),
]
Timestamp = Annotated[
    str,
    Meta(
        description="ISO 8601 in UTC, always with microseconds, so that sorting the strings sorts the moments.",
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$",
        extra_json_schema={"format": "date-time"},
    ),
]
Status = Literal["online", "offline", "away"]


class ErrorCode(StrEnum):
    """Why an `error` event was sent. The values are stable; the sentence beside them is for a person."""

    meaning: str
    """One sentence for whoever writes a client."""

    def __new__(cls, value: str, meaning: str) -> Self:
        code = str.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    INVALID_JSON = "invalid_json", "The frame is not valid JSON, or is nested too deeply."
    NOT_AN_OBJECT = "not_an_object", "The frame is JSON, but not an object."
    BINARY_FRAME = "binary_frame", "The frame is binary; every event is a text frame."
    UNKNOWN_TYPE = "unknown_type", "The event's `type` is none that this server knows."
    INVALID_EVENT = "invalid_event", "A field of the event is missing or not as it should be; the sentence names it."
    INVALID_ROOM = "invalid_room", "There is no such room, or the person is not a member of it."
    NOT_JOINED = "not_joined", "This connection has not joined the room."
    TOO_MANY_ROOMS = "too_many_rooms", "This connection has joined as many rooms as it may; leave one first."
    FORBIDDEN = "forbidden", "The person is known, but her role does not allow this."
    INVALID_MESSAGE = "invalid_message", "There is no such message, or it is not in a room of this person."
    INVALID_PARTICIPANTS = "invalid_participants", "Somebody who is named is not there, or too many or few are named."
    INVALID_FILE = "invalid_file", "The file is missing, or is of a kind that is not taken."
    FILE_TOO_LARGE = "file_too_large", "The file has more bytes than one may have."
    CONTENT_EMPTY = "content_empty", "Nothing is left of the message once white space at both ends is taken off."
    CONTENT_TOO_LONG = "content_too_long", f"The message has more than {MAX_CONTENT} characters."
    CONTENT_INVALID = "content_invalid", "The message holds a character that cannot be stored, such as NUL."
    NOT_AUTHENTICATED = "not_authenticated", "The connection has not said who it is; nothing else is answered before."
    INVALID_TOKEN = "invalid_token", "The token is not one of this server, or its person is not active any more."
    TOKEN_EXPIRING = "token_expiring", "The token expires soon; send a new one in an `auth` event, and nothing ends."
    TOKEN_EXPIRED = "token_expired", "The token has expired; connect again with a new one."
    REVOKED = "revoked", "The token was revoked, or the person was deactivated or signed out; do not come back with it."
    IDENTITY_MISMATCH = "identity_mismatch", "The event claims to be of somebody else than the connection's person."
    RATE_LIMITED = "rate_limited", "Too much in too short a time; wait for `retry_after` seconds."
    TOO_MANY_CONNECTIONS = "too_many_connections", "The person has as many connections as she may; close one first."
    UNAVAILABLE = (
        "unavailable",
        "A service that the server needs is away for the moment; try again after `retry_after` seconds.",
    )
    INTERNAL = "internal", "The server made a mistake, and has logged it."


class CloseCode(IntEnum):
    """WebSocket close codes (RFC 6455, 7.4.2: 4000 to 4999 are the application's own; 1012 is in IANA's registry).

    4400 to 4499: what the client did; 4500 to 4599: the server's own trouble.
    """

    meaning: str
    """One sentence for whoever writes a client."""

    def __new__(cls, value: int, meaning: str) -> Self:
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    SERVICE_RESTART = 1012, "The server is being restarted; come back, and get what was missed."
    UNAUTHENTICATED = 4401, "The connection has no valid identity; the `error` event before says why."
    SLOW_READER = 4408, "The client did not read what it was sent; come back, and get what was missed."
    RATE_LIMITED = 4429, "Too much in too short a time; come back after the `retry_after` of the `error` event before."
    INTERNAL = 4500, "The server made a mistake, and has logged it; come back in a moment."
    UNAVAILABLE = 4503, "A service that the server needs is away for the moment; come back in a moment."


class ChatError(Exception):
    """Something that a client is told in an `error` event: a stable code, and a sentence that says what to do.

    `retry_after`: seconds until it may work, where that is known; what is unavailable always says.
    """

    def __init__(self, code: ErrorCode, sentence: str, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        if code is ErrorCode.UNAVAILABLE and retry_after is None:
            retry_after = RETRY_AFTER
        self.code = code
        self.sentence = sentence
        self.retry_after = retry_after


# Client to server


class AuthData(Struct, frozen=True):
    user_id: Id | None = None
    token: str | None = None


class RoomData(Struct, frozen=True):
    room_id: Id | None = None


class JoinData(Struct, frozen=True):
    """`since`: the last sequence number seen; `history`: how many of the newest messages. At most one of the two."""

    room_id: Id | None = None
    since: Seq | None = None
    history: Annotated[int, Meta(ge=0, le=MAX_HISTORY)] | None = None


class MessageContent(Struct, frozen=True):
    """`client_id`: the sender's own name for the message; under the same one it is never stored twice."""

    content: Content
    room_id: Id | None = None
    client_id: ClientId | None = None


class ReadData(Struct, frozen=True):
    """`seq`: up to which message; without it, up to the newest."""

    room_id: Id | None = None
    seq: Seq | None = None


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
    """Say who is connected, by a token; or, once that is known, renew the token or make sure of the person.

    A connection that has not said so after five seconds is closed with 4401.
    """

    data: AuthData = AuthData()


class JoinRoom(ClientEvent, tag="join_room"):
    """Receive the events of a room from now on, and before them what `data` asks for, in `history` events.

    The present state of the other members follows in `user_status` events.
    """

    data: JoinData = JoinData()


class LeaveRoom(ClientEvent, tag="leave_room"):
    """Receive no more events of a room."""

    data: RoomData = RoomData()


class SendMessage(ClientEvent, tag="message"):
    """Say something in a room. The `message` event that comes back is the receipt: it is stored."""

    data: MessageContent


class SetTyping(ClientEvent, tag="typing"):
    """Begin or stop typing. It ends by itself after five seconds, and with the message."""

    data: TypingState


class SetStatus(ClientEvent, tag="user_status"):
    """How present the person is at this connection; she is as present as the most present of her connections."""

    data: StatusData


class Read(ClientEvent, tag="read"):
    """Everything up to a message is read. The mark never goes back."""

    data: ReadData = ReadData()


class Ping(ClientEvent, tag="ping"):
    """Ask for a `pong`, which comes after the answers to all that was sent before."""


AnyClientEvent = Auth | JoinRoom | LeaveRoom | SendMessage | SetTyping | SetStatus | Read | Ping
RoomEvent = TypeVar("RoomEvent", JoinRoom, LeaveRoom, SendMessage, SetTyping, Read)


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
    if not isinstance(error, msgspec.ValidationError):
        return _unreadable(error)
    try:
        _object_decoder.decode(text)
    except msgspec.ValidationError:
        return ChatError(ErrorCode.NOT_AN_OBJECT, 'The frame is not a JSON object; send {"type": …, "data": {…}}.')
    except (msgspec.MsgspecError, RecursionError) as behind:  # the first error ended the first look before this one
        return _unreadable(behind)
    try:
        name = _type_decoder.decode(text).type
    except msgspec.MsgspecError:
        return ChatError(ErrorCode.INVALID_EVENT, "The event's `type` is missing or not a string.")
    if name not in _known_types:
        return ChatError(ErrorCode.UNKNOWN_TYPE, f"Unknown event type; this server knows {', '.join(_known_types)}.")
    # The one place where msgspec repeats what it was given.
    reason = re.sub(r"(?s)Invalid enum value .*(?= - at `)", "Expected one of its known values", str(error))
    return ChatError(ErrorCode.INVALID_EVENT, f"The `{name}` event is not as it should be: {reason}.")


def _unreadable(error: Exception) -> ChatError:
    if isinstance(error, RecursionError):
        return ChatError(ErrorCode.INVALID_JSON, "The frame is nested too deeply; send one flat JSON object.")
    return ChatError(ErrorCode.INVALID_JSON, "The frame is not valid JSON; send one JSON object.")


def room_of(event: RoomEvent) -> int:
    """The room that an event names: `data.room_id`, or else the one beside `data`."""
    room_id = event.room_id if event.data.room_id is None else event.data.room_id
    if room_id is None:
        raise ChatError(ErrorCode.INVALID_EVENT, "The event names no room; put `room_id` into `data`.")
    return room_id


def claimed_user(event: Auth) -> int | None:
    """The person that an `auth` event claims to be: `data.user_id`, or else the one beside `data`."""
    return event.user_id if event.data.user_id is None else event.data.user_id


def clean_content(content: str, *, may_be_empty: bool = False) -> str:
    """A message's text as it is stored: trimmed, 1 to 2,000 characters, none of which a database refuses.

    It `may_be_empty` where the message has a file. Raises `ChatError`: `content_empty`, `content_too_long`,
    `content_invalid`.
    """
    content = content.strip()
    if not content and not may_be_empty:
        raise ChatError(ErrorCode.CONTENT_EMPTY, "The message is empty; write something.")
    if len(content) > MAX_CONTENT:
        raise ChatError(
            ErrorCode.CONTENT_TOO_LONG,
            f"The message has {len(content)} characters; shorten it to {MAX_CONTENT}.",
        )
    if not is_storable(content):
        raise ChatError(ErrorCode.CONTENT_INVALID, "The message holds NUL or half a surrogate pair; send text without.")
    return content


def is_storable(text: str) -> bool:
    """Whether a database takes the text: PostgreSQL refuses NUL, and half a surrogate pair is not UTF-8."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# Server to client


def timestamp(moment: datetime | None = None) -> str:
    """ISO 8601 in UTC, always with microseconds, so that sorting the strings sorts the moments."""
    moment = datetime.now(UTC) if moment is None else moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


class SenderInfo(Struct, frozen=True):
    """A person as others see her."""

    id: int
    name: str
    role: str
    avatar: str | None


class AttachmentData(Struct, frozen=True):
    """A file of a message. `size` is in bytes; `content_type` was told by the content, not by the name."""

    url: str
    name: str
    content_type: str
    size: int
    kind: Literal["attachment", "voice_note"]


class MessageData(Struct, frozen=True, kw_only=True):
    """A message. `seq` counts the messages of its room from 1, without a gap; what was deleted has no content."""

    id: int
    uuid: Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
    seq: int
    content: str
    sender: int
    chat: int
    created_at: Timestamp
    last_update: Timestamp
    is_deleted: bool
    extra_data: dict | None
    message_type: str
    attachment_url: str | None
    voice_note_url: str | None
    attachments: list[AttachmentData]
    client_id: str | None
    sender_info: SenderInfo


class Message(Struct, frozen=True, tag_field="type", tag="message"):
    """Somebody said something in a room."""

    data: MessageData
    room_id: int
    timestamp: Timestamp = field(default_factory=timestamp)


class HistoryData(Struct, frozen=True, kw_only=True):
    """What a client asked for when it joined: the oldest message first, at most 50 in each event.

    `complete`: no other `history` event of this answer follows. `last_seq`: of the room's newest message, which live
    events go on from. `missed`: how many messages there are after `since`; where that is more than 500, the newest 500
    are here, and `next` is the path of the HTTP API that pages the others (null where there are none). `changed`:
    older messages that were edited or deleted since, at most 500.
    """

    room_id: int
    messages: list[MessageData]
    changed: list[MessageData]
    complete: bool
    last_seq: int
    missed: int
    next: str | None


class History(Struct, frozen=True, tag_field="type", tag="history"):
    """What was said before the live events that follow."""

    data: HistoryData
    timestamp: Timestamp = field(default_factory=timestamp)


class TypingData(Struct, frozen=True):
    room_id: int
    user_id: int
    user_name: str
    is_typing: bool


class Typing(Struct, frozen=True, tag_field="type", tag="typing"):
    """Another member types, or no longer does."""

    data: TypingData
    timestamp: Timestamp = field(default_factory=timestamp)


class UserStatusData(Struct, frozen=True):
    user_id: int
    status: Status
    last_seen: Timestamp


class UserStatus(Struct, frozen=True, tag_field="type", tag="user_status"):
    """How present somebody is who shares a room with this person."""

    data: UserStatusData
    timestamp: Timestamp = field(default_factory=timestamp)


class RoomUpdateData(Struct, frozen=True, kw_only=True):
    """What changed in a room: `kind`, and the fields that belong to it.

    `participants_added`, `participants_removed`: `participants`. `renamed`: `name`. `message_edited`,
    `message_deleted`: `message`. `read`: `user_id` has read everything up to `seq`. `deleted`: nothing more.
    """

    room_id: int
    kind: Literal[
        "participants_added",
        "participants_removed",
        "renamed",
        "deleted",
        "message_edited",
        "message_deleted",
        "read",
    ]
    participants: list[SenderInfo] | UnsetType = UNSET
    name: str | UnsetType = UNSET
    message: MessageData | UnsetType = UNSET
    user_id: int | UnsetType = UNSET
    seq: int | UnsetType = UNSET


class RoomUpdate(Struct, frozen=True, tag_field="type", tag="room_update"):
    """Something changed in a room."""

    data: RoomUpdateData
    timestamp: Timestamp = field(default_factory=timestamp)


class ErrorData(Struct, frozen=True):
    """`error`: a sentence for a person; `code`: stable, for a program.

    `client_id`: of the message that was refused, where it had one. `retry_after`: seconds until it may work.
    """

    error: str
    code: ErrorCode
    client_id: str | UnsetType = UNSET
    retry_after: float | UnsetType = UNSET


class Error(Struct, frozen=True, tag_field="type", tag="error"):
    """Something that was asked for cannot be, or something about the connection."""

    data: ErrorData
    timestamp: Timestamp = field(default_factory=timestamp)


class Nothing(Struct, frozen=True):
    """Always empty."""


class Pong(Struct, frozen=True, tag_field="type", tag="pong"):
    """The answer to `ping`."""

    data: Nothing = Nothing()
    timestamp: Timestamp = field(default_factory=timestamp)


ServerEvent = Message | History | Typing | UserStatus | RoomUpdate | Error | Pong

_encoder = msgspec.json.Encoder()


def encode(event: ServerEvent) -> str:
    """The text frame of an event."""
    measures.made[type(event)] += 1
    return _encoder.encode(event).decode()


def encode_error(error: ChatError, client_id: str | None = None) -> str:
    """The text frame that tells a client of an error; `client_id` names the message that it is about."""
    measures.errors[error.code.value] += 1
    retry_after = UNSET if error.retry_after is None else error.retry_after
    return encode(Error(ErrorData(error.sentence, error.code, client_id or UNSET, retry_after)))
