"""Tokens that count no more, as an operator takes them back."""

import json

import pytest
from client import connected


@pytest.fixture
def dora(school):
    return school.person("Dora Ito", "teacher")


async def assert_refused(target, token, code="revoked"):
    """On either way in, at each process."""
    for process in (0, 1):
        async with connected(target, token, process=process) as nobody:
            await nobody.error(code)
            assert await nobody.closed() == 4401
    async with connected(target) as nobody:
        await nobody.send("auth", {"token": token})
        await nobody.error(code)
        assert await nobody.closed() == 4401


async def assert_counts(target, token, person):
    async with connected(target, token) as client:
        await client.send("auth", {"user_id": person.id})
        await client.settle()


async def test_one_token(target, dora):
    other = target.manage("create_token", dora.username)
    assert target.manage("revoke", "--token-stdin", stdin=f"{dora.token}\n") == "The token is revoked."
    await assert_refused(target, dora.token)
    # However its signature is written.
    await assert_refused(target, dora.token + "=")
    await assert_counts(target, other, dora)
    # Once more is no mistake.
    target.manage("revoke", "--token-stdin", stdin=dora.token)


async def test_all_tokens_of_a_person(target, dora, alice):
    target.manage("revoke", dora.username)
    await assert_refused(target, dora.token)
    await assert_counts(target, alice.token, alice)
    await assert_counts(target, target.manage("create_token", dora.username), dora)


REVOKE_AND_CREATE = """
import json
from datetime import timedelta
from chat import auth
from chat.models import User
user = User.objects.get(pk=%d)
hour = timedelta(hours=1)
before = auth.create_token(user, hour)
auth.revoke_all(user)
print(json.dumps([before, auth.create_token(user, hour)]))
"""


async def test_a_token_of_the_same_second(target, dora):
    before, after = json.loads(target.manage("shell", "--verbosity=0", "--command", REVOKE_AND_CREATE % dora.id))
    await assert_refused(target, before)
    await assert_counts(target, after, dora)


DEACTIVATE = """
from chat.models import User
user = User.objects.get(pk=%d)
user.is_active = False
user.save()
"""


async def test_a_deactivated_person(target, dora):
    target.manage("shell", "--verbosity=0", "--command", DEACTIVATE % dora.id)
    await assert_refused(target, dora.token)


async def test_another_persons_revoked_token_does_not_renew(target, dora, alice):
    target.manage("revoke", dora.username)
    async with connected(target, alice.token) as a:
        await a.send("auth", {"token": dora.token})
        await a.error("revoked")
        await a.settle()


LOOK = """
import json
from datetime import timedelta
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from chat import auth
from chat.models import User

def person(name, **fields):
    return User.objects.create(username=f"{name}-{timezone.now().timestamp()}", **fields)

def session(user, signature=None):
    store = SessionStore()
    store[SESSION_KEY], store[HASH_SESSION_KEY] = str(user.pk), signature or user.get_session_auth_hash()
    store.save()
    return auth.SESSION + store.session_key

now = timezone.now()
earlier, later = now - timedelta(minutes=1), now + timedelta(minutes=1)
good, away, old = person("good"), person("away", is_active=False), person("old", tokens_valid_after=now)
token = auth.create_token(good, timedelta(hours=1))
auth.revoke_token(token)
revoked = auth.claims.digest(token)
connected = {
    "good": (good.pk, earlier, "d1"),
    "no iat": (good.pk, None, "d2"),
    "session": (good.pk, None, session(good)),
    "somebody else's session": (good.pk, None, session(old)),
    "session of another password": (good.pk, None, session(good, "x" * 64)),
    "session that is gone": (good.pk, None, auth.SESSION + "g" * 32),
    "revoked": (good.pk, earlier, revoked),
    "away": (away.pk, later, "d3"),
    "away by session": (away.pk, None, session(away)),
    "nobody": (2**63 - 1, later, "d4"),
    "too old": (old.pk, earlier, "d5"),
    "too old without iat": (old.pk, None, "d6"),
    "of the moment": (old.pk, now, "d7"),
    "newer": (old.pk, later, "d8"),
    "old but by session": (old.pk, None, session(old)),
}
with CaptureQueriesContext(connection) as queries:
    refused = auth.refused(connected.values())
print(json.dumps([sorted(name for name, value in connected.items() if value in refused), len(queries)]))
assert auth.refused(set()) == set()
"""


