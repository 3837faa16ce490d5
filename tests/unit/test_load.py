"""The pure parts of the benchmark: what is counted must be counted rightly."""

import pytest

from load.figures import Figure, percentile, short
from load.frames import CLOSE, PING, TEXT, Span, masked, walk
from load.ledger import CONTENT_SIZE, STAMP_SIZE, Received, Tally, content, read_stamp, stamp
from load.population import FOURS, Seats


def frame(payload, opcode=TEXT):
    """As a server sends it."""
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, length)) + payload
    if length < 65536:
        return bytes((0x80 | opcode, 126)) + length.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + length.to_bytes(8, "big") + payload


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536])
def test_frames_of_every_length_are_walked(length):
    data = frame(b"x" * length) + frame(b"", PING) + frame(b"\x03\xe8", CLOSE)
    spans, end = walk(data)
    assert [span.opcode for span in spans] == [TEXT, PING, CLOSE]
    assert spans[0].end - spans[0].start == length
    assert end == len(data)


def test_what_is_not_whole_is_left_wherever_it_is_cut():
    data = frame(b"a" * 200) + frame(b"b" * 70000)
    first = len(frame(b"a" * 200))
    for cut in [0, 1, 2, 3, first - 1, first, first + 1, first + 9, first + 10, len(data) - 1]:
        spans, end = walk(data[:cut])
        assert (len(spans), end) == ((1, first) if cut >= first else (0, 0))
    assert walk(b"") == ([], 0)


def test_a_server_that_masks_or_splits_is_an_error():
    with pytest.raises(ValueError, match="masked"):
        walk(masked(b"x", b"1234"))
    with pytest.raises(ValueError, match="split"):
        walk(b"\x01\x01x")


@pytest.mark.parametrize("length", [0, 1, 3, 4, 125, 126, 70000])
def test_masked_frames_say_what_they_are_given(length):
    payload, mask = bytes(at * 7 % 251 for at in range(length)), b"\x37\xfa\x21\x3d"
    made = masked(payload, mask)
    head = len(made) - length
    assert made[0] == 0x81
    assert made[1] & 0x80
    assert made[head - 4 : head] == mask
    assert bytes(byte ^ mask[at % 4] for at, byte in enumerate(made[head:])) == payload
    # Without the mask it is what a server would send.
    assert walk(bytes((made[0], made[1] & 0x7F)) + made[2 : head - 4] + payload)[0] == [
        Span(TEXT, head - 4, len(made) - 4)
    ]


def test_a_stamp_is_found_and_read_again():
    mark = stamp(42, 7, 123456789)
    assert len(mark) == STAMP_SIZE
    assert read_stamp(mark) == (42, 7, 123456789)
    text = content(mark)
    assert len(text) == CONTENT_SIZE
    assert text[text.find(b"~") :][:STAMP_SIZE] == mark
    with pytest.raises(ValueError, match="no stamp"):
        read_stamp(b"~1:2:3~")


def received(*numbers, sender=1):
    one = Received()
    for number in numbers:
        one.take(sender, number)
    return one


def test_all_in_order_is_right():
    one = received(1, 2, 3)
    assert (one.lost({1: 3}, [1]), one.doubled, one.disordered) == (0, 0, 0)


@pytest.mark.parametrize(
    ("numbers", "lost", "doubled", "disordered"),
    [
        ((), 3, 0, 0),
        ((1, 3), 1, 0, 0),
        ((2, 3), 1, 0, 0),
        ((1, 2), 1, 0, 0),
        ((1, 2, 2, 3), 0, 1, 0),
        ((1, 3, 2), 0, 0, 1),
        ((1, 3, 2, 2), 0, 1, 1),
        ((3, 3, 3), 2, 2, 0),
    ],
)
def test_what_is_wrong_is_counted_once(numbers, lost, doubled, disordered):
    one = received(*numbers)
    assert (one.lost({1: 3}, [1]), one.doubled, one.disordered) == (lost, doubled, disordered)


def test_senders_do_not_mix():
    one = received(1, 2)
    one.take(2, 1)
    assert one.lost({1: 2, 2: 1, 3: 4}, [1, 2, 3]) == 4
    assert one.doubled == 0


def test_tallies_of_two_generators_are_one():
    tally = Tally(sent=1, delivered=10, busy=0.2, seconds=1.0)
    tally.latencies.append(5)
    other = Tally(sent=2, delivered=20, busy=0.5, seconds=1.5)
    other.latencies.append(6)
    tally += other
    assert (tally.sent, tally.delivered, tally.busy, tally.seconds) == (3, 30, 0.5, 1.5)
    assert list(tally.latencies) == [5, 6]


def test_percentiles():
    values = list(range(1, 1001))
    assert percentile(values, 0.5) == 500
    assert percentile(values, 0.99) == 990
    assert percentile(values, 0.999) == 999
    assert percentile(values, 1) == 1000
    assert percentile([7], 0.001) == 7


def test_figures():
    assert Figure.of([3, 1, 2]) == Figure(2, 1, 3, 3)
    assert [short(value) for value in (0, 0.123, 12.34, 1234.5)] == ["0", "0.12", "12.3", "1,234"]


def test_newcomers_are_new_to_each_server():
    seats = Seats("k" * 32)
    first = seats.newcomers(FOURS, "a1", [1], "json", 100, 500)
    second = seats.newcomers(FOURS, "a1", [1], "json", 600, 500)
    people = [seat.user_id for seat in first + second]
    assert people == list(range(501, 1201))
    assert len({seat.token for seat in first + second}) == 700
    # Another server has seen nobody yet.
    assert seats.newcomers(FOURS, "d1", [1], "json", 100, 500)[0].user_id == 501
    with pytest.raises(ValueError, match="have been at a1"):
        seats.newcomers(FOURS, "a1", [1], "json", 9_000, 500)
