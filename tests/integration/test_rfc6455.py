"""The server's WebSocket, byte for byte: framing, fragments, UTF-8, closing, limits (RFC 6455, sections 5 to 8)."""

import itertools
import random

import pytest
from echo_server import echo_server
from raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Raw, close, code_of, fragments, frame

LIMIT = 128 * 1024
"""Bytes of a message and of a frame: what Salon has by default."""


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with echo_server(tmp_path_factory.mktemp("echo")) as port:
        yield port


@pytest.fixture
def peer(port):
    with Raw(port) as peer:
        yield peer.open()


def cut(data, size):
    return [data[start : start + size] for start in range(0, len(data), size)]


def refused(peer, code):
    """The server closes with this code, ends the connection cleanly, and has sent nothing behind the close frame."""
    found = peer.rest()
    assert code_of(found) == code
    return found[:-1]


SIZES = [0, 1, 2, 3, 4, 5, 124, 125, 126, 127, 128, 1000, 65535, 65536, LIMIT]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("pace", [None, 997])
def test_a_message_of_any_size(peer, opcode, size, pace):
    payload = bytes(random.Random(size).choices(range(32, 127), k=size))
    data = frame(opcode, payload)
    peer.send(*cut(data, pace or len(data)))
    assert peer.frame() == (opcode, payload)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 300])
def test_byte_for_byte(peer, opcode, size):
    peer.send(*cut(frame(opcode, b"z" * size), 1))
    assert peer.frame() == (opcode, b"z" * size)