def test_who_of_the_connected_is_refused_now(target):
    names, queries = json.loads(target.manage("shell", "--verbosity=0", "--command", LOOK))
    ended = ["session of another password", "session that is gone", "somebody else's session"]
    assert names == sorted(["away", "away by session", "nobody", "revoked", "too old", "too old without iat", *ended])
    assert queries <= 3


CLEAN_UP = """
import json
from datetime import timedelta
from django.utils import timezone
from chat import auth
from chat.models import RevokedToken, User
now = timezone.now()
for digest, age in (("long over", 301), ("just over", 200)):
    RevokedToken.objects.update_or_create(digest=digest, defaults={"expires_at": now - timedelta(seconds=age)})
auth.revoke_token(auth.create_token(User.objects.first(), timedelta(hours=1)))
endless = "eyJhbGciOiJIUzI1NiJ9.e30."
auth.revoke_token(endless)
kept = RevokedToken.objects.get(pk=auth.claims.digest(endless)).expires_at - now
known = [RevokedToken.objects.filter(pk=digest).exists() for digest in ("long over", "just over")]
print(json.dumps([*known, kept.days]))
"""


def test_what_has_expired_is_forgotten(target, alice):
    assert json.loads(target.manage("shell", "--verbosity=0", "--command", CLEAN_UP)) == [False, True, 3650]


@pytest.mark.parametrize(
    ("arguments", "stdin", "clue"),
    [
        (("revoke",), None, "required"),
        (("revoke", "nobody"), None, "There is no user 'nobody'"),
        (("revoke", "nobody", "--token-stdin"), "", "not allowed with"),
        (("revoke", "--token-stdin"), "nonsense\n", "This is not a token"),
        (("revoke", "--token-stdin"), "", "This is not a token"),
    ],
)
def test_a_mistake_is_told(target, arguments, stdin, clue):
    done = target.try_manage(*arguments, stdin=stdin)
    assert done.returncode != 0
    assert done.stdout == ""
    assert clue in done.stderr
    assert "Traceback" not in done.stderr


DELETE = """
from chat.models import User
User.objects.get(pk=%d).delete()
"""


@pytest.mark.parametrize("how", ["token", "person", "deactivated", "deleted"])
async def test_open_connections_are_closed_everywhere(target, school, alice, how):
    person = school.person("Erin Ends")
    async with (
        connected(target, person.token) as first,
        connected(target, person.token, process=1) as second,
        connected(target, alice.token, process=1) as a,
    ):
        for client in (first, second, a):
            await client.settle()
        if how == "token":
            target.manage("revoke", "--token-stdin", stdin=person.token)
        elif how == "person":
            target.manage("revoke", person.username)
        elif how == "deactivated":
            target.manage("shell", "--command", DEACTIVATE % person.id)
        else:
            target.manage(
                "shell", "--command", f"from chat.models import User; User.objects.get(pk={person.id}).delete()"
            )
        for client in (first, second):
            await client.error("revoked")
            assert await client.closed() == 4401
        await a.settle()


async def test_one_token_of_several(target, school):
    person = school.person("Erin Ends")
    other = target.manage("create_token", person.username)
    async with connected(target, person.token) as revoked, connected(target, other) as stays:
        for client in (revoked, stays):
            await client.settle()
        target.manage("revoke", "--token-stdin", stdin=person.token)
        await revoked.error("revoked")
        assert await revoked.closed() == 4401
        await stays.settle()


SHORT_LIVED = """
from datetime import timedelta
from chat import auth
from chat.models import User
print(auth.create_token(User.objects.get(pk=%d), timedelta(seconds=%d)))
"""


def token_for(target, person, seconds):
    """A token that is taken for so many seconds; the leeway for clocks is among them."""
    return target.manage("shell", "--command", SHORT_LIVED % (person.id, seconds - 10))


async def test_a_connection_does_not_outlive_its_token(target, dora):
    async with connected(target, token_for(target, dora, 4)) as client:
        assert "fresh" in await client.error("token_expiring")
        await client.settle()
        await client.error("token_expired")
        assert await client.closed() == 4401


async def test_a_fresh_token_keeps_the_connection(target, dora, alice):
    async with connected(target, token_for(target, dora, 5)) as client:
        await client.error("token_expiring")
        await client.send("auth", {"token": alice.token})
        await client.error("identity_mismatch")
        await client.send("auth", {"token": token_for(target, dora, 9)})
        # The old one would have ended it before; the second one ends it.
        await client.error("token_expiring")
        await client.send("auth", {"token": dora.token})
        await client.settle()
        await client.send("ping")
        assert (await client.receive())["type"] == "pong"
