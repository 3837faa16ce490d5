"""Logging in as on a host with TLS: what cookies a browser gets, whom they let in, and who guesses for how long.

The tests stand for nginx, and say what it says of the client.
"""

import http.cookies
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
            assert (cookie["path"], cookie["domain"]) == ("/", "")
        assert (session["samesite"], csrf["samesite"]) == ("Lax", "Strict")
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
