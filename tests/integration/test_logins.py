"""Logging in as on a host with TLS: what cookies a browser gets, whom they let in, and who guesses for how long.

The tests stand for nginx, and say what it says of the client.
"""

import http.cookies
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser_session import BrowserSession
from client import Client
from target import SERVER, salon
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

PASSWORD = "a good long passphrase"
ORIGIN = "https://chat.example.org"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory, backends):
    """Two processes of a host, without its nginx."""
    environment = {
        **backends,
        "SALON_PUBLIC_URL": ORIGIN,
        "SALON_SECRET_KEY": "s" * 50,
        "SALON_TOKEN_KEY": "t" * 50,
        "SALON_ADMIN_NETWORKS": "192.0.2.0/24, 2001:db8:1::/48",
    }
    directory = tmp_path_factory.mktemp("deployed")
    with salon(directory, environment, processes=2, command=[*SERVER, "--proxy-headers"]) as target:
        yield target


@pytest.fixture
def person(deployed, request):
    """Somebody of this test's own."""
    username = request.node.name.partition("[")[0].removeprefix("test_")
    deployed.manage("create_user", username, "--password-stdin", stdin=f"{PASSWORD}\n")
    return username


@pytest.fixture
def operator(deployed, request):
    """Somebody of this test's own who may use the admin."""
    username = request.node.name.partition("[")[0].removeprefix("test_")
    deployed.manage("create_user", username, "--superuser", "--password-stdin", stdin=f"{PASSWORD}\n")
    return username


def at(deployed, address, process=0):
    """A browser at this address."""
    proxied = {"Host": "chat.example.org", "Origin": ORIGIN, "X-Forwarded-Proto": "https", "X-Forwarded-For": address}
    return BrowserSession(deployed, process, **proxied)


def set_cookies(answer):
    found = http.cookies.SimpleCookie()
    for header in answer.get_all("Set-Cookie", []):
        found.load(header)
    return found


def websocket(deployed, browser, origin):
    port = urlsplit(deployed.urls[0]).port
    headers = {"Cookie": browser.cookie_header}
    address = f"ws://{urlsplit(ORIGIN).netloc}/ws/chat/"
    return connect(address, host="localhost", port=port, proxy=None, additional_headers=headers, origin=origin)


async def is_let_in(deployed, browser):
    async with websocket(deployed, browser, ORIGIN) as socket:
        client = Client(socket, deployed.document)
        await client.send("ping")
        return (await client.receive())["type"] == "pong"


class TestCookies:
    def test_what_they_are_like(self, deployed, person):
        browser = at(deployed, "192.0.2.1")
        form = set_cookies(browser.get("/login/")[1])
        login = set_cookies(browser.submit("/login/", {"username": person, "password": PASSWORD})[1])
        csrf, session = form["__Host-csrftoken"], login["__Host-sessionid"]
        for cookie in (csrf, session):
            assert (cookie["secure"], cookie["httponly"]) == (True, True)
            assert (cookie["path"], cookie["domain"], cookie["samesite"]) == ("/", "", "Lax")
        assert session["max-age"] == str(7 * 86400)

    def test_an_operator_logs_in_once_a_day(self, deployed, operator):
        browser = at(deployed, "192.0.2.1")
        _, answer, _ = browser.submit("/admin/login/", {"username": operator, "password": PASSWORD})
        assert set_cookies(answer)["__Host-sessionid"]["max-age"] == str(12 * 3600)
        assert browser.get("/admin/")[0] == 200

    def test_a_session_that_somebody_has_prepared_is_not_taken_over(self, deployed, person):
        prepared = at(deployed, "192.0.2.1")
        prepared.login(person, PASSWORD)
        before = prepared.cookies["__Host-sessionid"]
        browser = at(deployed, "192.0.2.1")
        browser.get("/login/")
        browser.cookies["__Host-sessionid"] = "a" * 32
        browser.login(person, PASSWORD)
        assert browser.cookies["__Host-sessionid"] not in ("a" * 32, before)

    def test_a_form_without_its_token_is_refused(self, deployed, person):
        browser = at(deployed, "192.0.2.1")
        wrong = {"csrfmiddlewaretoken": "x" * 64, "username": person, "password": PASSWORD}
        assert browser.submit("/login/", wrong)[0] == 403

    @pytest.mark.parametrize("origin", ["https://evil.example", "http://chat.example.org", "null"])
    async def test_a_stolen_cookie_opens_no_websocket_elsewhere(self, deployed, origin):
        username = f"robbed-{len(origin)}"
        deployed.manage("create_user", username, "--password-stdin", stdin=f"{PASSWORD}\n")
        browser = at(deployed, "192.0.2.1")
        browser.login(username, PASSWORD)
        with pytest.raises(InvalidStatus) as refusal:
            async with websocket(deployed, browser, origin):
                pass
        assert refusal.value.response.status_code == 403
        assert await is_let_in(deployed, browser)

    async def test_a_new_password_ends_the_sessions(self, deployed, person):
        browser = at(deployed, "192.0.2.1")
        browser.login(person, PASSWORD)
        assert await is_let_in(deployed, browser)
        program = f"""
from chat.models import User
user = User.objects.get(username={person!r})
user.set_password("another long passphrase")
user.save()
"""
        deployed.manage("shell", "--verbosity=0", "--command", program)
        assert browser.get("/")[0] == 302
        assert not await is_let_in(deployed, browser)


