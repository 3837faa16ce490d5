"""The page at `/`, without its script; and the session cookie as a way into the WebSocket."""

import uuid

import pytest
from browser_session import BrowserSession
from client import connected

PASSWORD = "a good long passphrase"


@pytest.fixture(scope="module")
def pupil(target, school):
    username = f"pupil-{uuid.uuid4().hex[:8]}"
    arguments = ("--role", "student", "--name", "Ida <b>Noor</b>", "--password-stdin")
    user_id = int(target.manage("create_user", username, *arguments, stdin=f"{PASSWORD}\n"))
    room = int(target.manage("create_room", "Maths & <i>more</i>", "--member", username))
    return username, user_id, room


def test_a_visitor_is_sent_to_sign_in(target):
    status, headers, _ = target.request("GET", "/")
    assert (status, headers["Location"]) == (302, "/login/?next=/")


def test_a_wrong_password_is_told(target, pupil):
    status, _, page = BrowserSession(target).submit("/login/", {"username": pupil[0], "password": "wrong"})
    assert status == 200
    assert "The user name or the password is not right." in page


def test_my_rooms_are_there_and_nothing_is_markup(target, pupil):
    session = BrowserSession(target)
    session.login(pupil[0], PASSWORD)
    status, _, page = session.get("/")
    assert status == 200
    assert r"Maths \u0026 \u003Ci\u003Emore\u003C/i\u003E" in page
    assert "Ida &lt;b&gt;Noor&lt;/b&gt;" in page
    assert "<i>more" not in page
    assert "<b>Noor</b>" not in page


def test_it_speaks_french(target):
    _, _, page = BrowserSession(target).get("/login/", **{"Accept-Language": "fr-FR,fr;q=0.9"})
    assert '<html lang="fr"' in page
    assert "Se connecter" in page


async def test_the_session_cookie_opens_the_websocket_from_our_own_page_only(target, pupil):
    username, user_id, room = pupil
    session = BrowserSession(target)
    session.login(username, PASSWORD)
    cookie = {"Cookie": session.cookie_header}
    async with connected(target, additional_headers=cookie, origin=target.urls[0]) as me:
        await me.say(room, "from the page")
        assert (await me.expect("message"))["data"]["sender"] == user_id
    _, _, page = session.get("/")
    assert "from the page" in page


@pytest.mark.parametrize("cookie", ['prefs={"a":1}; %s', "%s; other=%%", "=; %s", "x=\xff; %s"])
async def test_a_cookie_of_another_program_hides_nothing(target, pupil, cookie):
    username, user_id, room = pupil
    session = BrowserSession(target)
    session.login(username, PASSWORD)
    async with connected(target, additional_headers={"Cookie": cookie % session.cookie_header}) as me:
        await me.say(room, "still me")
        assert (await me.expect("message"))["data"]["sender"] == user_id


@pytest.mark.parametrize("value", ['"aaaaaaaaaa\\000b"', "x", "\xff" * 40, "a" * 5000, "' OR 1=1 --"])
async def test_a_session_cookie_that_makes_no_sense_is_nobody(target, value):
    async with connected(target, additional_headers={"Cookie": f"sessionid={value}"}) as nobody:
        await nobody.send("ping")
        await nobody.error("not_authenticated")


async def test_a_session_that_was_signed_out_opens_nothing(target, pupil):
    session = BrowserSession(target)
    session.login(pupil[0], PASSWORD)
    cookie = {"Cookie": session.cookie_header}
    _, _, page = session.get("/")
    status, _, _ = session.submit("/", {}, action="/logout/")
    assert status == 302
    async with connected(target, additional_headers=cookie) as nobody:
        await nobody.send("ping")
        await nobody.error("not_authenticated")


async def all_ended(*clients):
    for client in clients:
        await client.error("revoked")
        assert await client.closed() == 4401


async def test_a_log_out_ends_what_its_session_has_open_everywhere(target, pupil):
    session, another = BrowserSession(target), BrowserSession(target)
    for each in (session, another):
        each.login(pupil[0], PASSWORD)
    own, others = ({"Cookie": each.cookie_header} for each in (session, another))
    async with (
        connected(target, additional_headers=own) as here,
        connected(target, additional_headers=own, process=1) as there,
        connected(target, additional_headers=others) as elsewhere,
    ):
        for client in (here, there, elsewhere):
            await client.settle()
        session.submit("/", {}, action="/logout/")
        await all_ended(here, there)
        await elsewhere.settle()


NEW_PASSWORD = """
from chat.models import User
user = User.objects.get(username={!r})
user.set_password("another long passphrase")
user.save()
"""


async def test_a_new_password_ends_what_sessions_have_open_and_no_token(target, pupil):
    username = f"{pupil[0]}-new"
    target.manage("create_user", username, "--role", "student", "--password-stdin", stdin=f"{PASSWORD}\n")
    session = BrowserSession(target)
    session.login(username, PASSWORD)
    cookie = {"Cookie": session.cookie_header}
    async with (
        connected(target, additional_headers=cookie) as here,
        connected(target, additional_headers=cookie, process=1) as there,
        connected(target, target.manage("create_token", username)) as by_token,
    ):
        for client in (here, there, by_token):
            await client.settle()
        target.manage("shell", "--verbosity=0", "--command", NEW_PASSWORD.format(username))
        await all_ended(here, there)
        await by_token.settle()
