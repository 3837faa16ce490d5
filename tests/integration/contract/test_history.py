"""Who joins gets what was missed before what is live, without a gap and without a double."""

import asyncio

import pytest
from api import Api
from client import connected

FILL = """
from django.utils import timezone
from chat import journal
from chat.journal import Draft
from chat.models import User
from chat.people import person
sender = person(User.objects.get(pk=%(sender)d))
for start in range(0, %(count)d, 200):
    journal.write([Draft(%(room)d, sender, f"m{n}") for n in range(start + 1, min(start + 200, %(count)d) + 1)])
"""


def fill(target, room, sender, count):
    """Say m1, m2, … in a room."""
    target.manage("shell", "--command", FILL % {"room": room, "sender": sender.id, "count": count})


async def history(client, room, **wanted):
    """Join, and the whole answer: its messages, and its last frame."""
    await client.send("join_room", {"room_id": room, **wanted}, room_id=room)
    found, changed = [], []
    while True:
        event = await client.expect("history")
        data = event["data"]
        found += data["messages"]
        changed += data["changed"]
        assert (data["room_id"], len(data["messages"]) <= 50) == (room, True)
        if data["complete"]:
            return found, changed, data


async def test_the_newest_messages(target, alice, bob, own_room):
    fill(target, own_room, alice, 5)
    async with connected(target, bob.token) as b:
        found, changed, last = await history(b, own_room, history=3)
        assert [message["content"] for message in found] == ["m3", "m4", "m5"]
        assert (last["last_seq"], last["missed"], last["next"], changed) == (5, 3, None, [])
        assert found == [
            {name: message[name] for name in found[0]}
            for message in Api(target, bob).ok("GET", f"/chats/messages/?room_id={own_room}&limit=3")["results"]
        ]


@pytest.mark.parametrize(("since", "count"), [(0, 5), (3, 2), (5, 0), (99, 0)])
async def test_what_came_since(target, alice, bob, own_room, since, count):
    fill(target, own_room, alice, 5)
    async with connected(target, bob.token) as b:
        found, _, last = await history(b, own_room, since=since)
        assert [message["seq"] for message in found] == list(range(6 - count, 6))
        assert (last["last_seq"], last["missed"]) == (5, count)


async def test_more_than_500_are_paged(target, alice, bob, own_room):
    fill(target, own_room, alice, 620)
    async with connected(target, bob.token) as b:
        found, _, last = await history(b, own_room, since=10)
        assert [message["seq"] for message in found] == list(range(121, 621))
        assert last["missed"] == 610
    api, address, paged = Api(target, bob, process=1), last["next"], []
    while address:
        page = api.ok("GET", address[address.index("/chats") :])
        paged += [message["seq"] for message in page["results"]]
        address = page["next"]
    assert paged == list(range(11, 121))


async def test_what_was_changed_meanwhile(target, alice, bob, own_room):
    teacher = Api(target, alice)
    fill(target, own_room, alice, 4)
    ids = [message["id"] for message in teacher.ok("GET", f"/chats/messages/?room_id={own_room}")["results"]]
    teacher.ok("PATCH", f"/chats/messages/{ids[0]}/", {"content": "edited"})
    teacher.ok("DELETE", f"/chats/messages/{ids[1]}/", status=204)
    async with connected(target, bob.token) as b:
        found, changed, _ = await history(b, own_room, since=3)
    assert [message["content"] for message in found] == ["m4"]
    assert [(message["content"], message["is_deleted"]) for message in changed] == [("edited", False), ("", True)]


async def test_not_both(target, bob, room):
    async with connected(target, bob.token) as b:
        await b.send("join_room", {"room_id": room, "since": 1, "history": 1})
        await b.error("invalid_event")


@pytest.mark.parametrize("data", ['"since": -1', '"history": 501', '"since": "1"', '"history": -1'])
async def test_bad_wishes(target, bob, room, data):
    async with connected(target, bob.token) as b:
        await b.raw(f'{{"type": "join_room", "data": {{"room_id": {room}, {data}}}}}')
        await b.error("invalid_event")


async def test_no_gap_and_no_double_while_others_talk(target, school):
    """Somebody talks all the time through one process, while another comes and goes at the other."""
    talker, listener = school.person("Tom Talk"), school.person("Lea Listen")
    room = school.room("Busy", talker, listener)
    count = 60
    async with connected(target, talker.token) as t:

        async def talk():
            for number in range(count):
                await t.say(room, f"n{number}")
                await t.expect("message")

        talking, seen = asyncio.create_task(talk()), []
        while len(seen) < count:
            async with connected(target, listener.token, process=1) as listening:
                found, _, _ = await history(listening, room, since=seen[-1] if seen else 0)
                seen += [message["seq"] for message in found]
                # Some that are live, and then she is away for a moment.
                for _ in range(min(7, count - len(seen))):
                    seen.append((await listening.expect("message"))["data"]["seq"])
        await talking
    assert seen == list(range(1, count + 1))
