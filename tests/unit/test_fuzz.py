"""Whatever text a frame holds, it ends in an event or in an error that says what to do and repeats nothing of it.

`SALON_FUZZ_INPUTS`: how many inputs each property is tried with (2,000).
"""

import json
import os

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schema_strategies import containers, values
from wire_document import WireDocument

from chat import asyncapi, protocol
from chat.protocol import Auth, ChatError, ErrorCode, JoinRoom, LeaveRoom, Read, SendMessage, SetTyping

inputs = settings(
    max_examples=int(os.environ.get("SALON_FUZZ_INPUTS", "2000")),
    database=None,
    deadline=None,
    derandomize=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)

DOCUMENT = asyncapi.document()
WIRE = WireDocument(DOCUMENT)
TAGS = [event.__struct_config__.tag for event in asyncapi.CLIENT_EVENTS]
_, _client_schemas = msgspec.json.schema_components(asyncapi.CLIENT_EVENTS)
FIELDS = sorted({field for schema in _client_schemas.values() for field in schema["properties"]})
DECODING = {ErrorCode.INVALID_JSON, ErrorCode.NOT_AN_OBJECT, ErrorCode.UNKNOWN_TYPE, ErrorCode.INVALID_EVENT}
CONTENT = {ErrorCode.CONTENT_EMPTY, ErrorCode.CONTENT_TOO_LONG, ErrorCode.CONTENT_INVALID}

# What an error must not repeat: neither text nor digits like these stand in a sentence of the server's own.
SECRET = "s3cret"
SECRET_DIGITS = "7319"

texts = st.one_of(
    st.text(),
    st.text().map(lambda text: SECRET + text),
    st.sampled_from(["", " ", "\0", f"{SECRET}\0", f"{SECRET}' - at `$", "\u2028", "👩🏽‍🏫", "x" * 2001, *TAGS]),
)
# Half a surrogate pair cannot stand in UTF-8, but JSON can escape it.
escaped_texts = texts | st.text(st.characters(), max_size=10)
numbers = st.one_of(
    st.integers(),
    st.integers(-2, 10),
    st.sampled_from([0, -1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1]),
    st.integers(1, 1000).map(lambda times: int(SECRET_DIGITS * times)),
    st.floats(),
)


def shapes(text):
    """JSON values with these texts: a leaf, a flat container, or one of those."""
    leaves = st.one_of(st.none(), st.booleans(), numbers, text)
    flat = leaves | containers(leaves, st.sampled_from(FIELDS) | text)
    return flat | containers(flat, st.sampled_from(FIELDS) | text)


junk = shapes(texts)
escaped_junk = shapes(escaped_texts)
valid_events = st.one_of(
    [values({"$ref": f"#/components/schemas/{event.__name__}"}, DOCUMENT) for event in asyncapi.CLIENT_EVENTS]
)


