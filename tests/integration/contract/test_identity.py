"""Who a connection belongs to: a fact of the connection, never a claim of an event."""

import base64
import json

import pytest
from client import connected
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus


async def authenticated_as(client, person, room):
    """Whether a message of this client is the person's."""
    await client.say(room, "who am I?")
    return (await client.expect("message"))["data"]["sender"] == person.id


async def test_token_in_the_query_string(target, alice, room):
    async with connected(target, alice.token) as a:
        assert await authenticated_as(a, alice, room)


async def test_token_in_the_authorization_header(target, alice, room):
    async with connected(target, additional_headers={"Authorization": f"Bearer {alice.token}"}) as a:
        assert await authenticated_as(a, alice, room)


async def test_token_in_the_auth_event(target, alice, room):
    async with connected(target) as a:
        await a.send("auth", {"user_id": alice.id, "token": alice.token})
        assert await authenticated_as(a, alice, room)


async def test_a_connection_without_any_identity_sees_nothing_and_is_closed(target, alice, bob, room):
    async with connected(target) as nobody, connected(target, alice.token) as a:
        await a.join(room)
        await nobody.send("join_room", {"room_id": room})
        await nobody.error("not_authenticated")
        await nobody.send("ping")
        await nobody.error("not_authenticated")
        await a.say(room, "not for everybody")
        await a.expect("message")
        await nobody.error("not_authenticated")
        assert await nobody.closed() == 4401


async def test_an_auth_event_without_a_token_does_not_authenticate(target, alice):
    async with connected(target) as nobody:
        await nobody.send("auth", {"user_id": alice.id})
        await nobody.error("not_authenticated")
        await nobody.error("not_authenticated")
        assert await nobody.closed() == 4401


def forged(token):
    """The same token with another person's id and the old signature."""
    header, claims, signature = token.split(".")
    content = json.loads(base64.urlsafe_b64decode(claims + "=="))
    content["user_id"] += 1
    changed = base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
    return f"{header}.{changed}.{signature}"


def unsigned(token):
    """The same claims, with the algorithm `none`."""
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    return f"{header}.{token.split('.')[1]}."


@pytest.mark.parametrize("spoil", [lambda token: "nonsense", forged, unsigned, lambda token: "%00%ff"])
async def test_a_wrong_token_is_told_and_closed(target, alice, spoil):
    async with connected(target, spoil(alice.token)) as nobody:
        await nobody.error("invalid_token")
        assert await nobody.closed() == 4401
    async with connected(target) as nobody:
        await nobody.send("auth", {"user_id": alice.id, "token": spoil(alice.token)})
        await nobody.error("invalid_token")
        assert await nobody.closed() == 4401


PRINT_EXPIRED = """
from datetime import timedelta
from chat import auth
from chat.models import User
print(auth.create_token(User.objects.get(pk=%d), timedelta(hours=-1)))
"""


async def test_an_expired_token_is_told_and_closed(target, alice):
    token = target.manage("shell", "--verbosity=0", "--command", PRINT_EXPIRED % alice.id)
    async with connected(target, token) as nobody:
        await nobody.error("token_expired")
        assert await nobody.closed() == 4401


async def test_user_id_in_an_event_never_changes_who_i_am(target, alice, bob, room):
    async with connected(target, bob.token) as b, connected(target, alice.token, process=1) as a:
        await a.join(room)
        await b.send("join_room", {"room_id": room}, room_id=room, user_id=alice.id)
        await b.settle()
        await b.send("message", {"room_id": room, "content": "I am alice"}, room_id=room, user_id=alice.id)
        for client in (a, b):
            message = (await client.expect("message"))["data"]
            assert (message["sender"], message["sender_info"]["name"]) == (bob.id, "Bob Diallo")
        await b.send("typing", {"room_id": room, "is_typing": True}, user_id=alice.id)
        assert (await a.expect("typing"))["data"]["user_id"] == bob.id
        await b.send("user_status", {"status": "away"}, user_id=alice.id)
        await a.status(bob, "away")


async def test_auth_with_somebody_elses_id_is_an_error(target, alice, bob, room):
    async with connected(target, bob.token) as b:
        await b.send("auth", {"user_id": alice.id})
        await b.error("identity_mismatch")
        await b.send("auth", {"user_id": bob.id, "token": alice.token})
        await b.error("identity_mismatch")
        assert await authenticated_as(b, bob, room)


async def test_the_user_beside_the_data_is_the_fallback(target, alice, bob):
    async with connected(target, bob.token) as b:
        await b.send("auth", {}, user_id=alice.id)
        await b.error("identity_mismatch")
        await b.send("auth", {}, user_id=bob.id)
        await b.raw('{"type": "auth"}')
        await b.settle()


async def test_after_a_mistake_the_right_token_still_counts(target, alice, bob, room):
    async with connected(target) as nobody:
        await nobody.send("auth", {"user_id": alice.id, "token": bob.token})
        await nobody.error("identity_mismatch")
        await nobody.send("auth", {"user_id": bob.id, "token": bob.token})
        assert await authenticated_as(nobody, bob, room)


async def test_auth_with_another_persons_token_claims_nothing(target, alice, bob):
    async with connected(target) as nobody:
        await nobody.send("auth", {"user_id": alice.id, "token": bob.token})
        await nobody.error("identity_mismatch")
        await nobody.send("ping")
        await nobody.error("not_authenticated")


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", 403),
        ("https://localhost.evil.example", 403),
        ("ftp://localhost", 403),
        ("null", 403),  # a sandboxed frame
        ("file://", 403),
    ],
)
async def test_a_foreign_origin_is_refused(target, alice, origin, status):
    with pytest.raises(InvalidStatus) as refused:
        async with connected(target, alice.token, origin=origin):
            pass
    assert refused.value.response.status_code == status


async def test_the_servers_own_origin_is_let_in(target, alice):
    async with connected(target, alice.token, origin=target.urls[0]) as a:
        await a.settle()


async def test_another_path_is_refused(target, alice):
    with pytest.raises(InvalidStatus) as refused:
        async with connect(
            target.websocket_urls[0].replace("/chat/", "/other/"), ssl=target.ssl, proxy=None, **target.connect_options
        ):
            pass
    assert refused.value.response.status_code == 403