class TestAdminNetworks:
    @pytest.mark.parametrize("address", ["192.0.2.77", "2001:db8:1::7", "::ffff:192.0.2.7"])
    def test_inside_it_is_there(self, deployed, address):
        assert at(deployed, address).get("/admin/login/")[0] == 200

    @pytest.mark.parametrize("address", ["192.0.3.1", "2001:db8:2::7", "unknown"])
    @pytest.mark.parametrize("path", ["/admin", "/admin/", "/admin/login/", "/admin/chat/user/"])
    def test_outside_it_is_a_page_that_does_not_exist(self, deployed, address, path):
        browser = at(deployed, address)
        status, _, page = browser.get(path)
        assert (status, page) == (404, browser.get("/nothing/")[2])

    def test_an_operators_session_opens_it_no_more_outside(self, deployed, operator):
        browser = at(deployed, "192.0.2.1")
        browser.submit("/admin/login/", {"username": operator, "password": PASSWORD})
        browser.always["X-Forwarded-For"] = "198.51.100.1"
        assert browser.get("/admin/")[0] == 404
        assert browser.get("/")[0] == 200


class TestHeaders:
    @pytest.mark.parametrize(
        "path", ["/login/", "/admin/login/", "/docs/", "/nothing", "/healthz", "/docs/openapi.json"]
    )
    def test_every_answer_says_what_it_may_not_do(self, deployed, path):
        _, headers, page = at(deployed, "192.0.2.1").get(path)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Permissions-Policy"]
        assert "no-store" in headers["Cache-Control"]
        assert "<style" not in page
        assert not re.search(r"<script(?![^>]* src=)(?![^>]*json)", page)


def attempt(deployed, username, password, address, process=0, path="/login/", **headers):
    browser = at(deployed, address, process % 2)
    browser.always |= headers
    return browser.submit(path, {"username": username, "password": password})


def attempts(deployed, count, username="'nobody-%d' % n", address="'203.0.113.1'"):
    """Have so many attempts counted, without a password to look at for each."""
    program = f"from chat import logins\nfor n in range({count}): logins.take({username}, {address})"
    deployed.manage("shell", "--verbosity=0", "--command", program)


def log(deployed):
    return "".join(path.read_text() for path in Path(deployed.environment["SALON_DATA_DIR"]).glob("server-*.log"))


