"""The pure parts of the benchmark: what is counted must be counted rightly."""

import subprocess
from itertools import pairwise
from types import SimpleNamespace

import pytest

from load.bench import Result
from load.client import GONE, OPEN, Client
from load.contenders import node
from load.criteria import judge
from load.figures import Figure, percentile, short
from load.frames import CLOSE, PING, TEXT, Span, masked, walk
from load.gang import OPEN as CAME_IN
from load.gang import Flooding, Line, Returning
from load.generator import Generator, Load, now
from load.ledger import CONTENT_SIZE, STAMP_SIZE, Received, Tally, content, read_stamp, stamp
from load.population import FOURS, Seats
from load.scenarios.capacity import TOO_LATE, carries, unforgiven
from load.wires import Seat


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


def test_all_in_order_is_whole():
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


def room_of(*numbers):
    """A generator with a room whose connections are only what is counted on; nothing is connected."""
    generator = Generator()
    for number in numbers:
        client = Client.__new__(Client)
        client.seat, client.state, client.code = Seat(number, 1, "json", "", number, 1), OPEN, 0
        client.received = Received()
        generator._groups.setdefault("a1", [])
        generator._keep("a1", client)
    return generator


def settled(generator):
    tally = Tally()
    generator._settle("a1", tally)
    return tally


def test_one_lost_and_one_doubled_do_not_cancel_out():
    generator = room_of(1, 2)
    generator._sent = {1: 2}
    for number in (1, 2):
        generator._seats[1].received.take(1, number)
        generator._seats[2].received.take(1, 1)
    tally = Tally(expected=4, delivered=4)
    assert generator._is_awaited("a1", tally)
    generator._settle("a1", tally)
    assert (tally.lost, tally.doubled, tally.is_whole) == (1, 1, False)
    # It counts once.
    assert settled(generator).is_whole


def test_a_connection_that_is_gone_counts_once_and_as_what_it_was_closed_for():
    generator = room_of(1, 2, 3)
    for number, code in ((2, 1006), (3, 4408)):
        generator._seats[number].state, generator._seats[number].code = GONE, code
    tally = settled(generator)
    assert (tally.dropped, tally.slow, tally.lost, tally.is_whole) == (2, 1, 0, False)
    assert settled(generator).is_whole


def test_a_writer_that_is_gone_is_a_failure_and_her_last_words_are_not_lost():
    generator = room_of(1, 2, 3)
    generator._sent = {1: 3}
    for reader, numbers in ((2, (1, 2)), (3, (1,))):
        for number in numbers:
            generator._seats[reader].received.take(1, number)
    generator._seats[1].state = GONE
    # Nobody has the third; one of the two who stayed lacks the second.
    tally = settled(generator)
    assert (tally.lost, tally.dropped) == (1, 1)
    tally = generator.load("a1", Load(1000, 0.005, now(), (1,), 0.0))
    assert (tally.sent, tally.unsent, tally.is_whole) == (0, 5, False)


@pytest.mark.parametrize(
    ("tally", "counted"),
    [
        (Tally(lost=1, doubled=2), {"lost": 1, "doubled": 2}),
        (Tally(dropped=3, slow=3, unsent=4), {"closed_as_slow": 3}),
        (Tally(dropped=3, slow=1, unsent=4), {"closed_as_slow": 1, "dropped": 2, "unsent": 4}),
        (Tally(unsent=4), {"unsent": 4}),
    ],
)
def test_beyond_what_it_carries_only_slow_readers_may_be_closed(tally, counted):
    assert {name: count for name, count in unforgiven(tally).items() if count} == counted


@pytest.mark.parametrize("wrong", ["lost", "doubled", "dropped", "unsent", "late"])
def test_a_rate_at_which_something_is_wrong_is_not_carried(wrong):
    tally = Tally(sent=1, expected=1, delivered=1)
    tally.latencies.append(1_000_000)
    assert carries(tally)
    if wrong == "late":
        tally.latencies.append(int(TOO_LATE * 1e6))
    else:
        setattr(tally, wrong, 1)
    assert not carries(tally)


