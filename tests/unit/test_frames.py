"""The parser of frames against another implementation, and the timer wheel."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side

from salon import frames
from salon.frames import Parser, ProtocolError
from salon.wheel import Wheel

LIMIT = 1000

payloads = st.one_of(
    st.binary(max_size=140),
    st.text(max_size=60).map(str.encode),
    st.integers(0, LIMIT + 10).map(lambda size: b"x" * size),
)
good_frames = st.builds(
    frame,
    st.sampled_from([CONTINUATION, CONTINUATION, TEXT, BINARY, PING, PONG]),
    payloads,
    fin=st.booleans(),
    key=st.binary(min_size=4, max_size=4),
)
# Not a bad code and a bad reason at once: it is free to either which of the two it names.
closes = st.builds(
    frame,
    st.just(CLOSE),
    st.one_of(st.binary(max_size=2), st.binary(max_size=9).map(lambda reason: b"\x03\xe8" + reason)),
)
odd_frames = st.builds(
    frame,
    st.integers(0, 15).filter(lambda opcode: opcode != CLOSE),
    st.binary(max_size=130),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 1, 4]),
    masked=st.sampled_from([True, True, True, False]),
)
any_frames = st.one_of(good_frames, good_frames, good_frames, closes, odd_frames)


def outcome_of_ours(chunks):
    """The messages and control frames, and the code of the error at the end or None."""
    parser, found = Parser(LIMIT, LIMIT), []
    try:
        for chunk in chunks:
            parser.feed(chunk)
            while (event := parser.next()) is not None:
                opcode, payload = event
                if opcode == frames.CLOSE:
                    frames.read_close(payload)
                    return [*found, (opcode, payload)], None
                found.append((opcode, payload))
    except ProtocolError as error:
        return found, error.code
    return found, None


def outcome_of_theirs(stream):
    """The same from `websockets`, which puts no messages together and looks at no text."""
    # Its own limit counts all of a message, and says so at the header too.
    peer = Protocol(Side.SERVER, state=OPEN, max_size=LIMIT)
    peer.receive_data(stream)
    found, message, opcode, decoder = [], b"", None, None
    for each in peer.events_received():
        if each.opcode >= Opcode.CLOSE:
            found.append((int(each.opcode), bytes(each.data)))
            continue
        if each.opcode is not Opcode.CONT:
            opcode, message = each.opcode, b""
            decoder = codecs.getincrementaldecoder("utf-8")()
        message += each.data
        try:
            if opcode is Opcode.TEXT:
                decoder.decode(each.data, each.fin)
        except UnicodeDecodeError:
            return found, 1007
        if each.fin:
            found.append((int(opcode), message.decode() if opcode is Opcode.TEXT else message))
    if peer.parser_exc is None:
        return found, None
    if str(peer.parser_exc) == "incomplete fragmented message":
        # A close frame amid a message, which is an error to them. Section 5.4 lets control frames come there.
        received = peer.close_rcvd
        return [*found, (frames.CLOSE, b"" if received.code == frames.NO_CODE else received.serialize())], None
    return found, peer.close_sent.code


@given(st.lists(any_frames, max_size=12), st.data())
def test_any_frames_cut_anywhere(sequence, data):
    stream = b"".join(sequence)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    (ours, our_code), (theirs, their_code) = outcome_of_ours(chunks), outcome_of_theirs(stream)
    assert ours == theirs
    # A frame that is too big, and may not be there: each names another of the two.
    assert our_code == their_code or {our_code, their_code} == {frames.PROTOCOL_ERROR, frames.TOO_BIG}


@given(st.binary(max_size=200), st.binary(min_size=4, max_size=4))
def test_a_mask_taken_twice_is_none(payload, key):
    masked = bytes(byte ^ key[n % 4] for n, byte in enumerate(payload))
    assert frames.unmask(masked, key) == payload


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
@pytest.mark.parametrize(("build", "opcode"), [(frames.text, Opcode.TEXT), (frames.binary, Opcode.BINARY)])
def test_a_frame_is_the_one_of_others(build, opcode, size):
    assert build(b"x" * size) == Frame(opcode, b"x" * size).serialize(mask=False)


def test_a_code_that_may_not_be_sent():
    for code in (0, 999, 1004, 1006, 1015, 2999, 5000):
        with pytest.raises(ValueError, match=str(code)):
            frames.close(code)
    assert frames.close(1005) == b"\x88\x00"


def test_after_skip_nothing_is_kept():
    parser = Parser(10, 10)
    parser.feed(Frame(Opcode.TEXT, b"x" * 11).serialize(mask=True))
    with pytest.raises(ProtocolError) as error:
        parser.next()
    assert error.value.code == frames.TOO_BIG
    parser.skip()
    assert parser.next() is None
    parser.feed(Frame(Opcode.PING, b"!").serialize(mask=True))
    assert parser.next() == (frames.PING, b"!")
    assert parser.is_idle


class Clock:
    """As much of an event loop as a wheel needs."""

    def __init__(self):
        self.seconds = 100.0
        self.call = None

    def time(self):
        return self.seconds

    def call_at(self, when, call):
        self.call = call

    def pass_to(self, seconds):
        self.seconds = seconds
        self.call()


class Item:
    due = 0

    def __init__(self, called):
        self.called = called

    def on_due(self):
        self.called.append(self)


def test_a_wheel_calls_each_once_and_never_early():
    clock, called = Clock(), []
    wheel = Wheel(clock)
    first, second, third = Item(called), Item(called), Item(called)
    wheel.file(first, 2)
    wheel.file(second, 30)
    wheel.file(third, 2)
    wheel.file(third, 5)
    clock.pass_to(102.5)
    assert called == []
    clock.pass_to(103.1)
    assert called == [first]
    wheel.remove(second)
    # A busy loop comes late.
    clock.pass_to(200.0)
    assert called == [first, third]
    assert not wheel._buckets
    assert first.due == second.due == third.due == 0


def test_what_goes_wrong_for_one_is_not_felt_by_others():
    clock, called = Clock(), []
    wheel = Wheel(clock)

    class Broken(Item):
        def on_due(self):
            raise RuntimeError

    wheel.file(Broken(called), 1)
    wheel.file(item := Item(called), 1)
    clock.pass_to(105.0)
    assert called == [item]