@pytest.mark.parametrize("key", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x01", b"\x80\0\0\0"])
@pytest.mark.parametrize("pace", [1, 2, 3, 5, 7, 1000])
def test_any_mask(peer, key, pace):
    payload = bytes(range(256)) + b"abc"
    peer.send(*cut(frame(BINARY, payload, key=key), pace))
    assert peer.frame() == (BINARY, payload)


@pytest.mark.parametrize("size", [0, 1, 7, 124, 125])
@pytest.mark.parametrize("pace", [1, 500])
def test_a_ping_gets_its_payload_back(peer, size, pace):
    payload = bytes(range(size))
    peer.send(*cut(frame(PING, payload), pace))
    assert peer.frame() == (PONG, payload)


def test_many_pings_are_answered_in_order(peer):
    peer.send(b"".join(frame(PING, b"%d" % n) for n in range(500)))
    assert [peer.frame() for _ in range(500)] == [(PONG, b"%d" % n) for n in range(500)]


@pytest.mark.parametrize("payload", [b"", b"unasked", b"x" * 125])
def test_a_pong_that_nobody_asked_for(peer, payload):
    peer.send(frame(PONG, payload), frame(PONG, payload) + frame(TEXT, "on"))
    assert peer.frame() == (TEXT, b"on")


@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("opcode", [TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG])
def test_reserved_bits(peer, opcode, rsv):
    peer.send(frame(opcode, b"", rsv=rsv))
    assert refused(peer, 1002) == []


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("payload", [b"", b"x" * 20])
def test_reserved_opcodes(peer, opcode, payload):
    peer.send(frame(opcode, payload))
    assert refused(peer, 1002) == []


@pytest.mark.parametrize("opcode", [3, 11])
def test_a_reserved_opcode_amid_fragments(peer, opcode):
    peer.send(frame(TEXT, "a", fin=False), frame(opcode))
    refused(peer, 1002)


@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
def test_a_frame_without_a_mask(peer, opcode):
    peer.send(frame(opcode, b"", masked=False))
    refused(peer, 1002)


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("size", [126, 127, 65536])
def test_a_control_frame_that_is_too_long(peer, opcode, size):
    peer.send(frame(opcode, b"x" * size))
    refused(peer, 1002)


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_a_control_frame_in_fragments(peer, opcode):
    peer.send(frame(opcode, b"x", fin=False))
    refused(peer, 1002)


@pytest.mark.parametrize(
    "length",
    [b"\x7e\x00\x05", b"\x7e\x00\x7d", b"\x7f" + bytes(7) + b"\x05", b"\x7f" + (65535).to_bytes(8, "big")],
)
def test_a_length_that_is_not_in_its_shortest_form(peer, length):
    peer.send(frame(BINARY, bytes(int.from_bytes(length[1:], "big")), length=length))
    refused(peer, 1002)


@pytest.mark.parametrize("first", [0x80, 0xFF])
def test_a_length_with_its_highest_bit(peer, first):
    peer.send(frame(BINARY, b"", length=b"\x7f" + bytes([first]) + bytes(7)))
    refused(peer, 1002)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("pieces", [1, 2, 3, 10, 200])
@pytest.mark.parametrize("between", [b"", frame(PING, b"!"), frame(PONG, b"!")], ids=["alone", "ping", "pong"])
@pytest.mark.parametrize("pace", [1, 10_000])
def test_fragments(peer, opcode, pieces, between, pace):
    parts = [b"%d;" % n for n in range(pieces)]
    peer.send(*cut(between.join(fragments(opcode, parts)), pace))
    found = [peer.frame()]
    while found[-1][0] == PONG:
        found.append(peer.frame())
    assert found.pop() == (opcode, b"".join(parts))
    assert found == [(PONG, b"!")] * (pieces - 1 if between == frame(PING, b"!") else 0)


@pytest.mark.parametrize("where", list(itertools.product([0, 1], repeat=3)))
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_empty_fragments(peer, opcode, where):
    parts = [b"part" if there else b"" for there in where]
    peer.send(b"".join(fragments(opcode, parts)))
    assert peer.frame() == (opcode, b"".join(parts))


@pytest.mark.parametrize("fin", [True, False])
def test_nothing_to_continue(peer, fin):
    peer.send(frame(CONTINUATION, b"x", fin=fin))
    refused(peer, 1002)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_nothing_to_continue_after_a_message(peer, opcode):
    peer.send(frame(opcode, b"whole"))
    assert peer.frame() == (opcode, b"whole")
    peer.send(frame(CONTINUATION, b"x"))
    refused(peer, 1002)


@pytest.mark.parametrize(("first", "second"), list(itertools.product([TEXT, BINARY], repeat=2)))
def test_a_message_within_another(peer, first, second):
    peer.send(frame(first, b"a", fin=False), frame(second, b"b"))
    refused(peer, 1002)


# Section 8.1, and Unicode 15, tables 3-7: the first and last of each form, and what no form allows.
GOOD = [
    "",
    "κόσμε",
    "\x00",
    "\x7f",
    "\x80",
    "\u07ff",
    "\u0800",
    "\ud7ff",
    "\ue000",
    "\ufffd",
    "\uffff",
    "\U00010000",
    "\U0010ffff",
    "\ufeff",
    "👩‍👩‍👧",
    "a\u0300",
]
BAD = [
    b"\x80",
    b"\xbf",
    b"\xc0\x80",
    b"\xc1\xbf",
    b"\xc2",
    b"\xe0\x80\x80",
    b"\xe0\x9f\xbf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xef\xbf",
    b"\xf0\x80\x80\x80",
    b"\xf0\x8f\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xfe",
    b"\xff",
    b"ok\xce\xba\xff",
    b"\xce\xba\xed\xa0\x80edited",
]


@pytest.mark.parametrize("text", GOOD, ids=ascii)
@pytest.mark.parametrize("pace", [None, 1])
def test_good_text(peer, text, pace):
    data = frame(TEXT, text)
    peer.send(*cut(data, pace or len(data)))
    assert peer.frame() == (TEXT, text.encode())


@pytest.mark.parametrize("text", [text for text in GOOD if len(text.encode()) > 1], ids=ascii)
def test_text_that_is_cut_within_a_character(peer, text):
    peer.send(b"".join(fragments(TEXT, cut(text.encode(), 1))))
    assert peer.frame() == (TEXT, text.encode())


@pytest.mark.parametrize("data", BAD, ids=ascii)
@pytest.mark.parametrize("pace", [None, 1])
def test_bad_text(peer, data, pace):
    data = frame(TEXT, data)
    peer.send(*cut(data, pace or len(data)), close(1000))
    assert refused(peer, 1007) == []


@pytest.mark.parametrize("data", BAD, ids=ascii)
def test_bad_text_in_fragments(peer, data):
    peer.send(b"".join(fragments(TEXT, [b"begins well ", *cut(data, 1)])), close(1000))
    assert refused(peer, 1007) == []


@pytest.mark.parametrize("data", BAD, ids=ascii)
def test_bytes_need_not_be_text(peer, data):
    peer.send(frame(BINARY, data))
    assert peer.frame() == (BINARY, data)


def test_bad_text_is_noticed_before_its_frame_has_come(peer):
    peer.send(frame(TEXT, b"\xf4\x90" + b"x" * 1000)[:-500])
    assert peer.frame() == (CLOSE, (1007).to_bytes(2, "big") + b"text that is not UTF-8")


def test_bad_text_is_noticed_before_its_last_fragment(peer):
    peer.send(frame(TEXT, b"a", fin=False), frame(CONTINUATION, b"\xff", fin=False))
    opcode, payload = peer.frame()
    assert (opcode, payload[:2]) == (CLOSE, (1007).to_bytes(2, "big"))


VALID_CODES = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4408, 4999]
INVALID_CODES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


