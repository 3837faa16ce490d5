"""Tokens of somebody else's making: keys in files and their rotation, and people whom Salon learns of by them."""

import asyncio
import json
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from browser_session import BrowserSession
from client import DEADLINE, connected
from services import PostgreSQL
from target import salon
from websockets.exceptions import ConnectionClosed

from signing import Signer, jwks, signed_with_text, unsigned

TOKEN_KEY, OLD_KEY = "k" * 50, "o" * 50
SALON, OLD = Signer.secret(TOKEN_KEY), Signer.secret(OLD_KEY)


async def let_in(target, token):
    """Whether a connection with this token is one of somebody."""
    async with connected(target, token) as client:
        with suppress(ConnectionClosed):
            await client.send("ping")
        return (await client.receive())["type"] == "pong"


async def refusal(target, token, code="invalid_token"):
    """The sentence that a connection with this token is closed with."""
    async with connected(target, token) as nobody:
        sentence = await nobody.error(code)
        assert await nobody.closed() == 4401
        return sentence


async def until(condition):
    """Wait for what is so within the few seconds in which a server looks at its key files again."""
    async with asyncio.timeout(DEADLINE):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.2)


def run(target, program):
    """What a program prints as JSON, which runs with the server's settings."""
    return json.loads(target.manage("shell", "--verbosity=0", "--command", program))


FIELDS = ["id", "username", "subject", "first_name", "last_name", "role", "avatar", "is_staff", "is_superuser"]
LOOK_UP = """
import json
from chat.models import User
found = User.objects.filter(**{lookup!r}).order_by("id")
print(json.dumps([dict(u, has_password=User(password=u.pop("password")).has_usable_password())
    for u in found.values("password", *{fields!r})]))
"""


def people(target, **lookup):
    """Those who are stored and fit."""
    return run(target, LOOK_UP.format(lookup=lookup, fields=FIELDS))


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Signers, and the files that the server knows them by."""
    directory = tmp_path_factory.mktemp("keys")
    keys = SimpleNamespace(
        rsa=Signer.rsa(),
        ed25519=Signer.ed25519(),
        first=Signer.rsa("2026-01"),
        second=Signer.ed25519("2026-02"),
        shared=Signer.secret("x" * 32, "shared"),
        files=[directory / name for name in ("rsa.pem", "ed25519.pem", "jwks.json")],
    )
    texts = [keys.rsa.public_pem, keys.ed25519.public_pem, jwks(keys.first, keys.second, keys.shared)]
    for path, text in zip(keys.files, texts, strict=True):
        path.write_text(text)
    return keys


@pytest.fixture(scope="module")
def directory(self, tmp_path_factory):
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(tmp_path_factory, keys):
    environment = {
        "SALON_TOKEN_KEY": TOKEN_KEY,
        "SALON_TOKEN_OLD_KEYS": f"{'z' * 32},{OLD_KEY}",
        "SALON_TOKEN_KEY_FILES": ",".join(map(str, keys.files)),
    }
    with salon(tmp_path_factory.mktemp("keyed"), environment) as target:
        yield target


@pytest.fixture
def log(server):
    """What the server has written."""
    [log] = Path(server.environment["SALON_DATA_DIR"]).glob("server-*.log")
    return log


class TestKeys:
    @pytest.mark.parametrize("name", ["rsa", "ed25519", "first", "second", "shared"])
    async def test_each_key_is_known(self, server, keys, name):
        assert await let_in(server, getattr(keys, name).token(user_id=7))

    async def test_the_old_secret_is_accepted_beside_the_new_one(self, server):
        assert await let_in(server, SALON.token(user_id=7))
        assert await let_in(server, OLD.token(user_id=7))

    async def test_kid_chooses(self, server, keys):
        for kid in ("2026-02", "2025-12"):
            assert "not signed with a key" in await refusal(server, keys.first.token({"kid": kid}, user_id=7))
        # A key from a PEM file has no name; and a token need not say one.
        assert await let_in(server, keys.rsa.token({"kid": "whatever"}, user_id=7))
        assert await let_in(server, Signer("RS256", keys.first.private).token(user_id=7))

    async def test_the_text_of_a_public_key_is_no_secret(self, server, keys):
        texts = [path.read_text() for path in keys.files] + [json.dumps(keys.first.jwk)]
        for text in (*texts, *(text.strip() for text in texts), ""):
            assert "not signed with a key" in await refusal(server, signed_with_text(text, user_id=7))

    async def test_the_algorithm_is_the_keys_and_not_the_tokens(self, server, keys):
        assert "not signed with a key" in await refusal(server, unsigned(user_id=7))
        for algorithm in ("RS512", "PS256", "HS256", "EdDSA", "none"):
            token = keys.rsa.token({"alg": algorithm}, user_id=7)
            assert "not signed with a key" in await refusal(server, token)

    async def test_rotation_without_a_restart(self, server, keys, log):
        path, new = keys.files[2], Signer.rsa("2026-03")
        old = keys.first.token(user_id=7)
        path.write_text(jwks(keys.first, new))
        await until(lambda: let_in(server, new.token(user_id=7)))
        assert await let_in(server, old)

        path.write_text("{ half of")

        async def told():
            # It looks when somebody comes; and the last good keys stay.
            assert await let_in(server, old)
            return "The keys that it held before stay in use." in log.read_text()

        await until(told)

        path.write_text(jwks(new))

        async def dropped():
            return not await let_in(server, old)

        await until(dropped)
        assert "not signed with a key" in await refusal(server, old)
        assert await let_in(server, new.token(user_id=7))


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A server that creates nobody and wants its tokens from one issuer, for itself, with two more claims."""
    environment = {
        "SALON_TOKEN_KEY": TOKEN_KEY,
        "SALON_TOKEN_ISSUER": "https://login.example.org",
        "SALON_TOKEN_AUDIENCE": "salon",
        "SALON_TOKEN_LEEWAY": "0",
        "SALON_TOKEN_REQUIRED_CLAIMS": "iat,exp",
        "SALON_TOKEN_CREATES_PEOPLE": "off",
    }
    with salon(tmp_path_factory.mktemp("strict"), environment) as target:
        target.manage("create_user", "ann", "--name", "Ann Onym")
        yield target


