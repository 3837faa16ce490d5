"""Bad input gets an error with a stable code, or a refusal; neither the connection nor the server dies of it."""

import pytest
from client import connected

NOT_JSON = ["not JSON", "", "{", '{"type": "ping"', "\x00", "{'type': 'ping'}", '{"type": "ping"} {"type": "ping"}']
NOT_AN_OBJECT = ["[]", "1", '"ping"', "null", "true", '[{"type": "ping"}]']
DEEP = 10_000


def in_room(text):
    """A `message` frame with raw JSON in the place of its content."""
    return '{"type": "message", "data": {"room_id": %(room)d, "content": ' + text + "}}"


BAD_FRAMES = [
    *((frame, "invalid_json") for frame in NOT_JSON),
    *((frame, "not_an_object") for frame in NOT_AN_OBJECT),
    ('{"type": "dance", "data": {}}', "unknown_type"),
    ('{"type": "", "data": {}}', "unknown_type"),
    ("{}", "invalid_event"),
    ('{"data": {}}', "invalid_event"),
    ('{"type": null}', "invalid_event"),
    ('{"type": 7}', "invalid_event"),
    ('{"type": ["ping"]}', "invalid_event"),
    ('{"type": "ping", "timestamp": 1}', "invalid_event"),
    ('{"type": "ping", "user_id": "1"}', "invalid_event"),
    ('{"type": "join_room"}', "invalid_event"),
    ('{"type": "join_room", "data": {}}', "invalid_event"),
    ('{"type": "join_room", "data": []}', "invalid_event"),
    ('{"type": "join_room", "data": {"room_id": "%(room)d"}}', "invalid_event"),
    ('{"type": "join_room", "data": {"room_id": true}}', "invalid_event"),
    ('{"type": "join_room", "data": {"room_id": 1.5}}', "invalid_event"),
    ('{"type": "join_room", "data": {"room_id": 0}}', "invalid_event"),
    ('{"type": "join_room", "data": {"room_id": -1}}', "invalid_event"),
    ('{"type": "join_room", "data": {"room_id": 9223372036854775808}}', "invalid_event"),
    ('{"type": "join_room", "data": {"room_id": 1' + "0" * 5000 + "}}", "invalid_event"),
    ('{"type": "join_room", "data": {"room_id": 9223372036854775807}}', "invalid_room"),
    ('{"type": "message", "data": {"room_id": %(room)d}}', "invalid_event"),
    (in_room("null"), "invalid_event"),
    (in_room("7"), "invalid_event"),
    (in_room('""'), "content_empty"),
    (in_room('" \\n "'), "content_empty"),
    (in_room('"' + "x" * 3000 + '"'), "content_too_long"),
    (in_room('"a\\u0000b"'), "content_invalid"),
    (in_room('"\\ud800"'), "invalid_json"),
    (in_room('"\\udc00\\ud800"'), "invalid_json"),
    (in_room("NaN"), "invalid_json"),
    ('{"type": "ping", "data": NaN}', "invalid_json"),
    ('{"type": "ping", "data": Infinity}', "invalid_json"),
    ('{"type": "message", "data": {"room_id": NaN, "content": "x"}}', "invalid_json"),
    ("[" * DEEP + "]" * DEEP, "not_an_object"),
    ('{"a":' * DEEP + "1" + "}" * DEEP, "invalid_json"),
    ('{"type": "ping", "data": ' + "[" * DEEP + "]" * DEEP + "}", "invalid_json"),
    ('{"type": ' + "[" * DEEP + "]" * DEEP + "}", "invalid_json"),
    ('{"type": "typing", "data": {"room_id": %(room)d}}', "invalid_event"),
    ('{"type": "typing", "data": {"room_id": %(room)d, "is_typing": "yes"}}', "invalid_event"),
    ('{"type": "user_status", "data": {"status": "dancing"}}', "invalid_event"),
    ('{"type": "user_status", "data": {}}', "invalid_event"),
    ('{"type": "auth", "data": null}', "invalid_event"),
    ('{"type": "auth", "data": {"user_id": "1"}}', "invalid_event"),
    ('{"type": "leave_room", "data": {"room_id": %(room)d}}', "not_joined"),
]


@pytest.mark.parametrize(("frame", "code"), BAD_FRAMES, ids=[f"{frame[:50]}-{code}" for frame, code in BAD_FRAMES])
async def test_a_bad_frame_is_an_error_event(target, alice, room, frame, code):
    async with connected(target, alice.token) as a:
        await a.raw(frame.replace("%(room)d", str(room)))
        await a.error(code)
        await a.settle()


async def test_a_binary_frame(target, alice):
    async with connected(target, alice.token) as a:
        await a.raw(b'{"type": "ping"}')
        await a.error("binary_frame")
        await a.raw(b"")
        await a.error("binary_frame")
        await a.settle()


async def test_text_that_is_not_utf8_is_closed_with_1007(target, alice):
    async with connected(target, alice.token) as a:
        await a.raw(b'{"type": "ping\xff"}', text=True)
        assert await a.closed() == 1007


async def test_a_frame_that_breaks_the_protocol_is_closed_with_1002(target, alice):
    async with connected(target, alice.token) as a:
        # An empty masked frame of opcode 3, which is reserved (RFC 6455, 5.2).
        a.socket.transport.write(b"\x83\x80\x00\x00\x00\x00")
        assert await a.closed() == 1002


async def test_a_frame_of_two_mebibytes_is_closed_with_1009(target, alice, bob):
    async with connected(target, bob.token) as b:
        async with connected(target, alice.token) as a:
            assert await a.closed_by("x" * 2 * 1024 * 1024) == 1009
        await b.settle()


async def test_fragments_that_together_are_over_the_limit_are_closed_with_1009(target, alice):
    async with connected(target, alice.token) as a:
        # 128 KiB is the limit; each fragment alone is far below.
        assert await a.closed_by("x" * 1024 for _ in range(130)) == 1009
