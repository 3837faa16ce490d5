"""What the HTTP API takes: bodies in three encodings, and query strings."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
from django.http import QueryDict
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.fields import empty

from chat.models import FileKind, MessageType, RoomType
from chat.protocol import MAX_CLIENT_ID, MAX_CONTENT, is_storable

MAX_ID = 2**63 - 1
MAX_EXTRA_DATA = 8192
"""Bytes of `extra_data` as JSON."""
MAX_EXTRA_DEPTH = 20
"""Objects and arrays within each other in `extra_data`."""
MAX_PARTICIPANTS = 1000
MAX_PAGE = 200
"""Items of a page at most."""
PAGE = 50
"""Items of a page where the caller does not say."""
ROOM_KEY = "[0-9]{1,19}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
"""An id or a uuid in letters."""


class Text(serializers.CharField):
    """Text that a database takes. A number or a boolean of JSON is none."""

    default_error_messages: ClassVar = {"storable": "Half a surrogate pair is not text; send it without."}

    def get_value(self, dictionary: Mapping[str, Any]) -> Any:
        # REST framework takes an empty field of a form for null; the rules are those of JSON.
        return dictionary.get(self.field_name, empty)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        text = super().to_internal_value(data)
        if not is_storable(text):
            self.fail("storable")
        return text


class Content(Text):
    """What a message says, by the rules of `chat.protocol.clean_content`."""

    def __init__(self, **options: Any) -> None:
        counted = "Counted in code points once white space at both ends is taken off; empty only with a file."
        super().__init__(allow_blank=True, trim_whitespace=False, help_text=counted, **options)


class Upload(serializers.FileField):
    """A file of a multipart body."""


class Flag(serializers.BooleanField):
    """A boolean that may be left out of a form too: there a check box that is not ticked would mean false."""

    default_empty_html = empty


@extend_schema_field(
    {
        "oneOf": [
            {"type": "object"},
            {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": {"type": ["object", "null"]},
                "description": "The object as JSON, as forms send it. The empty string is nothing.",
            },
        ],
        "description": f"An object of at most {MAX_EXTRA_DATA} bytes as JSON, at most {MAX_EXTRA_DEPTH} deep, its "
        "integers of at most 64 bits.",
    }
)
class JSONObject(serializers.Field):
    """A JSON object, as it is or as a string; null and the empty string are nothing."""

    default_error_messages: ClassVar = {
        "invalid": "This is not a JSON object.",
        "too_large": f"This has more than {MAX_EXTRA_DATA} bytes as JSON.",
        "too_deep": f"Objects and arrays are nested more than {MAX_EXTRA_DEPTH} deep.",
        "storable": "It holds NUL, half a surrogate pair, or a number of more than 64 bits.",
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_null=True, required=False, **options)

    def to_internal_value(self, data: Any) -> dict[str, Any] | None:
        if isinstance(data, str):
            if not data.strip():
                return None
            try:
                data = msgspec.json.decode(data)
            except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError, ValueError):
                self.fail("invalid")
        if data is None:
            return None
        if not isinstance(data, dict):
            self.fail("invalid")
        self._check(data, MAX_EXTRA_DEPTH)
        if len(msgspec.json.encode(data)) > MAX_EXTRA_DATA:
            self.fail("too_large")
        return data

    def _check(self, value: Any, depth: int) -> None:
        if depth < 0:
            self.fail("too_deep")
        if isinstance(value, dict):
            for key, item in value.items():
                self._check(key, depth)
                self._check(item, depth - 1)
        elif isinstance(value, list):
            for item in value:
                self._check(item, depth - 1)
        elif (isinstance(value, str) and not is_storable(value)) or (
            isinstance(value, int) and not -(2**63) <= value < 2**63
        ):
            self.fail("storable")

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field(
    {
        "oneOf": [
            {
                "type": "array",
                "items": {"type": "integer", "minimum": 1, "maximum": MAX_ID},
                "maxItems": MAX_PARTICIPANTS,
            },
            {
                "type": "string",
                "contentMediaType": "application/json",
                "description": "The same list as JSON, in one field of a form.",
            },
        ]
    }
)
class People(serializers.ListField):
    """Ids of people: a JSON list, a repeated field of a form, or a JSON list in one field of a form."""

    child = serializers.IntegerField(min_value=1, max_value=MAX_ID)
    default_error_messages: ClassVar = {"not_ids": f"These are not all ids of people; an id is 1 to {MAX_ID}."}

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, max_length=MAX_PARTICIPANTS, **options)

    def to_internal_value(self, data: Any) -> list[int]:
        if isinstance(data, list) and len(data) == 1 and isinstance(data[0], str):
            data = data[0]
        if isinstance(data, str):
            try:
                decoded = msgspec.json.decode(data or "[]")
            except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError, ValueError):
                decoded = [data]
            data = decoded if isinstance(decoded, list) else [decoded]
        if isinstance(data, list):
            # As a room shows them: whoever sends back what she has read sends objects.
            data = [item["id"] if isinstance(item, dict) and "id" in item else item for item in data]
        return super().to_internal_value(data)

    def run_child_validation(self, data: list[Any]) -> list[int]:
        try:
            return super().run_child_validation(data)
        except serializers.ValidationError:
            # A field's errors are a list, and not an object of lists by position.
            self.fail("not_ids")


@extend_schema_field(
    {
        "oneOf": [
            {"type": "integer", "minimum": 1, "maximum": MAX_ID},
            {"type": "string", "pattern": f"^({ROOM_KEY})$"},
        ]
    }
)
class RoomKey(serializers.Field):
    """The id of a room, as a number or a string, or its uuid."""

    default_error_messages: ClassVar = {"invalid": "This is not the id or the uuid of a room."}

    def to_internal_value(self, data: Any) -> str:
        if isinstance(data, int) and not isinstance(data, bool) and 0 < data <= MAX_ID:
            return str(data)
        if isinstance(data, str) and re.fullmatch(ROOM_KEY, data):
            return data
        raise serializers.ValidationError(self.error_messages["invalid"], "invalid")

    def to_representation(self, value: Any) -> Any:
        return value


class RoomFields(serializers.Serializer):
    """What a room is made of, as far as a caller says."""

    name = Text(max_length=200, allow_blank=True, required=False)
    details = Text(max_length=5000, allow_blank=True, required=False)
    extra_data = JSONObject()
    participants = People(help_text="Ids of people; the caller is always one of them.")


class NewRoom(RoomFields):
    """A new room. Without `is_group` it is a group; a private room is for the caller and one other person."""

    is_group = Flag(required=False)
    room_type = serializers.ChoiceField(RoomType.choices, required=False, help_text="What kind of group.")
    participant_ids = People(help_text="The same as `participants`.")
    initial_message = Text(max_length=MAX_CONTENT, allow_blank=True, required=False)

    @property
    def people(self) -> set[int]:
        """Everybody whom the caller has named."""
        data = self.validated_data
        return {*data.get("participants", ()), *data.get("participant_ids", ())}


class NewMessage(serializers.Serializer):
    """A new message. The room is named by one of three names, of which today's frontends use two."""

    chat = RoomKey(required=False)
    chat_room_id = RoomKey(required=False)
    room_id = RoomKey(required=False)
    content = Content(required=False, default="")
    message_type = serializers.ChoiceField(MessageType.choices, default=MessageType.TEXT)
    extra_data = JSONObject()
    client_id = Text(
        max_length=MAX_CLIENT_ID,
        required=False,
        allow_null=True,
        allow_blank=False,
        trim_whitespace=False,
        help_text="The sender's own name for the message; under the same one it is never stored twice.",
    )

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        named = [data[name] for name in ("chat", "chat_room_id", "room_id") if name in data]
        if not named:
            raise serializers.ValidationError({"chat": ["This field is required."]})
        data["room"] = named[0]
        return data