class TestGuesses:
    @pytest.mark.parametrize(("path", "octet"), [("/login/", 1), ("/admin/login/", 2)])
    def test_after_some_wrong_passwords_even_the_right_one_has_to_wait(self, deployed, path, octet):
        username, address = f"guessed-{octet}", f"192.0.2.{100 + octet}"
        deployed.manage("create_user", username, "--superuser", "--password-stdin", stdin=f"{PASSWORD}\n")
        for made in range(10):
            status, _, _ = attempt(deployed, username, "wrong", address, made, path)
            if status == 429:
                break
        assert made >= 6
        status, headers, page = attempt(deployed, username, PASSWORD, address, 1, path)
        assert (status, 0 < int(headers["Retry-After"]) <= 900) == (429, True)
        assert "Too many attempts to sign in. Try again in " in page
        french = {"Accept-Language": "fr"}
        assert "Trop de tentatives de connexion." in attempt(deployed, username, "x", address, 0, path, **french)[2]
        # Who is elsewhere does not suffer from it.
        assert attempt(deployed, username, PASSWORD, "192.0.2.90", 0, path)[0] == 302

    def test_many_at_once_are_no_way_around(self, deployed, person):
        def guess(process):
            return attempt(deployed, person, "wrong", "192.0.2.110", process)[0]

        with ThreadPoolExecutor(16) as pool:
            statuses = list(pool.map(guess, range(16)))
        assert set(statuses) == {200, 429}
        assert statuses.count(200) <= 7

    def test_an_account_that_many_addresses_guess_at_stays_its_owners(self, deployed, person):
        home = "198.51.100.200"
        assert attempt(deployed, person, PASSWORD, home)[0] == 302
        attempts(deployed, 30, repr(person), "'198.51.100.%d' % n")
        assert attempt(deployed, person, PASSWORD, "198.51.100.201", 1)[0] == 429
        assert attempt(deployed, person, PASSWORD, home, 1)[0] == 302

    def test_an_address_that_guesses_at_everybody_is_stopped_and_who_belongs_there_is_not(self, deployed, person):
        address = "203.0.113.1"
        assert attempt(deployed, person, PASSWORD, address)[0] == 302
        # A school's first day is no reason.
        attempts(deployed, 280)
        deployed.manage("create_user", "newcomer", "--password-stdin", stdin=f"{PASSWORD}\n")
        assert attempt(deployed, "newcomer", PASSWORD, address)[0] == 302
        attempts(deployed, 60, username="'others-%d' % n")
        assert attempt(deployed, "somebody", PASSWORD, address, 1)[0] == 429
        assert attempt(deployed, person, PASSWORD, address, 1)[0] == 302
        assert attempt(deployed, "newcomer", PASSWORD, address, 1)[0] == 302

    def test_a_guesser_of_patience_gets_few_tries_and_never_waits_longer(self, deployed):
        program = """
from datetime import timedelta
from unittest import mock
from django.utils import timezone
from chat import logins
now = timezone.now()
ends, waits, tries = now + timedelta(days=1), [], 0
with mock.patch("chat.logins.timezone.now", lambda: now):
    while now < ends:
        if wait := logins.take("patient", "203.0.113.9"):
            waits.append(wait)
            now += timedelta(seconds=wait)
        else:
            tries += 1
print(tries, max(waits))
"""
        tries, longest = deployed.manage("shell", "--verbosity=0", "--command", program).split()
        assert 5 + 90 <= int(tries) <= 5 + 110
        assert float(longest) == 900

    def test_the_neighbours_of_an_address_count_as_one(self, deployed):
        for made in range(10):
            status, _, _ = attempt(deployed, "neighbour", "wrong", f"2001:db8:1:1::{made + 1:x}", made)
            if status == 429:
                break
        assert made >= 6
        assert attempt(deployed, "neighbour", "wrong", "2001:db8:1:1::ffff")[0] == 429
        assert attempt(deployed, "neighbour", "wrong", "2001:db8:1:2::1")[0] == 200


class TestLog:
    def test_logins_are_told_and_what_was_typed_is_not(self, deployed, person):
        attempt(deployed, person, "a mistyped secret", "192.0.2.60")
        attempt(deployed, "my password in the wrong field", "x", "192.0.2.60")
        browser = at(deployed, "192.0.2.61")
        browser.login(person, PASSWORD)
        browser.submit("/", {}, action="/logout/")
        told = log(deployed)
        assert f"A login of '{person}' from 192.0.2.60 failed" in told
        assert "A login of an unknown user name from 192.0.2.60 failed" in told
        assert re.search(rf"'{person}' \(\d+\) has logged in from 192.0.2.61", told)
        assert re.search(rf"'{person}' \(\d+\) has logged out from 192.0.2.61", told)
        for secret in ("mistyped secret", "wrong field", PASSWORD, browser.cookies["__Host-csrftoken"]):
            assert secret not in told

    def test_what_is_done_in_the_admin_is_told(self, deployed, operator):
        browser = at(deployed, "192.0.2.70")
        browser.submit("/admin/login/", {"username": operator, "password": PASSWORD})
        new = {"username": "made-by-her", "password1": PASSWORD, "password2": PASSWORD}
        status, answer, _ = browser.submit("/admin/chat/user/add/", new)
        assert status == 302
        made = answer["Location"].split("/")[4]
        another = f"{PASSWORD} anew"
        passwords = {"password1": another, "password2": another}
        assert browser.submit(f"/admin/chat/user/{made}/password/", passwords)[0] == 302
        action = {"action": "delete_selected", "_selected_action": made, "post": "yes"}
        assert browser.submit("/admin/chat/user/", action)[0] == 302
        told = log(deployed)
        line = rf"\"message\":\"'{operator}' \(\d+\) at 192.0.2.70 has %s chat.User {made}%s\""
        assert re.search(line % ("added", ""), told)
        assert re.search(line % ("changed", "; password"), told)
        assert re.search(line % ("deleted", ""), told)
        assert PASSWORD not in told
