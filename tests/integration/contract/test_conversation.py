"""Two people hold the whole conversation of the contract, event for event and field for field."""

import uuid

import pytest
from client import assert_timestamp, connected, settled


async def test_the_whole_conversation(target, alice, bob, room):
    async with connected(target, alice.token) as a, connected(target, bob.token, process=1) as b:
        for client, person in ((a, alice), (b, bob)):
            await client.send("auth", {"user_id": person.id})
            await client.send("join_room", {"room_id": room}, room_id=room)
            await client.settle()

        await b.send("typing", {"room_id": room, "is_typing": True}, room_id=room, user_id=bob.id)
        event = await a.expect("typing")
        assert event.keys() == {"type", "data", "timestamp"}
        assert event["data"] == {"room_id": room, "user_id": bob.id, "user_name": "Bob Diallo", "is_typing": True}
        await b.send("typing", {"room_id": room, "is_typing": False}, room_id=room, user_id=bob.id)
        assert (await a.expect("typing"))["data"]["is_typing"] is False

        await a.send("message", {"room_id": room, "content": "Hello world!"}, room_id=room, user_id=alice.id)
        sent, received = await a.expect("message"), await b.expect("message")
        assert sent == received
        assert sent.keys() == {"type", "data", "room_id", "timestamp"}
        assert sent["room_id"] == room
        data = sent["data"]
        assert type(data.pop("id")) is int
        assert type(data.pop("seq")) is int
        assert str(uuid.UUID(data["uuid"])) == data.pop("uuid")
        assert data["created_at"] == data["last_update"]
        assert_timestamp(data.pop("created_at"))
        assert_timestamp(data.pop("last_update"))
        assert data == {
            "content": "Hello world!",
            "sender": alice.id,
            "chat": room,
            "is_deleted": False,
            "extra_data": None,
            "message_type": "text",
            "attachment_url": None,
            "voice_note_url": None,
            "attachments": [],
            "client_id": None,
            "sender_info": {"id": alice.id, "name": "Alice Martin", "role": "teacher", "avatar": None},
        }

        await b.send("user_status", {"status": "away"}, user_id=bob.id)
        event = await a.status(bob, "away")
        assert event.keys() == {"type", "data", "timestamp"}
        assert_timestamp(event["data"].pop("last_seen"))
        assert event["data"] == {"user_id": bob.id, "status": "away"}

        await a.send("ping")
        event = await a.receive()
        assert event.keys() == {"type", "data", "timestamp"}
        assert (event["type"], event["data"]) == ("pong", {})

        await b.send("leave_room", {"room_id": room}, room_id=room)
        await b.settle()
        await a.say(room, "Anybody there?")
        assert (await a.expect("message"))["data"]["content"] == "Anybody there?"
        await b.join(room)
        await a.say(room, "Welcome back")
        assert (await b.expect("message"))["data"]["content"] == "Welcome back"


async def test_the_order_of_a_room_is_the_same_for_everyone(target, alice, bob, room):
    async with connected(target, alice.token) as a, connected(target, bob.token, process=1) as b:
        await a.join(room)
        await b.join(room)
        for number in range(20):
            await a.say(room, f"a{number}")
            await b.say(room, f"b{number}")
        seen_by_a = [(await a.expect("message"))["data"] for _ in range(40)]
        seen_by_b = [(await b.expect("message"))["data"] for _ in range(40)]
    assert seen_by_a == seen_by_b
    assert len({message["uuid"] for message in seen_by_a}) == 40
    for name in "ab":
        said = [message["content"] for message in seen_by_a if message["content"].startswith(name)]
        assert said == [f"{name}{number}" for number in range(20)]
    in_order = sorted(seen_by_a, key=lambda message: message["seq"])
    first = in_order[0]["seq"]
    assert [message["seq"] for message in in_order] == list(range(first, first + 40))
    moments = [message["created_at"] for message in in_order]
    assert moments == sorted(set(moments))


async def test_three_tabs_of_one_person_each_get_the_message(target, alice, bob, room):
    async with (
        connected(target, alice.token) as a,
        connected(target, bob.token) as b1,
        connected(target, bob.token, process=1) as b2,
        connected(target, bob.token, process=1) as b3,
    ):
        for client in (a, b1, b2, b3):
            await client.join(room)
        await a.say(room, "to all tabs")
        for client in (a, b1, b2, b3):
            assert (await client.expect("message"))["data"]["content"] == "to all tabs"
        # Her own tabs do not need to be told that she types.
        await b1.send("typing", {"room_id": room, "is_typing": True})
        await a.expect("typing")
        await a.say(room, "after typing")
        for client in (b1, b2, b3):
            await client.expect("message")


async def test_the_room_may_stand_beside_the_data(target, alice, room):
    async with connected(target, alice.token) as a:
        await a.send("join_room", {}, room_id=room)
        await a.settle()
        await a.send("message", {"content": "named outside"}, room_id=room)
        assert (await a.expect("message"))["room_id"] == room


async def test_the_room_in_the_data_wins(target, alice, room, second_room):
    async with connected(target, alice.token) as a:
        await a.join(room)
        await a.join(second_room)
        await a.send("message", {"room_id": second_room, "content": "which?"}, room_id=room)
        event = await a.expect("message")
        assert (event["room_id"], event["data"]["chat"]) == (second_room, second_room)


async def test_one_connection_serves_many_rooms(target, alice, bob, room, second_room):
    async with connected(target, alice.token) as a, connected(target, bob.token, process=1) as b:
        await a.join(room)
        await a.join(second_room)
        await b.join(second_room)
        await a.say(room, "only in the first")
        await a.say(second_room, "in the second")
        assert [(await a.expect("message"))["room_id"] for _ in range(2)] == [room, second_room]
        assert (await b.expect("message"))["data"]["content"] == "in the second"


async def test_status_reaches_each_who_shares_a_room_once(target, alice, bob, carol, room, second_room):
    async with (
        settled(target, alice.token) as a,
        settled(target, bob.token, process=1) as b,
        settled(target, carol.token) as c,
    ):
        await b.send("user_status", {"status": "online"})
        await a.status(bob, "online")
        for status in ("away", "online", "away", "offline"):
            await a.send("user_status", {"status": status}, user_id=alice.id)
            # Bob has joined no room here and shares two with her.
            await b.status(alice, status)
        # It would have come before this.
        await b.send("ping")
        assert (await b.receive())["type"] == "pong"
        await c.send("ping")
        assert alice.id not in [each["data"].get("user_id") for each in await c.until("pong")]


@pytest.mark.parametrize(
    "content",
    ["é", "👩🏽‍🏫 مرحبا", "<script>alert(1)</script>", 'quote " and \\ and \u2028 too', "x" * 2000, "👍" * 2000],
)
async def test_text_arrives_as_it_was_written(target, alice, room, content):
    async with connected(target, alice.token) as a:
        await a.join(room)
        await a.say(room, content)
        assert (await a.expect("message"))["data"]["content"] == content


async def test_the_sender_gets_her_message_even_when_she_has_not_joined(target, alice, bob, room):
    async with connected(target, alice.token) as a, connected(target, bob.token, process=1) as b:
        await b.join(room)
        await a.say(room, "from the door")
        assert (await a.expect("message"))["data"]["uuid"] == (await b.expect("message"))["data"]["uuid"]
        await a.settle()
