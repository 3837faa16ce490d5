"""The host from outside: what listens, redirect, TLS, static files, the upgrade."""

import http.client
import itertools
import json
import re
import socket
import ssl
import threading
import time
from contextlib import ExitStack, suppress

import pytest
from cryptography import x509
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect


def test_only_nginx_listens(host):
    lines = host.check_output("ss -Hlntp").splitlines()
    assert {line.split()[3].rpartition(":")[2] for line in lines} == {"80", "443"}
    assert all('"nginx"' in line for line in lines)
    assert host.check_output("ss -Hlnup") == ""


def test_servers_behind_have_unix_sockets(host, processes):
    # Redis and PostgreSQL have a network of their own, with nothing in it, where `ss` does not look.
    for path in (
        "/run/redis/redis-server.sock",
        "/run/postgresql/.s.PGSQL.5432",
        *(f"/run/salon/daphne-{number}.sock" for number in processes),
    ):
        assert host.file(path).is_socket


@pytest.mark.parametrize(("user", "allowed"), [("www-data", True), ("nobody", False), ("redis", False)])
def test_only_nginx_reaches_the_application(host, user, allowed):
    code = "import socket; socket.socket(socket.AF_UNIX).connect('/run/salon/daphne-1.sock')"
    done = host.run(
        f'setpriv --reuid {user} --regid {user if user != "nobody" else "nogroup"} --clear-groups python3 -c "{code}"'
    )
    assert (done.rc == 0) == allowed, done.stderr


def test_redis_and_postgresql_let_in_the_application_only(host):
    as_user = "setpriv --reuid {0} --regid {1} --init-groups"
    ping = "redis-cli -s /run/redis/redis-server.sock --user salon --pass any --no-auth-warning ping"
    assert host.check_output(f"{as_user.format('salon', 'salon')} {ping}") == "PONG"
    assert host.run(f"{as_user.format('www-data', 'www-data')} {ping}").stdout.strip() != "PONG"
    query = "psql -h /run/postgresql salon -Atc 'select current_user'"
    assert host.check_output(f"{as_user.format('salon', 'salon')} {query}") == "salon"
    assert host.run(f"{as_user.format('www-data', 'www-data')} {query}").rc != 0
    assert host.run(f"{as_user.format('www-data', 'www-data')} psql -h /run/postgresql -U salon salon -c ''").rc != 0


def test_database_speaks_unicode(host):
    shown = host.check_output(
        "setpriv --reuid salon --regid salon --init-groups psql -h /run/postgresql salon -Atc 'show server_encoding'"
    )
    assert shown == "UTF8"


@pytest.mark.parametrize("named", ["domain", "address"])
def test_http_redirects_to_https(fetch, request, named):
    name = request.getfixturevalue(named)
    answer = fetch("/somewhere?a=b", name=name, tls=False)
    assert answer.status in (301, 308)
    assert answer.headers["Location"] == f"https://{name}/somewhere?a=b"


def test_strange_host_names_get_no_answer(fetch):
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        fetch("/healthz", headers={"Host": "stranger.example"}, tls=False)
    assert fetch("/healthz", headers={"Host": "stranger.example"}).status == 421


def test_strange_names_get_no_certificate(address):
    context = ssl.create_default_context()
    with (
        socket.create_connection((address, 443), timeout=10) as plain,
        pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"),
    ):
        context.wrap_socket(plain, server_hostname="stranger.example")


def test_groups_of_the_key_exchange(host, domain):
    """One that a quantum computer does not break comes first, where the host's OpenSSL has it."""
    shown = host.check_output(f"openssl s_client -connect localhost:443 -servername {domain} </dev/null 2>&1")
    version = host.check_output("openssl version").split()[1]
    new = tuple(int(part) for part in version.split(".")[:2]) >= (3, 5)
    assert re.search("(?:Negotiated TLS1.3 group|Server Temp Key): (\\w+)", shown)[1] == (
        "X25519MLKEM768" if new else "X25519"
    )


@pytest.mark.parametrize("named", ["domain", "address"])
def test_certificate_is_for_every_name(fetch, request, named):
    answer = fetch("/healthz", name=request.getfixturevalue(named))
    assert answer.status == 200


def test_readiness(fetch):
    answer = fetch("/readyz")
    assert answer.status == 200, answer.body
    assert set(json.loads(answer.body).values()) == {"ok"}


def leaf(address, domain, trust):
    with (
        socket.create_connection((address, 443), timeout=10) as plain,
        trust.wrap_socket(plain, server_hostname=domain) as secured,
    ):
        return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True))


