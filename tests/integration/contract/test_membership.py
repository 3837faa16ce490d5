"""Nobody sees, joins, types into or writes to a room that she is not a member of."""

import pytest
from client import connected, settled

NO_ROOM = 2**40


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("join_room", {}),
        ("message", {"content": "let me in"}),
        ("typing", {"is_typing": True}),
    ],
)
async def test_a_stranger_is_refused_and_unnoticed(target, alice, bob, carol, room, kind, data):
    async with (
        connected(target, alice.token) as a,
        connected(target, bob.token, process=1) as b,
        connected(target, carol.token) as c,
    ):
        await a.join(room)
        await b.join(room)
        await c.send(kind, {"room_id": room, **data}, room_id=room, user_id=alice.id)
        assert await c.error("invalid_room") == "Invalid room ID"
        # What came of it would have arrived before this.
        await a.say(room, "between us")
        for client in (a, b):
            assert (await client.expect("message"))["data"]["content"] == "between us"
        await c.settle()


@pytest.mark.parametrize("kind", ["join_room", "message", "typing"])
async def test_a_room_that_does_not_exist_looks_like_one_that_is_not_mine(target, alice, kind):
    data = {"room_id": NO_ROOM, "content": "x", "is_typing": True}
    async with connected(target, alice.token) as a:
        await a.send(kind, data, room_id=NO_ROOM)
        assert await a.error("invalid_room") == "Invalid room ID"


async def test_the_room_beside_the_data_does_not_open_another(target, carol, room, carols_room):
    async with connected(target, carol.token) as c:
        await c.send("message", {"room_id": room, "content": "x"}, room_id=carols_room)
        await c.error("invalid_room")


async def test_a_member_who_has_not_joined_hears_nothing(target, alice, bob, room, second_room):
    async with connected(target, alice.token) as a, connected(target, bob.token, process=1) as b:
        await a.join(room)
        await b.join(second_room)
        await a.say(room, "not for bob, who is elsewhere")
        await a.send("typing", {"room_id": room, "is_typing": True})
        await a.say(second_room, "for bob")
        assert (await b.expect("message"))["data"]["content"] == "for bob"


async def test_a_strangers_status_stays_with_her(target, alice, bob, carol, room):
    async with (
        settled(target, alice.token) as a,
        settled(target, carol.token) as c,
        settled(target, bob.token) as b,
    ):
        await c.send("user_status", {"status": "away"}, user_id=alice.id)
        await c.settle()
        await b.send("user_status", {"status": "away"})
        told = []
        while (bob.id, "away") not in told:
            data = (await a.expect("user_status"))["data"]
            told.append((data["user_id"], data["status"]))
        assert carol.id not in [user_id for user_id, _ in told]


DELETE_MEMBERSHIP = """
from chat.models import Membership
Membership.objects.filter(room=%d, user=%d)._raw_delete("default")
"""


async def test_who_is_no_longer_a_member_is_put_out_even_when_nobody_told(target, school, alice, bob, second_room):
    """Whatever takes a membership away without a word: a lost event, another program, SQL."""
    room = school.room("Forgotten", alice, bob)
    async with connected(target, alice.token) as a, connected(target, bob.token, process=1) as b:
        await a.join(room)
        await b.join(room)
        await b.join(second_room)
        target.manage("shell", "--verbosity=0", "--command", DELETE_MEMBERSHIP % (room, bob.id))
        event = (await b.expect("room_update"))["data"]
        assert (event["room_id"], event["kind"]) == (room, "participants_removed")
        assert [person["id"] for person in event["participants"]] == [bob.id]
        await a.say(room, "without bob")
        await a.expect("message")
        await a.say(second_room, "with bob")
        assert (await b.expect("message"))["data"]["content"] == "with bob"