class NewMessageWithFiles(NewMessage):
    """A new message with files: `attachment`, `attachment_0`, `attachment_1`, …, and `voice_note`."""

    attachment = Upload(required=False, allow_empty_file=True)
    attachment_0 = Upload(required=False, allow_empty_file=True)
    voice_note = Upload(required=False, allow_empty_file=True)


class MessageChange(serializers.Serializer):
    """Another content for a message."""

    content = Content()
    extra_data = JSONObject()


class ReadUpTo(serializers.Serializer):
    """`seq`: up to which message; without it, up to the newest."""

    seq = serializers.IntegerField(min_value=0, max_value=MAX_ID, required=False)


class Page(serializers.Serializer):
    """Which part of a list."""

    limit = serializers.IntegerField(
        min_value=1, max_value=MAX_ID, default=PAGE, help_text=f"How many; more than {MAX_PAGE} are {MAX_PAGE}."
    )
    offset = serializers.IntegerField(min_value=0, max_value=MAX_ID, required=False)

    def validate_limit(self, limit: int) -> int:
        return min(limit, MAX_PAGE)


class PeopleQuery(serializers.Serializer):
    """Which people."""

    name = Text(required=False, allow_blank=True, max_length=200, help_text="Part of the name, or several words of it.")


class RoomQuery(Page):
    """Which rooms."""

    name = Text(required=False, allow_blank=True, max_length=200, help_text="Part of the name.")
    details = Text(required=False, allow_blank=True, max_length=200, help_text="Part of the details.")


class MessageQuery(Page):
    """Which messages: without `offset`, `before` and `after`, the newest page."""

    room_id = RoomKey(required=False)
    chat = RoomKey(required=False)
    before = serializers.IntegerField(
        min_value=0,
        max_value=MAX_ID,
        required=False,
        help_text="Only messages before this `seq` of the room; without a room, before this message `id`.",
    )
    after = serializers.IntegerField(
        min_value=0,
        max_value=MAX_ID,
        required=False,
        help_text="Only messages after this `seq` of the room; without a room, after this message `id`.",
    )

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        if "offset" in data and ("before" in data or "after" in data):
            raise serializers.ValidationError({"offset": ["Not together with `before` or `after`."]})
        return data


ATTACHMENT = re.compile(r"attachment(_[0-9]{1,9})?")


def uploads(files: QueryDict) -> list[tuple[str, Any]]:
    """The uploaded files of a message, each with its kind, in the order of their names."""
    names = [name for name in files if ATTACHMENT.fullmatch(name)]
    if unknown := sorted(set(files) - {*names, FileKind.VOICE_NOTE}):
        # Without a word, a file would be lost that somebody thinks she has sent.
        hint = "No file is taken under this name; call it attachment, attachment_0, attachment_1, … or voice_note."
        raise serializers.ValidationError({name: [hint] for name in unknown})
    attachments = [(_number(name), file) for name in names for file in files.getlist(name)]
    notes = [(FileKind.VOICE_NOTE.value, file) for file in files.getlist(FileKind.VOICE_NOTE)]
    return [(FileKind.ATTACHMENT.value, file) for _, file in sorted(attachments, key=lambda each: each[0])] + notes


def _number(name: str) -> int:
    digits = name.removeprefix("attachment").removeprefix("_")
    return int(digits) if digits else -1