def test_what_cannot_be_installed_is_skipped(monkeypatch, tmp_path):
    monkeypatch.setattr(node, "DIRECTORY", tmp_path / "node")

    def fail(command, **options):
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "run", fail)
    assert "could not be installed" in node._install.__wrapped__()


def flooding(**changes):
    """One who floods over a connection that keeps what it is given."""
    gang, sent = Flooding([]), []
    line = SimpleNamespace(seat=Seat(1, 1, "json", "", 1, 7), state=CAME_IN, unsent=b"", send=sent.append)
    vars(line).update(changes)
    gang.lines[0] = line
    return gang, line, sent


def test_messages_by_the_clock_are_evenly_spaced():
    assert Load(1000, 0.004, 5_000_000, (1,)).moments() == [5_000_000, 6_000_000, 7_000_000, 8_000_000]


def test_messages_at_random_moments_are_as_many_and_come_in_crowds_and_gaps():
    load = Load(1000, 2.0, 5_000_000, (1,), seed=7)
    moments = load.moments()
    gaps = [after - before for before, after in pairwise(moments)]

    assert moments == load.moments() != Load(1000, 2.0, 5_000_000, (1,), seed=8).moments()
    assert len(moments) == 2000
    assert min(moments) >= 5_000_000
    assert max(moments) <= 2_005_000_000
    # Of a Poisson process, a share of 1 / e is longer than what is usual.
    assert 0.33 < sum(gap > 1_000_000 for gap in gaps) / len(gaps) < 0.41


def test_who_floods_keeps_to_her_rate():
    gang, _, sent = flooding()
    for passed in (0.001, 0.0505, 0.0505, 0.1):
        gang.act(passed)
    assert gang.counts["frames"] == 1000
    assert [data.count(b"\x37\xfa\x21\x3d") for data in sent] == [10, 495, 0, 495]


def test_a_flood_does_not_make_up_for_what_was_not_taken():
    gang, line, sent = flooding(unsent=b"rest")
    gang.act(0.05)
    assert (gang.counts["frames"], sent) == (0, [])
    line.unsent = b""
    gang.act(0.06)
    assert gang.counts["frames"] == 100
    gang.act(5.0)
    assert gang.counts["frames"] == 1100


def test_those_who_return_wait_for_each_other_but_not_for_ever():
    seats = [Seat(number, 1, "json", "", number, 7) for number in (1, 2)]
    gang, come = Returning(seats), []
    gang.come = come.append
    one, two = Line.__new__(Line), Line.__new__(Line)
    one.seat, two.seat = seats
    gang.act(0.0)
    gang.heard(one, b'{"type":"pong"}')
    gang.act(1.0)
    assert come == []
    gang.heard(two, b'{"type":"history","data":{"last_seq":12}}')
    assert gang.known[2] == 12
    gang.heard(two, b'{"type":"pong"}')
    gang.act(1.1)
    assert come == seats
    gang.act(1.1 + gang.longest_wave - 0.1)
    assert come == seats
    gang.act(1.1 + gang.longest_wave)
    assert come == seats * 2


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({}, [True, True, True]),
        ({"p99_ratio": 3.0}, [False, True, True]),
        ({"greatest_mib": 1024.0}, [True, False, True]),
        ({"doubled": 1.0}, [True, True, False]),
        ({"lost": 1.0}, [True, True, False]),
    ],
)
def test_what_is_asked_of_salon_beside_unruly_clients(changes, held):
    values = {"p99_ratio": 2.9, "greatest_mib": 200.0, "lost": 0.0, "doubled": 0.0} | changes
    figures = {name: Figure.of([value]) for name, value in values.items()}
    judged = judge({"unruly": Result("", "", {"a, beside one": figures})}, {})
    assert [each.holds for each in judged] == held
    assert {each.number for each in judged} == {10}
