"""nginx with the templates of the bundle, on this machine: whom it refuses, what it counts, and what it writes down."""

import getpass
import http.client
import json
import re
import socket
import ssl
import threading
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, UnixStreamServer

import pytest

from load.proxy import Nginx, make_certificate
from waiting import wait_until

TOKEN = "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0"
COOKIE = "c00c1e0f50meb0dy"
OWN_HEADERS = {
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "Content-Security-Policy",
    "X-Frame-Options",
    "Referrer-Policy",
    "Permissions-Policy",
    "Cross-Origin-Opener-Policy",
}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


class Application(BaseHTTPRequestHandler):
    """Stands for the application: it says what it was told of the client, or misbehaves as the path says."""

    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "nginx"

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path == "/hang-up":
            self.close_connection = True
        elif path == "/nonsense":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nWhat is this\r\n\r\n")
            self.close_connection = True
        elif path == "/large-head":
            self._answer(200, {}, {"X-Large": "x" * 20_000})
        elif path == "/limited":
            self._answer(429, {"detail": "You write too fast."})
        elif path.startswith("/ws/") and self.headers["Upgrade"]:
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            while data := self.rfile.read1(1000):
                self.wfile.write(data)
            self.close_connection = True
        else:
            self._answer(200, dict(self.headers))

    def _answer(self, status, content, headers=None):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path):
        super().__init__(str(path), Application)

    def handle_error(self, *_):
        """Whoever goes away in the middle is no news."""


