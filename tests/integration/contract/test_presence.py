"""Who is here: with several tabs, over a reload, and as one finds it on joining."""

import pytest
from api import Api
from client import connected, settled


@pytest.fixture
def pair(school):
    """Two people nobody else knows, and their room."""
    watcher, person = school.person("Wanda Watch"), school.person("Pia Present")
    return watcher, person, school.room("Present", watcher, person)


async def test_online_while_any_tab_is_open(target, pair):
    watcher, person, _ = pair
    async with settled(target, watcher.token) as w:
        async with connected(target, person.token, process=1):
            event = await w.status(person, "online")
            assert event["data"]["last_seen"]
            async with connected(target, person.token), connected(target, person.token, process=1):
                pass
        # Two tabs have come and gone, and now the last one: she is offline once, and was not before.
        event = await w.expect("user_status")
        assert (event["data"]["user_id"], event["data"]["status"]) == (person.id, "offline")
        await w.settle()


async def test_a_reload_does_not_flicker(target, pair):
    watcher, person, _ = pair
    async with settled(target, watcher.token) as w:
        for process in range(4):
            async with connected(target, person.token, process=process) as p:
                # Pages say so when they are left.
                await p.send("user_status", {"status": "offline"})
                await p.settle()
        async with connected(target, person.token) as p:
            await p.send("user_status", {"status": "away"})
            seen = []
            while not seen or seen[-1] != "away":
                event = await w.expect("user_status")
                seen.append(event["data"]["status"])
    assert seen == ["online", "away"]


async def test_away_only_when_all_tabs_are(target, pair):
    watcher, person, _ = pair
    async with (
        settled(target, watcher.token) as w,
        connected(target, person.token) as first,
        connected(target, person.token, process=1) as second,
    ):
        await w.status(person, "online")
        await first.send("user_status", {"status": "away"})
        await first.settle()
        await second.send("user_status", {"status": "away"})
        event = await w.expect("user_status")
        assert event["data"]["status"] == "away"
        await first.send("user_status", {"status": "online"})
        assert (await w.expect("user_status"))["data"]["status"] == "online"


async def test_on_joining_one_gets_the_present_state_of_the_members(target, school):
    here, away, gone, never, me = (school.person(name) for name in ("Here H", "Away A", "Gone G", "Never N", "Mia Me"))
    room = school.room("All", here, away, gone, never, me)
    async with settled(target, me.token) as m:
        async with connected(target, gone.token):
            await m.status(gone, "online")
        await m.status(gone, "offline")
    async with connected(target, here.token) as h, connected(target, away.token, process=1) as a:
        await h.settle()
        await a.send("user_status", {"status": "away"})
        await a.settle()
        async with settled(target, me.token, process=1) as m:
            await m.send("join_room", {"room_id": room})
            found = [(await m.expect("user_status"))["data"] for _ in range(3)]
            await m.settle()
    assert {each["user_id"]: each["status"] for each in found} == {
        here.id: "online",
        away.id: "away",
        gone.id: "offline",
    }


async def test_what_is_said_is_told_even_when_it_is_known(target, pair):
    """Of somebody who came later, a frontend knows only what she is told."""
    watcher, person, _ = pair
    async with connected(target, person.token) as p:
        await p.settle()
        async with settled(target, watcher.token, process=1) as w:
            await w.settle()
            await p.send("user_status", {"status": "online"})
            await w.status(person, "online")


async def test_a_stranger_learns_nothing(target, pair, carol):
    watcher, person, _ = pair
    async with settled(target, carol.token) as c, settled(target, watcher.token) as w:
        async with connected(target, person.token):
            await w.status(person, "online")
        await w.status(person, "offline")
        await c.send("ping")
        assert (await c.receive())["type"] == "pong"


async def test_typing_ends_by_itself(target, pair):
    watcher, person, room = pair
    async with settled(target, watcher.token) as w, connected(target, person.token, process=1) as p:
        await w.join(room)
        await p.send("typing", {"room_id": room, "is_typing": True})
        assert (await w.expect("typing"))["data"]["is_typing"] is True
        # What a client repeats with every key is told once.
        for _ in range(5):
            await p.send("typing", {"room_id": room, "is_typing": True})
        event = await w.expect("typing")
        assert event["data"] == {"room_id": room, "user_id": person.id, "user_name": person.name, "is_typing": False}


@pytest.mark.parametrize("ends", ["message", "http", "leave", "disconnect", "false"])
async def test_typing_ends_with_what_she_does(target, pair, ends):
    watcher, person, room = pair
    async with settled(target, watcher.token) as w:
        await w.join(room)
        async with connected(target, person.token, process=1) as p:
            await p.join(room)
            await p.send("typing", {"room_id": room, "is_typing": True})
            assert (await w.expect("typing"))["data"]["is_typing"] is True
            if ends == "message":
                await p.say(room, "said")
            elif ends == "http":
                Api(target, person).ok("POST", "/chats/messages/", {"chat": room, "content": "said"}, status=201)
            elif ends == "leave":
                await p.send("leave_room", {"room_id": room})
            elif ends == "false":
                await p.send("typing", {"room_id": room, "is_typing": False})
            if ends != "disconnect":
                assert (await w.expect("typing"))["data"]["is_typing"] is False
        if ends == "disconnect":
            assert (await w.expect("typing"))["data"]["is_typing"] is False
        elif ends in ("message", "http"):
            assert (await w.expect("message"))["data"]["content"] == "said"
        await w.settle()


async def test_who_does_not_type_need_not_say_so(target, pair):
    watcher, person, room = pair
    async with settled(target, watcher.token) as w, connected(target, person.token) as p:
        await w.join(room)
        await p.send("typing", {"room_id": room, "is_typing": False})
        await p.settle()
        await w.settle()