@pytest.mark.parametrize("code", VALID_CODES)
@pytest.mark.parametrize("reason", [b"", "ça suffit".encode(), b"x" * 123])
def test_a_close_frame_is_answered_with_its_code(peer, code, reason):
    peer.send(close(code, reason))
    assert peer.rest() == [(CLOSE, code.to_bytes(2, "big"))]


def test_an_empty_close_frame_is_answered_with_one(peer):
    peer.send(close())
    assert peer.rest() == [(CLOSE, b"")]


@pytest.mark.parametrize("code", INVALID_CODES)
@pytest.mark.parametrize("reason", [b"", b"because"])
def test_a_code_that_nobody_may_send(peer, code, reason):
    peer.send(close(code, reason))
    assert refused(peer, 1002) == []


def test_half_a_code(peer):
    peer.send(frame(CLOSE, b"\x03"))
    refused(peer, 1002)


@pytest.mark.parametrize("reason", BAD, ids=ascii)
def test_a_reason_that_is_not_text(peer, reason):
    peer.send(close(1000, reason), close(1000))
    assert refused(peer, 1007) == []


@pytest.mark.parametrize("late", [frame(TEXT, "x"), frame(PING, "x"), close(1000), b"\xff" * 100, frame(TEXT, b"\xff")])
def test_what_comes_after_a_close_frame_is_ignored(peer, late):
    peer.send(close(1000) + late)
    assert peer.rest() == [(CLOSE, b"\x03\xe8")]


def test_a_close_frame_amid_a_message(peer):
    peer.send(frame(TEXT, "half", fin=False) + close(1001))
    assert peer.rest() == [(CLOSE, b"\x03\xe9")]


@pytest.mark.parametrize("code", [*VALID_CODES])
def test_the_application_closes(peer, code):
    peer.send(frame(TEXT, f"close {code} enough"))
    assert peer.frame() == (CLOSE, code.to_bytes(2, "big") + b"enough")
    # Whatever comes before the answer is not looked at; the answer ends the connection.
    peer.send(frame(TEXT, b"\xff" * 10), frame(BINARY, b"x" * 2 * LIMIT), frame(PING, "x"), close(code))
    assert peer.rest() == []


def test_a_reason_that_is_too_long_is_cut_between_two_characters(peer):
    peer.send(frame(TEXT, "close 4000 " + "é" * 100))
    assert peer.frame() == (CLOSE, (4000).to_bytes(2, "big") + "é".encode() * 61)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [LIMIT + 1, 2 * LIMIT, 1 << 40, (1 << 63) - 1])