GOOD = {"user_id": 1, "iss": "https://login.example.org", "aud": "salon", "iat": 1}


class TestStrict:
    async def test_a_good_one(self, strict):
        assert await let_in(strict, SALON.token(**GOOD))
        assert await let_in(strict, SALON.token(**GOOD | {"aud": ["other", "salon"]}))
        assert await let_in(strict, strict.manage("create_token", "ann"))

    @pytest.mark.parametrize(
        ("change", "clue"),
        [
            ({"iss": "https://login.example.com"}, "`iss`"),
            ({"iss": ["https://login.example.org"]}, "`iss`"),
            ({"iss": None}, "`iss`"),
            ({"aud": "other"}, "`aud`"),
            ({"aud": []}, "`aud`"),
            ({"aud": ["other"]}, "`aud`"),
            ({"aud": {"salon": 1}}, "`aud`"),
            ({"iat": None}, "no `iat`"),
            ({"exp": None}, "no `exp`"),
        ],
    )
    async def test_what_does_not_fit(self, strict, change, clue):
        assert clue in await refusal(strict, SALON.token(**GOOD | change))

    async def test_leeway(self, strict):
        await refusal(strict, SALON.token(**GOOD | {"exp": int(time.time()) - 1}), "token_expired")
        await refusal(strict, SALON.token(**GOOD | {"nbf": int(time.time()) + 60}))

    async def test_a_token_creates_and_changes_nobody(self, strict):
        before = people(strict)
        assert "an operator creates her" in await refusal(strict, SALON.token(**GOOD | {"user_id": 99}))
        assert "an operator creates her" in await refusal(
            strict, SALON.token(**{k: v for k, v in GOOD.items() if k != "user_id"}, sub="auth0|5")
        )
        assert await let_in(strict, SALON.token(**GOOD, name="Another", role="teacher", avatar="/x.png"))
        # What is not used cannot be wrong.
        assert await let_in(strict, SALON.token(**GOOD, role="king"))
        assert people(strict) == before


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def backed(request, tmp_path_factory):
    """A server that signs with a known key, on either database."""
    environment = {"SALON_TOKEN_KEY": TOKEN_KEY}
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        with salon(directory, environment) as target:
            yield target
    else:
        with (
            PostgreSQL() as postgresql,
            salon(directory, environment | {"DATABASE_URL": postgresql.url}) as target,
        ):
            yield target


