import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from chat import protocol
from chat.protocol import ChatError, CloseCode, ErrorCode


def event(kind, data, **beside):
    return json.dumps({"type": kind, "data": data, "timestamp": "2024-01-15T10:00:00Z", **beside})


@pytest.mark.parametrize(
    "text",
    [
        event("auth", {"user_id": 123}),
        event("auth", {"user_id": 123, "token": "x"}),
        event("join_room", {"room_id": 456}, room_id=456),
        event("leave_room", {"room_id": 456}, room_id=456),
        event("message", {"room_id": 456, "content": "Hello world!"}, room_id=456, user_id=123),
        event("typing", {"room_id": 456, "is_typing": True}, room_id=456, user_id=123),
        event("user_status", {"status": "online"}, user_id=123),
        event("ping", {}),
    ],
)
def test_every_client_event_of_the_contract_is_understood(text):
    assert protocol.decode(text).__struct_config__.tag == json.loads(text)["type"]


def test_what_the_protocol_does_not_know_is_passed_over():
    assert protocol.decode('{"type": "ping", "data": {"more": [1, {}]}, "extra": null}') == protocol.Ping()


def test_an_error_names_the_field_and_repeats_nothing_of_the_frame():
    with pytest.raises(ChatError) as caught:
        protocol.decode(event("message", {"room_id": "s3cret", "content": "hidden"}))
    assert caught.value.code is ErrorCode.INVALID_EVENT
    assert "room_id" in caught.value.sentence
    assert "s3cret" not in caught.value.sentence


def test_an_error_repeats_no_value_of_an_enumeration():
    with pytest.raises(ChatError) as caught:
        protocol.decode(event("user_status", {"status": "s3cret' - at `$"}))
    assert caught.value.code is ErrorCode.INVALID_EVENT
    assert "data.status" in caught.value.sentence
    assert "s3cret" not in caught.value.sentence


DEEP = "[" * 10_000 + "]" * 10_000


@pytest.mark.parametrize(
    ("text", "clue"),
    [
        (f'{{"type": {DEEP}}}', "too deeply"),
        (f'{{"type": "dance", "more": {DEEP}}}', "too deeply"),
        ('{"type": "dance", "more": nope}', "not valid JSON"),
        ('{"type": 7', "not valid JSON"),
    ],
)
def test_what_cannot_be_read_is_told_even_behind_another_mistake(text, clue):
    with pytest.raises(ChatError) as caught:
        protocol.decode(text)
    assert caught.value.code is ErrorCode.INVALID_JSON
    assert clue in caught.value.sentence


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2024, 1, 15, 10, tzinfo=UTC), "2024-01-15T10:00:00.000000Z"),
        (datetime(2024, 1, 15, 10, 0, 0, 5, tzinfo=UTC), "2024-01-15T10:00:00.000005Z"),
        (datetime(2024, 1, 15, 10, tzinfo=timezone(timedelta(hours=1))), "2024-01-15T09:00:00.000000Z"),
    ],
)
def test_timestamps_are_utc_and_of_one_length(moment, text):
    assert protocol.timestamp(moment) == text


def test_a_room_update_holds_only_what_belongs_to_it():
    text = protocol.encode(protocol.RoomUpdate(protocol.RoomUpdateData(room_id=1, kind="deleted")))
    assert json.loads(text)["data"] == {"room_id": 1, "kind": "deleted"}


def test_content_is_trimmed_and_counted_in_characters():
    assert protocol.clean_content("  hi\n") == "hi"
    assert protocol.clean_content("👍" * 2000 + " ") == "👍" * 2000
    with pytest.raises(ChatError) as caught:
        protocol.clean_content("x" * 2001)
    assert caught.value.code is ErrorCode.CONTENT_TOO_LONG
    assert "2001" in caught.value.sentence


@pytest.mark.parametrize("content", ["\0", "a\0b", "\ud800", "\udfffx"])
def test_content_that_a_database_refuses_is_refused_before(content):
    with pytest.raises(ChatError) as caught:
        protocol.clean_content(content)
    assert caught.value.code is ErrorCode.CONTENT_INVALID


def test_close_codes_say_whose_fault_it_was():
    assert all(4400 <= code <= 4599 for code in CloseCode if code is not CloseCode.SERVICE_RESTART)
    # It is the registry's, and so known to clients that know nothing of Salon.
    assert CloseCode.SERVICE_RESTART == 1012
