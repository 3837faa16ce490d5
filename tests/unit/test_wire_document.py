"""What the tests over the wire would notice: they pass only what the AsyncAPI document describes."""

import copy
import json

import pytest
from wire_document import WireDocument

from chat import asyncapi, protocol
from chat.protocol import (
    AttachmentData,
    ChatError,
    ErrorCode,
    History,
    HistoryData,
    Message,
    MessageData,
    Pong,
    RoomUpdate,
    RoomUpdateData,
    SenderInfo,
    Typing,
    TypingData,
    UserStatus,
    UserStatusData,
)

ALICE = SenderInfo(1, "Alice Martin", "teacher", None)
MESSAGE = MessageData(
    id=9,
    uuid="5e1f6a0e-95a6-4a0c-8a4f-2d4b7c1f3a10",
    seq=3,
    content="Hello world!",
    sender=1,
    chat=5,
    created_at=protocol.timestamp(),
    last_update=protocol.timestamp(),
    is_deleted=False,
    extra_data={"anything": ["goes"]},
    message_type="file",
    attachment_url="/files/1",
    voice_note_url=None,
    attachments=[AttachmentData("/files/1", "plan.pdf", "application/pdf", 1024, "attachment")],
    client_id="c1",
    sender_info=ALICE,
)
HISTORY = HistoryData(room_id=5, messages=[MESSAGE], changed=[], complete=True, last_seq=3, missed=1, next=None)
EVENTS = [
    Message(MESSAGE, 5),
    History(HISTORY),
    Typing(TypingData(5, 1, "Alice Martin", True)),
    UserStatus(UserStatusData(1, "away", protocol.timestamp())),
    RoomUpdate(RoomUpdateData(room_id=5, kind="participants_added", participants=[ALICE])),
    RoomUpdate(RoomUpdateData(room_id=5, kind="read", user_id=1, seq=3)),
    Pong(),
]
FRAMES = [
    *map(protocol.encode, EVENTS),
    protocol.encode_error(ChatError(ErrorCode.RATE_LIMITED, "Wait.", 2.5), "c1"),
    protocol.encode_error(ChatError(ErrorCode.INVALID_ROOM, "Invalid room ID")),
]
RECEIVED = [json.loads(frame) for frame in FRAMES]


def kind_of(event):
    return event["type"]


@pytest.fixture(scope="module")
def document():
    return WireDocument(asyncapi.document())


def objects(event):
    """The paths to every object of an event whose fields are described: all but `extra_data`."""
    yield ()
    for name, value in event.items():
        if name == "extra_data":
            continue
        if isinstance(value, dict):
            yield from ((name, *path) for path in objects(value))
        elif isinstance(value, list):
            for number, item in enumerate(value):
                yield from ((name, number, *path) for path in objects(item))


def at(event, path):
    for step in path:
        event = event[step]
    return event


def test_there_is_an_example_of_every_event():
    assert {kind_of(event) for event in RECEIVED} == {
        event.__struct_config__.tag for event in protocol.ServerEvent.__args__
    }


@pytest.mark.parametrize("event", RECEIVED, ids=kind_of)
def test_what_the_server_encodes_is_described(document, event):
    document.check_received(event)


@pytest.mark.parametrize("event", RECEIVED, ids=kind_of)
def test_an_undescribed_field_fails_wherever_it_is(document, event):
    for path in objects(event):
        more = copy.deepcopy(event)
        at(more, path)["surprise"] = 1
        with pytest.raises(AssertionError, match="surprise"):
            document.check_received(more)


@pytest.mark.parametrize("event", RECEIVED, ids=kind_of)
def test_a_wrong_type_fails_wherever_it_is(document, event):
    for path in objects(event):
        for name in at(event, path):
            wrong = copy.deepcopy(event)
            # An empty list is no string, number, boolean, object or null, and a number is no list.
            at(wrong, path)[name] = 1 if isinstance(at(event, path)[name], list) else []
            with pytest.raises(AssertionError):
                document.check_received(wrong)


@pytest.mark.parametrize("event", RECEIVED, ids=kind_of)
def test_a_field_that_is_not_there_fails(document, event):
    for name in event:
        less = {key: value for key, value in event.items() if key != name}
        with pytest.raises(AssertionError):
            document.check_received(less)


@pytest.mark.parametrize("kind", ["dance", "join_room", None])
def test_an_event_that_no_server_sends_fails(document, kind):
    with pytest.raises(AssertionError, match="knows no event"):
        document.check_received({"type": kind, "data": {}, "timestamp": protocol.timestamp()})


@pytest.mark.parametrize("moment", ["2024-01-15T10:00:00Z", "2024-01-15T10:00:00.000000+01:00", "now"])
def test_a_timestamp_of_another_precision_fails(document, moment):
    with pytest.raises(AssertionError, match="timestamp"):
        document.check_received({"type": "pong", "data": {}, "timestamp": moment})


def test_a_code_that_is_not_listed_fails(document):
    event = json.loads(protocol.encode_error(ChatError(ErrorCode.INTERNAL, "No.")))
    event["data"]["code"] = "surprise"
    with pytest.raises(AssertionError, match="surprise"):
        document.check_received(event)
    document.check_closed(4401)
    with pytest.raises(AssertionError, match="4999"):
        document.check_closed(4999)


def test_a_client_may_say_more_than_is_described_but_nothing_else(document):
    document.check_sent({"type": "typing", "data": {"room_id": 1, "is_typing": True, "more": 1}, "more": 2})
    for wrong in (
        {"type": "typing", "data": {"room_id": "1", "is_typing": True}},
        {"type": "typing", "data": {"room_id": 1}},
        {"type": "message", "data": {"room_id": 1, "content": "x" * 2001}},
        {"type": "pong", "data": {}},
    ):
        with pytest.raises(AssertionError, match="the document"):
            document.check_sent(wrong)