def test_certificate_lasts_as_long_as_browsers_accept(address, domain, trust):
    certificate = leaf(address, domain, trust)
    days = (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days
    assert 90 <= days <= 397


def test_certificate_is_no_authority(address, domain, trust, authority):
    assert not leaf(address, domain, trust).extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    made_by = x509.load_pem_x509_certificate(authority.read_bytes())
    assert made_by.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize(
    ("version", "accepted"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_tls_versions(address, domain, authority, version, accepted):
    context = ssl.create_default_context(cafile=str(authority))
    # Else this end would refuse the old version before the host can.
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with socket.create_connection((address, 443), timeout=10) as plain:
        if accepted:
            context.wrap_socket(plain, server_hostname=domain).close()
        else:
            with pytest.raises(ssl.SSLError, match=r"(?i)version|alert"):
                context.wrap_socket(plain, server_hostname=domain)


def test_http2_is_offered(address, domain, authority):
    context = ssl.create_default_context(cafile=str(authority))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection((address, 443), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=domain) as secured,
    ):
        assert secured.selected_alpn_protocol() == "h2"


@pytest.mark.parametrize("path", ["/healthz", "/static/admin/css/base.css", "/static/nothing", "/nothing", "/.env"])
def test_headers(fetch, path):
    headers = fetch(path).headers
    assert int(re.fullmatch(r"max-age=(\d+)", headers["Strict-Transport-Security"])[1]) >= 31536000
    assert headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert headers["Server"] == "nginx"
    if path.startswith(("/static/", "/.")):
        assert headers.get_all("Content-Security-Policy") == ["default-src 'none'; frame-ancestors 'none'"]


def test_static_files_come_from_nginx(fetch):
    answer = fetch("/static/admin/css/base.css")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/css")
    # Only nginx gives one.
    assert answer.headers["ETag"]


def test_visitors_are_known_by_their_own_address(host):
    """What a visitor claims about herself is overwritten before it reaches the application."""
    served = host.check_output("nginx -T 2>/dev/null")
    for overwritten in (
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "proxy_set_header X-Forwarded-Proto https;",
        'proxy_set_header X-Forwarded-Host "";',
        'proxy_set_header X-Real-IP "";',
    ):
        assert served.count(overwritten) == 1
    # A location with a header of its own would lose all of these.
    assert not re.search(r"^\s*location [^}]*proxy_set_header", served, re.MULTILINE)


def dial(address, domain, trust, query="", origin=None, headers=None):
    return connect(
        f"wss://{domain}/ws/chat/{query}",
        sock=socket.create_connection((address, 443), timeout=10),
        ssl=trust,
        server_hostname=domain,
        origin=origin,
        additional_headers=headers,
        proxy=None,
    )


def test_websocket_upgrade(address, domain, trust, token):
    with dial(address, domain, trust, f"?token={token}", "https://frontend.test") as client:
        client.send(json.dumps({"type": "ping", "data": {}, "timestamp": "2024-01-15T10:00:00Z"}))
        answer = json.loads(client.recv(timeout=10))
        while answer["type"] != "pong":
            answer = json.loads(client.recv(timeout=10))


def test_websocket_of_a_foreign_origin_is_refused(address, domain, trust, token):
    with pytest.raises(InvalidStatus) as refusal:
        dial(address, domain, trust, f"?token={token}", "https://stranger.example")
    assert refusal.value.response.status_code == 403


SOCKET_OF_NOBODY = """
import os, socket
path = "/run/salon/daphne-1.sock"
socket.socket(socket.AF_UNIX).bind(path)
os.chmod(path, 0o666)
"""


def access_log(host):
    """The entries since nginx was installed."""
    return [json.loads(line) for line in host.check_output("cat /var/log/nginx/access.log").splitlines()]


def test_logs_hold_no_token(host, fetch, address, domain, trust, token, processes, wait_ready):
    """Neither when all is well nor while the application is away, which is when nginx writes whole request lines."""
    units = " ".join(f"daphne@{number}.{kind}" for number in processes for kind in ("socket", "service"))
    with dial(address, domain, trust, f"?token={token}"):
        pass
    host.run_expect([0], f"systemctl stop {units}")
    try:
        # nginx has a level of its own for each: nobody listens, nothing is there.
        for make in (f"python3 -c '{SOCKET_OF_NOBODY}'", "true"):
            host.run_expect([0], f"rm -f /run/salon/daphne-1.sock && {make}")
            with pytest.raises(InvalidStatus) as refusal:
                dial(address, domain, trust, f"?token={token}")
            assert refusal.value.response.status_code == 503
            answer = fetch(f"/chats/rooms/?token={token}", headers={"Referer": f"https://{domain}/?token={token}"})
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
            assert json.loads(answer.body)["code"] == "unavailable"
    finally:
        host.run_expect([0], f"rm -f /run/salon/daphne-1.sock && systemctl start {units}")
    wait_ready()
    entries = access_log(host)
    assert [each for each in entries if (each["path"], each["status"]) == ("/ws/chat/", 101)]
    # What there is to know of a failure: which process was tried, and that it could not be reached.
    [*_, failed] = [each for each in entries if (each["path"], each["status"]) == ("/chats/rooms/", 503)]
    assert failed["upstream"].startswith("unix:/run/salon/daphne-")
    assert set(failed["upstream_connect"].split(", ")) == {"-"}
    assert host.run(f"grep --recursive --files-with-matches --text -e {token} -e token= /var/log/nginx").stdout == ""
    journal = host.check_output("journalctl --no-pager --output cat")
    assert "Salon's process 1" in journal
    assert token not in journal


FLOOD = """
import collections, json, re, socket, ssl, sys
domain, burst = sys.argv[1], int(sys.argv[2])
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
request = f"GET /ws/chat/?token=FL00D HTTP/1.1\\r\\nHost: {domain}\\r\\n\\r\\n".encode()
statuses, last = collections.Counter(), b""
while sum(statuses.values()) < burst:
    with context.wrap_socket(socket.create_connection(("localhost", 443), 20), server_hostname=domain) as flood:
        flood.sendall(request * 200)
        flood.settimeout(20)
        answers, data = b"", b"-"
        while len(re.findall(rb"HTTP/1.1 [0-9]{3}", answers)) < 200 and data:
            data = flood.recv(65536)
            answers += data
    found = re.findall(rb"HTTP/1.1 ([0-9]{3})", answers)
    statuses.update(status.decode() for status in found)
    last = answers
print(json.dumps({"statuses": statuses, "last": last.decode().rpartition("HTTP/1.1 429")[2]}))
"""


def test_a_flood_of_handshakes_is_refused_and_the_chat_goes_on(host, address, domain, trust, token):
    """It comes from the host itself, so that its limit is its own."""
    with dial(address, domain, trust, f"?token={token}") as client:
        answered = []
        done = threading.Event()

        def converse():
            while not done.is_set():
                client.send(json.dumps({"type": "ping", "data": {}, "timestamp": "2024-01-15T10:00:00Z"}))
                while json.loads(client.recv(timeout=10))["type"] != "pong":
                    pass
                answered.append(time.monotonic())
                done.wait(0.05)

        conversation = threading.Thread(target=converse)
        conversation.start()
        try:
            told = json.loads(host.check_output("python3 -c %s %s %s", FLOOD, domain, "1800"))
            flooded = time.monotonic()
        finally:
            done.set()
            conversation.join()
        assert told["statuses"].get("429", 0) > 100
        assert "Retry-After: 5" in told["last"]
        assert '"code": "rate_limited"' in told["last"]
        assert len(answered) > 10
        assert max(after - before for before, after in itertools.pairwise([*answered, flooded])) < 5
        # Who has flooded is known by an address, and nobody else is refused.
        with dial(address, domain, trust, f"?token={token}"):
            pass
    assert host.run("grep --recursive --files-with-matches --text FL00D /var/log/nginx").stdout == ""
    refused = [each for each in access_log(host) if each["status"] == 429]
    assert {each["limit_requests"] for each in refused} == {"REJECTED"}


def test_half_open_handshakes_are_let_go_and_the_chat_goes_on(address, domain, trust, token):
    with dial(address, domain, trust, f"?token={token}") as client, ExitStack() as stack:
        half_open = [stack.enter_context(socket.create_connection((address, 443), timeout=60)) for _ in range(300)]
        client.send(json.dumps({"type": "ping", "data": {}, "timestamp": "2024-01-15T10:00:00Z"}))
        while json.loads(client.recv(timeout=10))["type"] != "pong":
            pass
        for each in half_open:
            with suppress(ConnectionResetError):
                assert each.recv(1) == b""


def test_a_claimed_address_counts_for_nothing(host, fetch):
    """Neither in the log nor at a limit."""
    fetch("/healthz", headers={"X-Forwarded-For": "203.0.113.77", "X-Real-IP": "203.0.113.77"})
    assert "203.0.113.77" not in host.check_output("cat /var/log/nginx/access.log")
