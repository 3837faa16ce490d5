"""Django's secret key is replaced, and who has logged in before stays so."""

import pytest
from browser_session import BrowserSession
from client import connected
from target import salon

PASSWORD = "a good long passphrase"
FIRST, SECOND = "f" * 50, "s" * 50


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def cookies(directory):
    """What a browser has that logged in while the first key was the only one."""
    with salon(directory, {"SALON_SECRET_KEY": FIRST}) as target:
        target.manage("create_user", "ida", "--role", "student", "--password-stdin", stdin=f"{PASSWORD}\n")
        browser = BrowserSession(target)
        browser.login("ida", PASSWORD)
        return browser.cookies


async def who(target, browser):
    """Whom the WebSocket takes the browser for, or None."""
    headers = {"Cookie": browser.cookie_header, "Origin": target.urls[0]}
    async with connected(target, additional_headers=headers) as client:
        await client.send("ping")
        return (await client.receive())["type"] == "pong"


async def test_a_session_outlives_its_key_while_that_is_an_old_one(directory, cookies):
    with salon(directory, {"SALON_SECRET_KEY": SECOND, "SALON_SECRET_OLD_KEYS": FIRST}) as target:
        browser = BrowserSession(target)
        browser.cookies = dict(cookies)
        # A page comes back by its WebSocket first, again and again: nothing there gives it another cookie.
        for _ in range(2):
            assert await who(target, browser)
        # Nor does a request: another one may be on its way with the same cookie.
        for _ in range(2):
            browser.cookies = dict(cookies)
            assert browser.get("/")[0] == 200
        assert browser.cookies["sessionid"] == cookies["sessionid"]
        assert await who(target, browser)
    with salon(directory, {"SALON_SECRET_KEY": SECOND}) as target:
        browser = BrowserSession(target)
        browser.cookies = dict(cookies)
        assert browser.get("/")[0] == 200
        assert await who(target, browser)


async def test_it_does_not_outlive_a_key_that_is_forgotten(directory, cookies):
    with salon(directory, {"SALON_SECRET_KEY": FIRST}) as target:
        browser = BrowserSession(target)
        browser.login("ida", PASSWORD)
    with salon(directory, {"SALON_SECRET_KEY": SECOND}) as target:
        later = BrowserSession(target)
        later.cookies = browser.cookies
        status, headers, _ = later.get("/")
        assert (status, headers["Location"]) == (302, "/login/?next=/")
