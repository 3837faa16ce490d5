"""What anybody changes in the database, behind the server's back, holds on every process a moment later."""

import hashlib

import pytest
from client import connected
from eventually import answer_to_message, answer_to_typing, sql, until


@pytest.fixture
def dora(school):
    return school.person("Dora Ito", "teacher")


@pytest.fixture
def club(school, dora, alice):
    return school.room("Club", dora, alice)


async def test_a_new_name_role_and_picture(target, dora, alice, club):
    async with connected(target, dora.token) as d, connected(target, alice.token, process=1) as a:
        await d.join(club)
        assert (await answer_to_message(d, club))["name"] == "Dora Ito"
        sql(
            target,
            "UPDATE chat_user SET first_name = %s, role = %s, avatar = %s WHERE id = %s",
            *("Dorothea", "parent", "/d.png", dora.id),
        )
        shown = {"id": dora.id, "name": "Dorothea Ito", "role": "parent", "avatar": "/d.png"}
        await until(lambda: answer_to_message(d, club), shown)
        await a.join(club)
        await d.send("typing", {"room_id": club, "is_typing": True})
        assert (await a.expect("typing"))["data"]["user_name"] == "Dorothea Ito"


async def test_who_may_write_announcements(target, school, dora, alice):
    room = int(target.manage("create_room", "News", "--member", dora.username, "--member", alice.username))
    async with connected(target, dora.token, process=1) as d:
        await d.join(room)
        sql(target, "UPDATE chat_chatroom SET room_type = %s WHERE id = %s", "announcement", room)
        assert await answer_to_typing(d, room) is None
        sql(target, "UPDATE chat_user SET role = %s WHERE id = %s", "student", dora.id)
        await until(lambda: answer_to_typing(d, room), "forbidden")
        await until(lambda: answer_to_message(d, room), "forbidden")
        sql(target, "UPDATE chat_chatroom SET room_type = %s WHERE id = %s", "group", room)
        await until(lambda: answer_to_typing(d, room), None)


async def test_who_is_put_out_of_a_room_that_she_has_not_joined(target, dora, club, second_room):
    async with connected(target, dora.token, process=1) as d:
        assert await answer_to_typing(d, club) is None
        sql(target, "DELETE FROM chat_membership WHERE room_id = %s AND user_id = %s", club, dora.id)
        await until(lambda: answer_to_typing(d, club), "invalid_room")
        await d.send("join_room", {"room_id": club})
        await d.error("invalid_room")
        sql(
            target,
            "INSERT INTO chat_membership (room_id, user_id, joined_at) VALUES (%s, %s, %s)",
            *(club, dora.id, "timezone.now()"),
        )
        # That she was none is not remembered.
        assert await answer_to_typing(d, club) is None
        await d.join(club)


async def test_a_room_that_is_deleted(target, dora, alice, club):
    async with connected(target, dora.token) as d, connected(target, alice.token, process=1) as a:
        for client in (d, a):
            await client.join(club)
            assert await answer_to_typing(client, club) is None
        sql(target, "UPDATE chat_chatroom SET is_deleted = %s WHERE id = %s", True, club)
        for client in (d, a):
            while (event := await client.receive())["type"] != "room_update":
                pass
            assert (event["data"]["room_id"], event["data"]["kind"]) == (club, "participants_removed")
            assert await answer_to_typing(client, club) == "invalid_room"
            assert await answer_to_message(client, club) == "invalid_room"


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("UPDATE chat_user SET is_active = %s WHERE id = %s", (False, "id")),
        ("UPDATE chat_user SET tokens_valid_after = %s WHERE id = %s", ("timezone.now()", "id")),
        ("INSERT INTO chat_revokedtoken (digest, expires_at) VALUES (%s, %s)", ("digest", "timezone.now()")),
    ],
    ids=["deactivated", "all tokens revoked", "one token revoked"],
)
async def test_who_may_no_longer_be_here(target, dora, alice, statement, values):
    signed = hashlib.sha256(dora.token.rpartition(".")[0].encode()).hexdigest()
    values = [{"id": dora.id, "digest": signed}.get(value, value) for value in values]
    async with (
        connected(target, dora.token) as first,
        connected(target, dora.token, process=1) as second,
        connected(target, alice.token, process=1) as a,
    ):
        for client in (first, second, a):
            await client.settle()
        sql(target, statement, *values)
        for client in (first, second):
            await client.error("revoked")
            assert await client.closed() == 4401
        await a.settle()