def slots(node):
    """Every (container, key) below a node."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield node, key
        yield from slots(value)


@st.composite
def mutated_events(draw):
    """A valid event in which one to three things were changed, taken away or added, mostly what is described."""
    event = draw(valid_events)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        found = [*slots(event), (event, "data")]
        described = [slot for slot in found if slot[1] in FIELDS]
        container, key = draw(st.sampled_from(draw(st.sampled_from([described, described, found]))))
        match draw(st.sampled_from(["change", "change", "remove", "add"])):
            case "change":
                container[key] = draw(draw(st.sampled_from([numbers, texts, junk])))
            case "remove":
                container.pop(key) if isinstance(container, list) else container.pop(key, None)
            case "add" if isinstance(container, dict):
                container[draw(st.sampled_from(FIELDS) | texts)] = draw(draw(st.sampled_from([numbers, texts, junk])))
    return event


@st.composite
def spliced_frames(draw):
    """The text of a valid event in which a piece was replaced."""
    frame = json.dumps(draw(valid_events), ensure_ascii=draw(st.booleans()))
    start = draw(st.integers(0, len(frame)))
    end = draw(st.integers(start, min(len(frame), start + 20)))
    piece = draw(st.text(max_size=10) | st.text('{}[]",:\\u0dDeE.+-tfn 19', max_size=10) | st.just(frame[:end]))
    return frame[:start] + piece + frame[end:]


def assert_explained(error, codes, client_id=None):
    """The error is one of these, tells a person something of her own, and is a frame that the document describes."""
    assert error.code in codes
    assert error.sentence.endswith(".")
    assert len(error.sentence.split()) > 2
    assert SECRET not in error.sentence
    assert SECRET_DIGITS not in error.sentence
    frame = json.loads(protocol.encode_error(error, client_id))
    WIRE.check_received(frame)
    assert frame["data"]["error"] == error.sentence


def decoded(frame):
    """The event of a frame, its helpers having been called; None where it was refused as it should be."""
    try:
        event = protocol.decode(frame)
    except ChatError as error:
        assert_explained(error, DECODING)
        return None
    if isinstance(event, JoinRoom | LeaveRoom | SendMessage | SetTyping | Read):
        try:
            assert 1 <= protocol.room_of(event) < 2**63
        except ChatError as error:
            assert event.room_id is None
            assert_explained(error, {ErrorCode.INVALID_EVENT})
    if isinstance(event, Auth):
        assert protocol.claimed_user(event) in (event.user_id, event.data.user_id)
    if isinstance(event, SendMessage):
        assert_cleaned(event.data.content, event.data.client_id)
    return event


def assert_cleaned(content, client_id=None):
    """The content as it is stored, or None where it is refused as it should be."""
    try:
        clean = protocol.clean_content(content)
    except ChatError as error:
        assert_explained(error, CONTENT, client_id)
        return None
    assert 1 <= len(clean) <= protocol.MAX_CONTENT
    assert clean in content
    assert protocol.clean_content(clean) == clean
    assert "\0" not in clean
    assert clean.encode().decode() == clean
    return clean


@inputs
@given(st.text() | st.text('{}[]",:\\ntypeping0123456789.eE+-'))
def test_any_text(frame):
    decoded(frame)


@inputs
@given(escaped_junk)
def test_any_json(value):
    decoded(json.dumps(value))


@inputs
@given(spliced_frames())
def test_text_that_was_an_event(frame):
    decoded(frame)


@inputs
@given(mutated_events(), st.booleans())
def test_a_changed_event_is_understood_only_where_the_document_allows_it(value, ascii_only):
    event = decoded(json.dumps(value, ensure_ascii=ascii_only))
    if event is None:
        return
    if isinstance(event, SendMessage):
        if (clean := assert_cleaned(event.data.content)) is None:
            return
        value["data"]["content"] = clean
    WIRE.check_sent(value)


@inputs
@given(
    st.sampled_from(
        [
            "%s",
            '{"type": %s}',
            '{"type": "ping", "timestamp": %s}',
            '{"type": "ping", "more": %s}',
            '{"type": "join_room", "data": %s}',
            '{"type": "join_room", "data": {"room_id": %s}}',
            '{"type": "message", "data": {"content": %s}}',
            '{"type": "user_status", "data": {"status": %s}}',
            '{"data": {"room_id": %s}, "type": "typing"}',
        ]
    ),
    st.one_of(
        # As deep as a frame can be, closed and left open.
        st.builds(
            lambda opening, closing, depth: opening * depth + "1" + closing * depth,
            *(st.sampled_from(["[", '{"a":', '[{"data":']), st.sampled_from(["]", "}", "}]", ""])),
            st.integers(1, 2000) | st.integers(1, 20_000),
        ),
        # Numbers that no machine holds.
        st.builds(
            lambda sign, digits, exponent: sign + digits + exponent,
            st.sampled_from(["", "-", "+"]),
            st.integers(1, 2000).map(lambda times: SECRET_DIGITS * times) | st.from_regex(r"[0-9]{1,30}(\.[0-9]+)?\Z"),
            st.just("") | st.from_regex(r"[eE][+-]?[0-9]{1,30}\Z"),
        ),
        # Escapes, whole and broken, in all their spellings.
        st.lists(
            st.sampled_from(
                [r"\u0000", r"\ud800", r"\uDC00", r"\ud83d\udc4d", r"\n", r"\u", r"\x00", "\\", "a", SECRET]
            ),
            max_size=8,
        ).map(lambda pieces: f'"{"".join(pieces)}"'),
    ),
)
def test_depth_numbers_and_escapes(template, value):
    decoded(template.replace("%s", value))


@inputs
@given(
    st.text(st.characters()) | st.text("\0 \n\u3000a👍\ud800\udc00") | st.integers(1990, 2010).map(lambda n: "👍" * n)
)
def test_any_content(content):
    assert_cleaned(content)


@pytest.mark.parametrize("kind", ["typing", "user_status"])
def test_a_secret_in_the_wrong_place_is_not_repeated(kind):
    frame = json.dumps({"type": kind, "data": {"status": f"{SECRET}' - at `$", "is_typing": SECRET, "room_id": 1}})
    assert decoded(frame) is None