class TestPeople:
    async def test_somebody_new(self, backed):
        said = {"user_id": 4001, "username": "zoe", "name": "Zoe de Wit", "role": "teacher", "avatar": "/zoe.png"}
        assert await let_in(backed, SALON.token(**said, is_staff=True, is_superuser=True))
        assert people(backed, pk=4001) == [
            {
                "id": 4001,
                "username": "zoe",
                "subject": None,
                "first_name": "Zoe",
                "last_name": "de Wit",
                "role": "teacher",
                "avatar": "/zoe.png",
                "is_staff": False,
                "is_superuser": False,
                "has_password": False,
            }
        ]

    async def test_her_name_is_in_her_messages(self, backed):
        token = SALON.token(sub=4002, preferred_username="yan", name="Yan Li", role="student")
        assert await let_in(backed, token)
        room = int(backed.manage("create_room", "Room", "--member", "yan"))
        async with connected(backed, token) as yan:
            await yan.say(room, "hello")
            message = (await yan.expect("message"))["data"]
            info = {"id": 4002, "name": "Yan Li", "role": "student", "avatar": None}
            assert (message["sender"], message["sender_info"]) == (4002, info)

    @pytest.mark.parametrize("role", ["school_admin", "super_admin", "admin"])
    async def test_no_role_opens_the_admin(self, backed, role):
        assert await let_in(backed, SALON.token(user_id=4003, role=role, is_staff=True))
        [person] = people(backed, pk=4003)
        assert (person["role"], person["is_staff"], person["is_superuser"]) == (role, False, False)

    async def test_a_user_name_that_is_taken_or_none(self, backed):
        for user_id, name in ((4010, "walt"), (4011, "walt"), (4012, None), (4013, "two words"), (4014, "user-4015")):
            assert await let_in(backed, SALON.token(user_id=user_id, username=name))
        assert await let_in(backed, SALON.token(user_id=4015))
        names = [person["username"] for person in people(backed, id__gte=4010, id__lte=4015)]
        assert names[:5] == ["walt", "user-4011", "user-4012", "user-4013", "user-4015"]
        assert names[5].startswith("user-")
        assert names[5] != "user-4015"

    async def test_ids_given_by_the_database_come_after_those_of_tokens(self, backed):
        assert await let_in(backed, SALON.token(user_id=5000))
        assert await let_in(backed, SALON.token(user_id=4900))
        first = int(backed.manage("create_user", "vera"))
        assert first > 5000
        # The very next one too, and it moves nothing back.
        assert await let_in(backed, SALON.token(user_id=first + 1))
        assert int(backed.manage("create_user", "ugo")) > first + 1

    async def test_a_subject_that_is_no_id(self, backed):
        for name in ("Tess Ova", "Tess Nova"):
            assert await let_in(backed, SALON.token(sub="auth0|tess", name=name))
        [person] = people(backed, subject="auth0|tess")
        assert person["username"] == f"user-{person['id']}"
        assert person["last_name"] == "Nova"
        assert not person["has_password"]
        assert await let_in(backed, SALON.token(sub="AUTH0|tess", username="other-tess"))
        assert [person["username"] for person in people(backed, subject="AUTH0|tess")] == ["other-tess"]

    async def test_what_is_said_anew_is_kept_and_the_rest_stays(self, backed):
        said = {"user_id": 4020, "username": "sam", "name": "Sam One", "role": "parent", "avatar": "/1.png"}
        assert await let_in(backed, SALON.token(**said))
        assert await let_in(backed, SALON.token(user_id=4020, username="other", role="teacher"))
        [person] = people(backed, pk=4020)
        assert [person[name] for name in ("username", "first_name", "last_name", "role", "avatar")] == [
            "sam",
            "Sam",
            "One",
            "teacher",
            "/1.png",
        ]
        assert await let_in(backed, SALON.token(user_id=4020, name="Samira", avatar=None))
        [person] = people(backed, pk=4020)
        assert [person[name] for name in ("first_name", "last_name", "role", "avatar")] == [
            "Samira",
            "",
            "teacher",
            "",
        ]

    def test_what_is_known_already_is_not_written(self, backed):
        program = """
import json, sys
from django.db import connection
from chat import auth
def statements(token):
    found = []
    def note(execute, sql, *rest):
        found.append(sql.split()[0])
        return execute(sql, *rest)
    with connection.execute_wrapper(note):
        auth.identity_of_token(token)
    return found
print(json.dumps([statements(token) for token in %r]))
"""
        token = SALON.token(user_id=4030, name="Rose", role="parent", avatar="/r.png")
        first, second = run(backed, program % [token, token])
        assert "INSERT" in first
        # One statement that only reads.
        assert second == ["WITH"]

    @pytest.mark.parametrize(
        "claim",
        [
            {"role": "king"},
            {"role": True},
            {"name": True},
            {"name": "a\0"},
            {"avatar": "\ud800"},
            {"avatar": "x" * 501},
            {"username": "x" * 151},
        ],
    )
    async def test_a_claim_that_does_not_fit(self, backed, claim):
        [name] = claim
        assert f"`{name}`" in await refusal(backed, SALON.token(user_id=4040, **claim))
        assert people(backed, pk=4040) == []

    async def test_two_first_connections_at_once_create_one_person(self, backed):
        tokens = [SALON.token(user_id=4050, username="quin")] * 4 + [SALON.token(sub="auth0|quin", name="Q")] * 4
        assert all(await asyncio.gather(*(let_in(backed, token) for token in tokens)))
        assert [person["username"] for person in people(backed, pk=4050)] == ["quin"]
        assert len(people(backed, subject="auth0|quin")) == 1

    async def test_people_and_the_database_take_ids_at_once(self, backed):
        program = """
import json
from concurrent.futures import ThreadPoolExecutor
from django.db import connection
from chat import auth
from chat.models import User
def make(number):
    try:
        return User.objects.create(username=f"pam-{number}").pk
    finally:
        connection.close()
def let_in(token):
    try:
        return auth.identity_of_token(token).person.id
    finally:
        connection.close()
with ThreadPoolExecutor(4) as threads:
    jobs = [threads.submit(*job) for number, token in enumerate(%r) for job in ((make, number), (let_in, token))]
    print(json.dumps([job.result() for job in jobs]))
"""
        ids = run(backed, program % [SALON.token(user_id=number) for number in range(6000, 6040)])
        # Some of the tokens name who has just been given that id; nobody is refused one, and none is given twice.
        assert ids[1::2] == list(range(6000, 6040))
        assert len(set(ids[::2])) == 40

    def test_of_many_at_once_each_gets_her_own_answer(self, backed):
        program = """
import asyncio, json
from chat import auth
from chat.models import User
from chat.protocol import ChatError
User.objects.create(username="away", subject="auth0|away", is_active=False)
auth.revoke_token(%(revoked)r)
async def ask(token):
    try:
        return (await auth.identify(token)).person.id
    except ChatError as error:
        return error.code
async def ask_all():
    return await asyncio.gather(*(ask(token) for token in %(tokens)r))
# First they are new, then they are known.
print(json.dumps([asyncio.run(ask_all()), asyncio.run(ask_all())]))
"""
        revoked = SALON.token(user_id=7002, jti="gone")
        tokens = [
            SALON.token(user_id=7001, name="One"),
            OLD.token(user_id=7001),
            revoked,
            SALON.token(user_id=7002),
            SALON.token(user_id=7003, role="king"),
            SALON.token(sub="auth0|away"),
            SALON.token(user_id=7001, exp=1),
            SALON.token(user_id=7001, name="One"),
            SALON.token(sub="auth0|many"),
            "no token",
        ]
        first, second = run(backed, program % {"revoked": revoked, "tokens": tokens})
        [subject] = people(backed, subject="auth0|many")
        assert first == second
        assert second == [
            7001,
            "invalid_token",
            "revoked",
            7002,
            "invalid_token",
            "revoked",
            "token_expired",
            7001,
            subject["id"],
            "invalid_token",
        ]

    def test_who_a_session_is_of_and_until_when(self, backed):
        backed.manage("create_user", "olga", "--password-stdin", stdin="a long enough one\n")
        browser = BrowserSession(backed)
        browser.login("olga", "a long enough one")
        program = """
import json
from chat import auth
identity = auth.identity_of_cookie(%r)
print(json.dumps([identity.person.name, identity.expires_at.timestamp(), identity.issued_at, identity.digest]))
"""
        name, ends, issued_at, digest = run(backed, program % browser.cookie_header)
        assert (name, issued_at, digest) == ("olga", None, f"session:{browser.cookies['sessionid']}")
        week = 7 * 86400
        assert week - 120 < ends - time.time() <= week
        # It does not begin anew whenever somebody looks.
        assert run(backed, program % browser.cookie_header)[1] == ends