def test_a_frame_over_the_limit_is_refused_at_its_header(peer, opcode, size):
    peer.send(frame(opcode, b"", length=b"\x7f" + size.to_bytes(8, "big"))[:10])
    assert peer.frame() == (CLOSE, (1009).to_bytes(2, "big") + b"message too big")


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [1024, 10_000, LIMIT])
def test_fragments_over_the_limit(peer, opcode, size):
    count = LIMIT // size + 1
    data = b"".join(fragments(opcode, [b"x" * size] * count))
    peer.send(data, close(1000))
    assert refused(peer, 1009) == []


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [64, 1024, LIMIT // 2])
def test_a_message_of_the_limit_in_fragments(peer, opcode, size):
    peer.send(b"".join(fragments(opcode, [b"x" * size] * (LIMIT // size))))
    assert peer.frame() == (opcode, b"x" * LIMIT)


@pytest.mark.parametrize("attempt", range(40))
def test_who_goes_on_pouring_still_sees_1009(peer, attempt):
    """To close a socket with something unread in it resets the connection, and the close frame is lost."""
    peer.send(*fragments(TEXT, [b"x" * 1024] * 1200))
    peer.send(close(1000))
    assert refused(peer, 1009) == []


def test_who_goes_on_pouring_over_many_connections_still_sees_1009(port):
    peers = [Raw(port).open() for _ in range(50)]
    piece = frame(TEXT, b"x" * 1024, fin=False)
    more = frame(CONTINUATION, b"x" * 1024, fin=False)
    for _ in range(300):
        for each in peers:
            each.send(piece)
        piece = more
    for each in peers:
        each.send(close(1000))
    for each in peers:
        refused(each, 1009)
        each.socket.close()


def test_who_never_answers_a_close_frame_is_let_go(peer):
    peer.send(frame(TEXT, "close 4000 now"))
    assert code_of(peer.rest()) == 4000


def test_order_under_load(peer):
    texts = [b"%d " % n + b"y" * (n % 300) for n in range(3000)]
    data = b"".join(frame(TEXT, text) for text in texts)
    expected = len(texts)
    found = []
    for chunk in cut(data, 50_000):
        peer.send(chunk)
        while len(found) < expected and peer.read:
            found.append(peer.frame())
    while len(found) < expected:
        found.append(peer.frame())
    assert found == [(TEXT, text) for text in texts]


@pytest.mark.parametrize("seed", range(40))
def test_anything_cut_anywhere(peer, seed):
    """Messages, whole and in fragments, pings between them, in pieces of any size: all come back, in order."""
    dice = random.Random(seed)
    sent, pings, stream = [], [], b""
    for _ in range(dice.randint(1, 30)):
        opcode = dice.choice([TEXT, BINARY])
        size = dice.choice([0, 1, 5, 125, 126, 1000, 5000])
        payload = (
            "".join(dice.choices("aé€👍", k=size)).encode()
            if opcode == TEXT
            else bytes(dice.choices(range(256), k=size))
        )
        pieces = [payload]
        while dice.random() < 0.5:
            at = dice.randint(0, len(pieces[-1]))
            pieces[-1:] = [pieces[-1][:at], pieces[-1][at:]]
        for each in fragments(opcode, pieces):
            stream += each
            if dice.random() < 0.2:
                pings.append(b"%d" % len(pings))
                stream += frame(PING, pings[-1])
        sent.append((opcode, payload))
    start = 0
    while start < len(stream):
        size = dice.choice([1, 2, 3, 7, 100, 10_000])
        peer.send(stream[start : start + size])
        start += size
    found = [peer.frame() for _ in range(len(sent) + len(pings))]
    assert [each for each in found if each[0] != PONG] == sent
    assert [payload for opcode, payload in found if opcode == PONG] == pings
    peer.send(close(1000))
    assert peer.rest() == [(CLOSE, b"\x03\xe8")]