class Proxy(Nginx):
    """nginx, with what a test asks of it."""

    def __init__(self, directory, certificate, upstream, **variables):
        # Whoever runs the tests owns the files that nginx is to read.
        changes = {r"\buser www-data;": f"user {getpass.getuser()};"}
        variables = {"nginx_exempt_networks": [], **variables}
        super().__init__(directory, certificate, f"unix:{upstream}", changes, **variables)
        self.directory = directory
        self.trust = ssl.create_default_context(cafile=certificate)

    def dial(self, *, tls=True, name="localhost", context=None):
        """A connection; without a name, as somebody who has typed an address."""
        plain = socket.create_connection(("127.0.0.1", self.port if tls else self.http_port), timeout=10)
        if not tls:
            return plain
        context = context or self.trust
        if name is None:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(plain, server_hostname=name)

    def ask(self, path, *, host="localhost", sock=None, tls=True, headers=None, body=None):
        """One request: status, headers, text."""
        connection = http.client.HTTPConnection("localhost", timeout=10)
        connection.sock = sock or self.dial(tls=tls)
        try:
            connection.request("GET" if body is None else "POST", path, body, {"Host": host, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode(errors="replace")
        finally:
            connection.close()

    def websocket(self):
        """An open WebSocket, or the status that it was refused with."""
        sock = self.dial()
        head = "".join(f"{name}: {value}\r\n" for name, value in UPGRADE.items())
        sock.sendall(f"GET /ws/chat/?token={TOKEN} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode())
        status = int(sock.recv(4096).split()[1])
        if status == 101:
            return sock
        sock.close()
        return status

    def error_log(self):
        return (self.directory / "error.log").read_text()

    def entry(self, **having):
        """The entry of the access log that has these values; it is written when the client has its answer already."""
        return wait_until(
            lambda: next((entry for entry in self.logged() if entry | having == entry), None), f"an entry with {having}"
        )

    def logged(self):
        """The entries of the access log."""
        return [json.loads(line) for line in (self.directory / "access.log").read_text().splitlines()]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def application(tmp_path_factory):
    path = tmp_path_factory.mktemp("application") / "sock"
    with Server(path) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield path
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(tmp_path, certificate, application):
    """Starts one, with the variables given."""
    with ExitStack() as stack:

        def proxy(upstream=application, **variables):
            return stack.enter_context(Proxy(tmp_path / "nginx", certificate, upstream, **variables))

        yield proxy


class TestNames:
    def test_a_strange_name_gets_no_answer(self, proxy):
        nginx = proxy()
        assert nginx.ask("/", tls=False)[0] == 308
        for host in ("stranger.example", "127.0.0.1"):
            with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
                nginx.ask("/", tls=False, host=host)

    def test_a_strange_name_is_misdirected_where_the_handshake_had_ours(self, proxy):
        nginx = proxy()
        assert nginx.ask("/")[0] == 200
        for host in ("stranger.example", "127.0.0.1"):
            assert nginx.ask("/", host=host)[0] == 421

    def test_the_application_is_told_the_port_that_we_are_known_by(self, proxy):
        nginx = proxy()
        for host in ("localhost", "LocalHost:1"):
            assert json.loads(nginx.ask("/", host=host)[2])["Host"] == f"localhost:{nginx.port}"

    def test_a_strange_name_gets_no_certificate(self, proxy):
        nginx = proxy()
        with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
            nginx.dial(name="stranger.example")

    def test_without_a_name_there_is_no_certificate(self, proxy):
        nginx = proxy()
        with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
            nginx.dial(name=None)

    def test_an_address_that_leads_here_is_a_name(self, proxy):
        nginx = proxy(nginx_alt_names=["127.0.0.1"])
        assert nginx.ask("/", sock=nginx.dial(name=None), host="127.0.0.1")[0] == 200
        assert nginx.ask("/", sock=nginx.dial(name=None), host="stranger.example")[0] == 421
        with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
            nginx.dial(name="stranger.example")

    @pytest.mark.parametrize("path", ["/.env", "/.git/config", "/static/.htaccess", "/chats/.x", "/%2egit/config"])
    def test_hidden_files(self, proxy, path):
        assert proxy().ask(path)[0] == 404

    def test_a_file_of_a_message_may_be_called_like_one(self, proxy):
        assert proxy().ask("/chats/files/1/.profile")[0] == 200


class TestTls:
    @pytest.mark.parametrize(("profile", "accepted"), [("intermediate", True), ("modern", False)])
    def test_profiles(self, proxy, certificate, profile, accepted):
        nginx = proxy(nginx_tls_profile=profile)
        old = ssl.create_default_context(cafile=certificate)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert nginx.ask("/")[0] == 200
        if accepted:
            nginx.dial(context=old).close()
        else:
            with pytest.raises(ssl.SSLError, match=r"(?i)version"):
                nginx.dial(context=old)

    def test_no_tickets(self, proxy, certificate):
        nginx = proxy()
        old = ssl.create_default_context(cafile=certificate)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with nginx.dial(context=old) as secured:
            assert not secured.session.has_ticket


class TestChallenges:
    def test_an_authority_finds_what_it_asks_for(self, proxy):
        nginx = proxy()
        place = nginx.directory / ".well-known/acme-challenge"
        place.mkdir(parents=True)
        (place / "answer").write_text("as agreed")
        status, _, text = nginx.ask("/.well-known/acme-challenge/answer", tls=False)
        assert (status, text) == (200, "as agreed")
        assert nginx.ask("/.well-known/acme-challenge/other", tls=False)[0] == 404
        assert nginx.ask("/.well-known/security.txt", tls=False)[0] == 308


class TestProxyInFront:
    """TLS ends there; on this machine it is trusted for what it says."""

    @pytest.fixture
    def nginx(self, proxy):
        return proxy(nginx_tls=False, nginx_trusted_proxies=["127.0.0.1"])

    def test_its_visitors_are_served(self, nginx):
        headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
        status, answered, text = nginx.ask("/", tls=False, headers=headers)
        assert status == 200
        told = json.loads(text)
        assert (told["X-Forwarded-For"], told["X-Forwarded-Proto"]) == ("203.0.113.9", "https")
        assert answered["Strict-Transport-Security"]

    @pytest.mark.parametrize("proto", [None, "http", "httpsx"])
    def test_who_has_not_come_over_tls_is_sent_there(self, nginx, proto):
        headers = {"X-Forwarded-Proto": proto} if proto else {}
        status, answered, _ = nginx.ask("/x?a=b", tls=False, headers=headers)
        assert (status, answered["Location"]) == (308, f"https://localhost:{nginx.port}/x?a=b")

    def test_a_strange_name_gets_no_answer(self, nginx):
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            nginx.ask("/", tls=False, host="stranger.example", headers={"X-Forwarded-Proto": "https"})


class TestHeaders:
    @pytest.mark.parametrize("path", ["/.env", "/static/nothing"])
    def test_of_its_own_answers(self, proxy, path):
        status, headers, _ = proxy().ask(path)
        assert status == 404
        for name in OWN_HEADERS:
            assert len(headers.get_all(name) or []) == 1, name
        assert headers["Server"] == "nginx"

    def test_of_the_applications_answers(self, proxy):
        """The application knows what fits each of them: what nginx would add is not there twice."""
        _, headers, _ = proxy().ask("/")
        assert OWN_HEADERS & set(headers) == {"Strict-Transport-Security", "X-Content-Type-Options"}

    def test_compressed_is_what_is_the_same_for_everybody(self, proxy):
        nginx = proxy()
        (nginx.directory / "a.css").write_text("a {}\n" * 1000)
        long = {"Accept-Encoding": "gzip", "X-Long": "x" * 4000}
        assert nginx.ask("/static/a.css", headers=long)[1]["Content-Encoding"] == "gzip"
        assert nginx.ask("/", headers=long)[1]["Content-Encoding"] is None


class TestAddresses:
    def spoofed(self, nginx, address="203.0.113.9"):
        headers = {
            "X-Forwarded-For": address,
            "X-Real-IP": address,
            "X-Forwarded-Proto": "ftp",
            "X-Forwarded-Host": "x",
            "X-Request-ID": "0" * 32,
        }
        return json.loads(nginx.ask("/", headers=headers)[2])

    def test_a_claim_of_anybody_counts_for_nothing(self, proxy):
        nginx = proxy()
        told = self.spoofed(nginx)
        assert (told["X-Forwarded-For"], told["X-Forwarded-Proto"]) == ("127.0.0.1", "https")
        assert not {"X-Real-IP", "X-Forwarded-Host"} & set(told)
        entry = nginx.entry(path="/")
        assert entry["address"] == "127.0.0.1"
        # Its name in the log is that in the application's.
        assert re.fullmatch("[0-9a-f]{32}", entry["request"])
        assert told["X-Request-ID"] == entry["request"] != "0" * 32

    def test_a_trusted_proxy_is_believed(self, proxy):
        nginx = proxy(nginx_trusted_proxies=["127.0.0.1", "192.0.2.0/24"])
        assert self.spoofed(nginx)["X-Forwarded-For"] == "203.0.113.9"
        # What the client has claimed to the first proxy stands left of what that one has seen.
        assert self.spoofed(nginx, "198.51.100.1, 203.0.113.9, 192.0.2.7")["X-Forwarded-For"] == "203.0.113.9"


class TestLimits:
    def statuses(self, nginx, path, count, **options):
        return [nginx.ask(path, **options)[0] for _ in range(count)]

    @pytest.mark.parametrize(("path", "kind"), [("/ws/chat/", "handshakes"), ("/chats/rooms/", "requests")])
    def test_beyond_a_rate(self, proxy, path, kind):
        limits = {f"nginx_{kind}_per_second": 1, f"nginx_{kind}_burst": 3}
        nginx = proxy(nginx_logged_refusals=100, nginx_retry_after_seconds=7, **limits)
        assert self.statuses(nginx, path, 4) == [200] * 4
        status, headers, text = nginx.ask(path)
        assert (status, headers.get_content_type(), headers["Retry-After"]) == (429, "application/json", "7")
        assert json.loads(text).keys() == {"code", "detail"}
        assert set(headers) >= OWN_HEADERS | {"Access-Control-Allow-Origin"}
        assert nginx.entry(status=429)["limit_requests"] == "REJECTED"
        # The other limit has not moved.
        assert self.statuses(nginx, "/" if kind == "handshakes" else "/ws/chat/", 4) == [200] * 4

    def test_the_applications_own_refusal_is_passed_on(self, proxy):
        assert "You write too fast" in proxy().ask("/limited")[2]

    def test_a_websocket_counts_as_long_as_it_is_open(self, proxy):
        nginx = proxy(nginx_connections_per_address=3)
        sockets = [nginx.websocket() for _ in range(3)]
        for sock in sockets:
            sock.sendall(b"still here")
            assert sock.recv(100) == b"still here"
        assert nginx.websocket() == 429
        assert nginx.ask("/")[0] == 429
        sockets.pop().close()
        wait_until(lambda: nginx.ask("/")[0] == 200, "the place that was left")
        for sock in sockets:
            sock.close()

    def test_everybody_has_limits_of_their_own(self, proxy):
        nginx = proxy(
            nginx_trusted_proxies=["127.0.0.1"],
            nginx_exempt_networks=["198.51.100.0/24", "2001:db8:5::/48"],
            nginx_requests_per_second=1,
            nginx_requests_burst=1,
        )

        def refused(*addresses):
            return [nginx.ask("/", headers={"X-Forwarded-For": each})[0] == 429 for each in addresses]

        assert refused("203.0.113.9", "203.0.113.9", "203.0.113.9", "203.0.113.10") == [False, False, True, False]
        # A /64 is one customer.
        assert refused("2001:db8::1", "2001:db8::2:1", "2001:db8::3", "2001:db8:0:1::3") == [False, False, True, False]
        assert refused(*["198.51.100.1"] * 5, *["2001:db8:5::1"] * 5) == [False] * 10

    def test_refusals_do_not_fill_the_log(self, proxy):
        nginx = proxy(nginx_requests_per_second=1, nginx_requests_burst=1)
        self.statuses(nginx, "/", 200)
        nginx.entry(status=429)
        assert sum(entry["status"] == 429 for entry in nginx.logged()) < 100

    @pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
    def test_a_head_has_its_time(self, proxy, said):
        nginx = proxy(nginx_header_timeout="1s")
        with nginx.dial() as sock:
            sock.sendall(said)
            assert gone(sock)

    def test_a_body_has_its_time(self, proxy):
        nginx = proxy(nginx_body_timeout="1s")
        with nginx.dial() as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nslow")
            assert gone(sock)

    def test_a_handshake_has_its_time(self, proxy):
        nginx = proxy(nginx_header_timeout="1s")
        with socket.create_connection(("127.0.0.1", nginx.port), timeout=10) as sock:
            assert gone(sock)


def gone(sock):
    """Wait for the other side to end the connection."""
    try:
        return sock.recv(1000) == b""
    except ConnectionResetError:
        return True


LEAKY = [
    (f"/ws/chat/?token={TOKEN}", {}),
    (f"/chats/files/1/a.png?token={TOKEN}", {}),
    (f"/?token={TOKEN}", {}),
    (f"/chats/rooms/%3Ftoken={TOKEN}", {}),
    (f"/chats/rooms/&token={TOKEN}", {}),
    ("/", {"Referer": f"https://localhost/?token={TOKEN}"}),
    ("/", {"Cookie": f"sessionid={COOKIE}", "Authorization": f"Bearer {TOKEN}"}),
]
"""Where a client may send a secret, as it should and as it should not."""


class TestLogs:
    def leaks(self, nginx):
        """Which files hold what no file may hold; there are files."""
        # When its entry is there, all that came before it is.
        last = f"/healthz/{len(nginx.logged())}"
        with suppress(OSError, http.client.HTTPException):
            nginx.ask(last)
        nginx.entry(path=last)
        texts = {name: (nginx.directory / name).read_text() for name in ("access.log", "error.log", "log")}
        return {
            name: line
            for name, text in texts.items()
            for line in text.splitlines()
            if re.search(f"{re.escape(TOKEN)}|{COOKIE}|token=|[?]", line)
        }

    def all_ways(self, nginx, *more):
        for path, headers in LEAKY:
            nginx.ask(path, headers=headers)
        for path in more:
            nginx.ask(f"{path}?token={TOKEN}")

    def test_when_all_is_well(self, proxy):
        nginx = proxy()
        self.all_ways(nginx, "/static/nothing", "/.env")
        nginx.ask(f"/?token={TOKEN}", tls=False)
        nginx.ask(f"/?token={TOKEN}", host="stranger.example")
        assert self.leaks(nginx) == {}
        for path in ("/ws/chat/", "/chats/files/1/a.png", "/chats/rooms/", "/"):
            nginx.entry(path=path)

    @pytest.mark.parametrize("path", ["/hang-up", "/nonsense", "/large-head"])
    def test_when_the_application_fails(self, proxy, path):
        nginx = proxy()
        status, headers, text = nginx.ask(f"{path}?token={TOKEN}")
        assert (status, headers.get_content_type(), headers["Retry-After"]) == (503, "application/json", "5")
        assert json.loads(text)["code"] == "unavailable"
        assert self.leaks(nginx) == {}
        assert nginx.entry(status=503, path=path)["upstream_status"].startswith("502")

    @pytest.mark.parametrize("nobody", ["nothing is there", "nobody listens"])
    def test_when_the_application_is_away(self, proxy, tmp_path, nobody):
        place = tmp_path / "away"
        if nobody == "nobody listens":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(place))
        nginx = proxy(upstream=place)
        self.all_ways(nginx)
        assert self.leaks(nginx) == {}
        assert nginx.entry(status=503, upstream_status="502", upstream_connect="-")["upstream"] == f"unix:{place}"

    def test_when_a_limit_is_hit(self, proxy):
        nginx = proxy(
            nginx_requests_per_second=1,
            nginx_requests_burst=1,
            nginx_handshakes_per_second=1,
            nginx_handshakes_burst=1,
            nginx_logged_refusals=100,
        )
        self.all_ways(nginx)
        self.all_ways(nginx)
        assert self.leaks(nginx) == {}
        nginx.entry(limit_requests="REJECTED", path="/chats/rooms/")

    def test_when_connections_are_at_their_limit(self, proxy):
        nginx = proxy(nginx_connections_per_address=1, nginx_logged_refusals=100)
        sock = nginx.websocket()
        self.all_ways(nginx)
        sock.close()
        assert self.leaks(nginx) == {}
        nginx.entry(limit_connections="REJECTED", path="/ws/chat/")

    def test_when_nginx_takes_no_more(self, proxy):
        """It says so at the level "alert", with the request that it was about."""
        nginx = proxy(nginx_worker_connections=16)
        opened = []
        # Sooner or later one has come in for whom there is none left to reach the application.
        while not any(isinstance(each, int) for each in opened):
            opened.append(nginx.websocket())
        assert opened.pop() == 503
        for sock in opened:
            sock.close()
        assert self.leaks(nginx) == {}
        nginx.entry(status=503)

    def test_that_nginx_takes_no_more_is_written_down(self, proxy):
        nginx = proxy(nginx_worker_connections=16)
        with ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(socket.create_connection(("127.0.0.1", nginx.port), timeout=10))
            wait_until(lambda: "worker_connections are not enough" in nginx.error_log(), "the alert")

    def test_when_a_request_is_none(self, proxy):
        nginx = proxy()
        for line in (
            f"GET /?token={TOKEN}\x01 HTTP/1.1",
            f"BREW /?token={TOKEN} HTTP/9.9",
            f"GET /?token={TOKEN}{'x' * 40000} HTTP/1.1",
            f"GET /?token={TOKEN} HTTP/1.1\r\nHost: localhost\r\nCookie: {COOKIE}\x00",
            f"GET /?token={TOKEN} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999",
        ):
            with nginx.dial() as sock, suppress(ssl.SSLError, ConnectionError):
                sock.sendall(f"{line}\r\n\r\n".encode())
                sock.recv(1000)
        nginx.ask("/")
        assert self.leaks(nginx) == {}

    def test_what_nginx_says_of_itself_is_kept(self, proxy):
        nginx = proxy()
        assert "start worker process" in nginx.error_log()
