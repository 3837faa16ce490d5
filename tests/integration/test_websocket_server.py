"""The server's side of a WebSocket around its frames: the handshake, the application's part, bounds, and time."""

import json
import os
import signal
import socket
import ssl
import struct
import subprocess
from pathlib import Path

import pytest
from echo_server import echo_process, echo_server
from raw import CLOSE, KEY, PING, PONG, TEXT, Raw, close, code_of, frame, get, request
from target import free_port
from websockets.utils import accept_key

from waiting import wait_until


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with echo_server(tmp_path_factory.mktemp("echo")) as port:
        yield port


@pytest.fixture
def peer(port):
    with Raw(port) as peer:
        yield peer


def whole(data):
    return [data]


def halved(data):
    return [data[: len(data) // 2], data[len(data) // 2 :]]


WAYS = [whole, halved]
"""A request in one piece is read by Salon, any other one by Twisted."""


def send_slowly(peer, chunks):
    """Each in a packet of its own."""
    for chunk in chunks[:-1]:
        peer.send(chunk)
        # The server has read what is acknowledged before an answer to something sent later.
        get(peer.socket.getpeername()[1])
    peer.send(chunks[-1])


@pytest.mark.parametrize("way", WAYS)
def test_a_handshake(peer, way):
    send_slowly(peer, way(request("/", Sec_WebSocket_Protocol="chat, other")))
    status, headers = peer.head()
    assert status == 101
    assert headers["upgrade"].lower() == "websocket"
    assert headers["connection"].lower() == "upgrade"
    assert headers["sec-websocket-accept"] == accept_key(KEY)
    assert headers["sec-websocket-protocol"] == "chat"
    assert headers["x-echo"] == "yes"
    assert "sec-websocket-extensions" not in headers
    peer.send(frame(TEXT, "hello"))
    assert peer.frame() == (TEXT, b"hello")


def test_the_answer_of_the_standards_own_example(peer):
    """RFC 6455, section 1.3."""
    peer.send(request("/", Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ=="))
    assert peer.head()[1]["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


GOOD = [
    {"Connection": "keep-alive, Upgrade"},
    {"Connection": "UPGRADE"},
    {"Upgrade": "WebSocket"},
    {"Origin": "null"},
    {"Origin": "file://"},
    {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"},
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("changes", GOOD, ids=str)
def test_a_handshake_in_other_words(peer, way, changes):
    send_slowly(peer, way(request("/", **changes)))
    assert peer.head()[0] == 101


BAD = [
    (request(drop=["Host"]), 400),
    (request(drop=["Connection"]), 400),
    (request(Connection="keep-alive"), 400),
    (request(drop=["Sec-WebSocket-Key"]), 400),
    (request(Sec_WebSocket_Key=""), 400),
    (request(Sec_WebSocket_Key="c2hvcnQ="), 400),
    (request(Sec_WebSocket_Key="!" * 24), 400),
    (request(Sec_WebSocket_Key=KEY + KEY), 400),
    (request(drop=["Sec-WebSocket-Version"]), 426),
    (request(Sec_WebSocket_Version="8"), 426),
    (request(Sec_WebSocket_Version="13, 8"), 426),
    (request(Sec_WebSocket_Version="14"), 426),
    (request(line="POST / HTTP/1.1", Content_Length="0"), 400),
    (request(line="GET / HTTP/1.0"), 400),
    (request(line="GET http://localhost/ HTTP/1.1"), 400),
    (request("/#part"), 400),
    (request("/\xe9"), 400),
    (request().replace(b"\r\n\r\n", b"\r\nHost: localhost\r\n\r\n"), 400),
    (request().replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Key: " + KEY.encode() + b"\r\n\r\n"), 400),
    (request(Sec_WebSocket_Protocol="\xe9"), 400),
    (request(X_Bad="a\x0bb"), 400),
    (request(**{"X Bad": "a"}), 400),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("data", "status"), BAD)
def test_a_handshake_that_is_none(peer, way, data, status):
    send_slowly(peer, way(data))
    answered, headers = peer.head()
    assert answered == status
    if status == 426:
        assert headers["sec-websocket-version"] == "13"
    peer.until_end()


def scope_of(port, data, way):
    with Raw(port) as peer:
        send_slowly(peer, way(data))
        assert peer.head()[0] == 101
        scope = json.loads(peer.frame()[1])
        # The two connections have a port each.
        return {**scope, "client": scope["client"] and [scope["client"][0], bool(scope["client"][1])]}


SCOPES = [
    request("/scope"),
    request("/scope?token=a%20b&x=%ff"),
    request("/scope?"),
    request("/%73cope;v=1/../%C3%A9?a=b?c", line="GET /%73cope HTTP/1.1"),
    request("/scope", Sec_WebSocket_Protocol="a, b ,c%20d"),
    request("/scope", X__Forwarded="dropped", Daphne_Root_Path="/ro%20ot"),
    request("/scope", Cookie="a=b; c=d", Authorization="Bearer  x ", Empty="", User_Agent="Mozilla/5.0 (X11)"),
    request("/scope", X_Forwarded_For="203.0.113.7, 10.0.0.1", X_Forwarded_Port="1234"),
    request("/scope").replace(b": ", b":  "),
]


@pytest.mark.parametrize("data", SCOPES)
def test_both_ways_to_read_a_request_give_the_same_scope(port, data):
    quick = scope_of(port, data, whole)
    assert quick == scope_of(port, data, halved)
    assert quick["type"] == "websocket"
    assert quick["path"] == "/scope"
    assert quick["asgi"]["version"] == "3.0"
    assert quick["extensions"] == ["salon.direct", "websocket.http.response"]
    assert quick["client"][0] == "127.0.0.1"
    assert quick["server"] == ["127.0.0.1", port]


def test_what_a_proxy_says_of_the_client(tmp_path):
    with echo_server(tmp_path, "--proxy-headers") as port:
        data = request("/scope", X_Forwarded_For="203.0.113.7, 10.0.0.1", X_Forwarded_Port="1234")
        for way in WAYS:
            assert scope_of(port, data, way)["client"] == ["203.0.113.7", True]


def test_a_header_over_two_lines_is_left_to_twisted(peer):
    peer.send(request("/").replace(b"\r\n\r\n", b"\r\nX-Long: a\r\n b\r\n\r\n"))
    assert peer.head()[0] == 101


def test_a_connection_that_has_been_used_for_http(peer):
    peer.send(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    status, headers = peer.head()
    assert status == 200
    peer._take(int(headers["content-length"]))
    peer.open()
    peer.send(frame(TEXT, "hello"))
    assert peer.frame() == (TEXT, b"hello")


def test_behind_an_http_request_in_the_same_packet(peer):
    peer.send(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n" + request() + frame(TEXT, "hello"))
    status, headers = peer.head()
    assert status == 200
    peer._take(int(headers["content-length"]))
    assert peer.head()[0] == 101
    assert peer.frame() == (TEXT, b"hello")
    peer.send(close(1000))
    assert peer.rest() == [(CLOSE, b"\x03\xe8")]


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_does_not_wait_for_the_answer(peer, way):
    data = request() + frame(TEXT, "early") + frame(TEXT, "bird")
    send_slowly(peer, way(data))
    assert peer.head()[0] == 101
    assert [peer.frame(), peer.frame()] == [(TEXT, b"early"), (TEXT, b"bird")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/reject", 403, b"Access denied\n"),
        ("/fail", 500, b"Internal server error\n"),
        ("/deny", 418, b"short and stout"),
        ("/deny-twice", 418, b""),
        ("/deny-halfway", 418, b"half"),
    ],
)
def test_an_application_that_refuses(peer, way, path, status, body):
    send_slowly(peer, way(request(path)))
    assert peer.head()[0] == status
    assert peer.until_end() == body


@pytest.mark.parametrize(("path", "code"), [("/fail-later", 1011), ("/end", 1000)])
def test_an_application_that_ends(peer, path, code):
    peer.open(path)
    if path == "/fail-later":
        peer.send(frame(TEXT, "go"))
    assert peer.frame() == (CLOSE, code.to_bytes(2, "big"))
    peer.send(close(code))
    assert peer.rest() == []


@pytest.mark.parametrize("way", WAYS)
def test_no_frame_overtakes_the_answer(port, way):
    for _ in range(50):
        with Raw(port) as peer:
            send_slowly(peer, way(request("/race")))
            assert peer.head()[0] == 101
            assert [peer.frame()[1] for _ in range(5)] == [b"1", b"2", b"3", b"4", b"5"]
            assert peer.frame() == (CLOSE, (1012).to_bytes(2, "big") + b"restart")


def test_who_does_not_read_is_closed_and_the_others_notice_nothing(port):
    before = get(port)
    with Raw(port, buffer=4096) as slow, Raw(port) as speaker:
        slow.open("/crowd")
        others = [Raw(port).open("/crowd") for _ in range(10)]
        speaker.open("/crowd")
        wait_until(lambda: get(port)["crowd"] == before["crowd"] + 12, "the crowd")
        for number in range(100):
            speaker.send(frame(TEXT, "big 100"), frame(TEXT, f"{number}"))
            for each in (speaker, *others):
                assert each.frame() == (TEXT, b"x" * 102_400)
                assert each.frame() == (TEXT, b"%d" % number)
            assert get(port)["queued"] <= 1024 * 1024 + 102_400
        after = get(port)
        assert after["slow_readers"] == before["slow_readers"] + 1
        assert after["crowd"] == before["crowd"] + 11
        # What it had begun to get comes to its end, and then it is told.
        found = slow.rest()
        assert code_of(found) == 4408
        assert all(payload in (b"x" * 102_400, *(b"%d" % n for n in range(100))) for _, payload in found[:-1])
        for each in others:
            each.socket.close()


def test_who_is_closed_for_not_reading_is_not_listened_to_any_more(port):
    get(port, "/shut")
    with Raw(port, buffer=4096) as slow:
        slow.open("/burden")
        slow.send(b"".join(frame(TEXT, f"{number}") for number in range(60)))
        wait_until(lambda: get(port)["taken"], "the first of it")
        assert code_of(slow.rest()) == 4408
    assert 0 < get(port)["taken"] < 60


def test_many_who_come_at_once_come_in(port):
    peers = [Raw(port) for _ in range(100)]
    for peer in peers[1::10]:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    for peer in peers:
        # Some do not wait for the answer.
        peer.send(request("/") + (frame(TEXT, "early") if peer in peers[::10] else b""))
    for peer in peers[1::10]:
        peer.socket.close()
    for number, peer in enumerate(peers):
        if number % 10 == 1:
            continue
        assert peer.head()[0] == 101
        if number % 10:
            peer.send(frame(TEXT, "early"))
        assert peer.frame() == (TEXT, b"early")
        peer.socket.close()


def test_those_who_vanish_take_nobody_with_them(port):
    before = get(port)["crowd"]
    members = [Raw(port).open("/crowd") for _ in range(20)]
    wait_until(lambda: get(port)["crowd"] == before + 20, "the crowd")
    speaker, *others = members
    for number, each in enumerate(others):
        if number % 2:
            # The server learns of it from a write or a read, whichever comes first.
            each.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.socket.close()
    for number in range(50):
        speaker.send(frame(TEXT, f"{number}"))
        for each in (speaker, *others[::2]):
            assert each.frame() == (TEXT, b"%d" % number)
    wait_until(lambda: get(port)["crowd"] == before + 11, "the end of those who left")
    for each in (speaker, *others[::2]):
        each.socket.close()
    wait_until(lambda: get(port)["crowd"] == before, "the end of all")


def test_who_answers_a_close_with_a_message_and_is_gone_is_no_error(tmp_path):
    """What she said last is read, and the error behind it is told by nobody: uvloop watches such a socket no more."""
    with echo_server(tmp_path) as port:
        pid = get(port)["pid"]
        open_files = Path(f"/proc/{pid}/fd")
        before = len(list(open_files.iterdir()))
        for _ in range(5):
            peer = Raw(port).open()
            peer.send(frame(TEXT, "close 4000 bye"))
            assert peer.frame()[0] == CLOSE
            os.kill(pid, signal.SIGSTOP)
            try:
                peer.send(frame(TEXT, "late"))
                peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                peer.socket.close()
            finally:
                os.kill(pid, signal.SIGCONT)
        wait_until(lambda: len(list(open_files.iterdir())) <= before, "the end of all")
    assert "could not be handled" not in (tmp_path / "server.log").read_text()


def test_an_idle_connection_takes_a_few_kilobytes(port):
    warm = [Raw(port).open() for _ in range(200)]
    before = get(port)["rss"]
    idle = [Raw(port).open() for _ in range(600)]
    assert (get(port)["rss"] - before) / len(idle) < 10 * 1024
    for each in warm + idle:
        each.socket.close()


def test_the_loop_is_uvloops(port):
    assert get(port)["loop"] == "uvloop"


def test_who_floods_has_to_wait_and_nothing_is_lost(port):
    get(port, "/shut")
    before = get(port)["rss"]
    data = b"".join(frame(TEXT, f"{n:08}" + "x" * 500) for n in range(1000))
    with Raw(port) as flood:
        flood.open("/gated")
        flood.socket.setblocking(False)
        sent = 0
        # Until nothing more is taken: the kernel's buffers are full, for the server does not read.
        stuck = 0
        pending = b""
        while stuck < 20:
            pending = pending or data
            try:
                size = flood.socket.send(pending)
                sent, pending, stuck = sent + size, pending[size:], 0
            except BlockingIOError:
                stuck += 1
                # An answer means a turn of the server's loop.
                assert get(port)["taken"] == 0
        assert sent < 32 * 1024 * 1024
        assert get(port)["rss"] - before < 8 * 1024 * 1024
        get(port, "/open")
        flood.socket.settimeout(20)
        flood.send(pending)
        sent += len(pending)
        messages = sent // len(frame(TEXT, "x" * 508))
        wait_until(lambda: get(port)["taken"] == messages, "all messages")


def test_small_messages_in_a_flood_stay_in_order(port):
    get(port, "/shut")
    with Raw(port) as flood:
        flood.open("/gated")
        data = b"".join(frame(TEXT, f"{n:08}") for n in range(20_000))
        flood.send(data)
        get(port, "/open")
        wait_until(lambda: get(port)["taken"] == 20_000, "all messages")
        assert get(port)["in_order"]
        flood.send(close(1000))
        assert flood.rest() == [(CLOSE, b"\x03\xe8")]
    wait_until(lambda: get(port)["taken"] == 20_001, "the end")


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    """A server that soon asks, and waits for a second only."""
    options = ["--ping-interval", "1", "--ping-timeout", "1", "--application-close-timeout", "1"]
    with echo_server(tmp_path_factory.mktemp("impatient"), *options) as port:
        yield port


def test_who_is_silent_is_pinged_and_who_answers_stays(impatient):
    with Raw(impatient) as peer:
        peer.open()
        for _ in range(3):
            assert peer.frame() == (PING, b"")
            peer.send(frame(PONG))
        peer.send(frame(TEXT, "still here"))
        assert peer.frame() == (TEXT, b"still here")


def test_who_does_not_answer_a_ping_is_dropped(impatient):
    with Raw(impatient) as peer:
        peer.open()
        assert peer.frame() == (PING, b"")
        with pytest.raises(ConnectionResetError):
            peer.frame()


def test_a_connection_has_a_greatest_age_where_one_is_given(tmp_path):
    with echo_server(tmp_path, "--websocket_timeout", "1", "--websocket_connect_timeout", "1") as port:
        with Raw(port) as peer:
            peer.open()
            assert peer.frame() == (CLOSE, b"\x03\xe8")
        with Raw(port) as peer:
            peer.send(request("/silent"))
            assert peer.head()[0] == 403


def test_over_tls(tmp_path):
    """The frames then go through Twisted."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run(
        [*command, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    port = free_port()
    endpoint = f"ssl:{port}:privateKey={key}:certKey={certificate}:interface=127.0.0.1"
    with echo_process(tmp_path, "--endpoint", endpoint) as (process, _):
        context = ssl.create_default_context(cafile=certificate)
        for way in WAYS:
            with Raw(port) as peer:
                peer.socket = context.wrap_socket(peer.socket, server_hostname="127.0.0.1")
                for chunk in way(request()):
                    peer.send(chunk)
                assert peer.head()[0] == 101
                for size in (0, 5, 126, 100_000):
                    peer.send(frame(TEXT, b"x" * size))
                    assert peer.frame() == (TEXT, b"x" * size)
                peer.send(close(1000))
                assert peer.rest() == [(CLOSE, b"\x03\xe8")]
        with Raw(port, buffer=4096) as slow:
            slow.socket = context.wrap_socket(slow.socket, server_hostname="127.0.0.1")
            slow.open("/crowd")
            slow.send(frame(TEXT, "big 100") * 60)
            found = slow.rest()
            assert code_of(found) in (1006, 4408) or len(found) == 60
        with Raw(port) as peer:
            peer.socket = context.wrap_socket(peer.socket, server_hostname="127.0.0.1")
            peer.open()
            process.terminate()
            assert peer.frame() == (CLOSE, (1012).to_bytes(2, "big"))
            peer.send(close(1012))
            assert peer.rest() == []
        assert process.wait(30) == 0


def test_over_a_unix_socket(tmp_path):
    path = tmp_path / "salon.sock"
    with echo_server(tmp_path, "--endpoint", f"unix:{path}"):
        for way in WAYS:
            with Raw(0, family=socket.AF_UNIX, address=str(path)) as peer:
                peer.send(*way(request("/scope")))
                assert peer.head()[0] == 101
                scope = json.loads(peer.frame()[1])
                assert (scope["client"], scope["server"]) == (None, None)


def test_a_connection_that_says_nothing_costs_nobody_else(port):
    with socket.create_connection(("127.0.0.1", port)), Raw(port) as peer:
        peer.open()
        peer.send(frame(PING, b"?"))
        assert peer.frame() == (PONG, b"?")
