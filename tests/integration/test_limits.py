"""Limits: what is too much is refused with when to try again, and what is far too much is closed."""

import asyncio
from contextlib import AsyncExitStack, suppress

import pytest
from api import Api
from client import connected
from school import School
from target import salon
from websockets.exceptions import ConnectionClosed

from waiting import wait_until

SMALL = {
    "SALON_LIMIT_MESSAGES": "0.1/20",
    "SALON_LIMIT_SIGNALS": "0.1/3",
    "SALON_LIMIT_JOINS": "0.1/3",
    "SALON_LIMIT_REQUESTS": "0.1/20",
    "SALON_LIMIT_EVENTS": "1000/1000",
    "SALON_LIMIT_PATIENCE": "0.1/10",
    "SALON_ROOMS_PER_CONNECTION": "2",
    "SALON_CONNECTIONS_PER_PERSON": "3",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory, services):
    """Two processes with small limits, and the database and Redis of the others."""
    environment = {name: services.environment[name] for name in ("REDIS_URL", "DATABASE_URL")}
    with salon(tmp_path_factory.mktemp("small"), {**environment, **SMALL}, processes=2) as target:
        yield target


@pytest.fixture
def school(small):
    return School(small)


async def refused(client):
    """The next event is a refusal that says when to try again."""
    event = await client.expect("error")
    assert event["data"]["code"] == "rate_limited", event
    assert event["data"]["retry_after"] > 0
    assert "try again" in event["data"]["error"]
    return event["data"]


async def test_too_many_messages(small, school):
    person = school.person()
    room = school.room("R", person)
    async with connected(small, person.token) as client:
        for number in range(20):
            await client.say(room, f"m{number}")
            await client.expect("message")
        await client.send("message", {"room_id": room, "content": "one more", "client_id": "mine"})
        assert (await refused(client))["client_id"] == "mine"
        await client.settle()
    answer = Api(small, person).call("POST", "/chats/messages/", {"chat": room, "content": "by another door"})
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json["code"] == "rate_limited"


async def test_another_process_hears_of_it(small, school):
    person = school.person()
    room = school.room("R", person)
    async with connected(small, person.token) as first, connected(small, person.token, process=1) as second:
        for number in range(20):
            await first.say(room, f"m{number}")
            await first.expect("message")
        # Within a second or so the other process knows; until then some still pass there, and never as many again.
        passed = 0
        while True:
            await second.say(room, "there")
            if (event := await second.receive())["type"] == "error":
                break
            passed += event["type"] == "message"
            await asyncio.sleep(0.3)
        assert event["data"]["code"] == "rate_limited"
        assert passed < 20


@pytest.mark.parametrize(
    ("kind", "data"),
    [("join_room", {}), ("typing", {"is_typing": True}), ("user_status", {"status": "away"}), ("read", {})],
)
async def test_too_many_of_others(small, school, kind, data):
    person = school.person()
    room = school.room("R", person)
    async with connected(small, person.token) as client:
        for _ in range(3):
            await client.send(kind, {"room_id": room, **data} if kind != "user_status" else data)
        await client.settle()
        await client.send(kind, {"room_id": room, **data} if kind != "user_status" else data)
        await refused(client)
        await client.settle()


async def test_far_too_many_are_closed(small, school):
    person = school.person()
    room = school.room("R", person)
    async with connected(small, person.token) as client:
        for number in range(40):
            await client.say(room, f"m{number}")
        refusals = 0
        for _ in range(20):
            await client.expect("message")
        while refusals < 11:
            await refused(client)
            refusals += 1
        assert await client.closed() == 4429


async def test_too_many_events_of_whatever_kind(tmp_path):
    with salon(tmp_path, {"SALON_LIMIT_EVENTS": "0.1/5", "SALON_LIMIT_PATIENCE": "0.1/2"}) as target:
        token = School(target).person().token
        async with connected(target, token) as client:
            for _ in range(5):
                await client.settle()
            for _ in range(3):
                await client.raw("not JSON")
                await refused(client)
            assert await client.closed() == 4429


async def test_too_many_rooms(small, school):
    person = school.person()
    rooms = [school.room(f"R{number}", person) for number in range(3)]
    async with connected(small, person.token) as client:
        for room in rooms[:2]:
            await client.join(room)
        await client.send("join_room", {"room_id": rooms[2]})
        await client.error("too_many_rooms")
        await client.send("leave_room", {"room_id": rooms[0]})
        await client.settle()


async def test_too_many_connections_at_all_processes_together(small, school):
    person = school.person()
    async with (
        connected(small, person.token) as first,
        connected(small, person.token, process=1) as second,
        connected(small, person.token, process=1) as third,
    ):
        for client in (first, second, third):
            await client.settle()
        for process in (0, 1):
            async with connected(small, person.token, process=process) as fourth:
                await fourth.error("too_many_connections")
                assert await fourth.closed() == 4429
        for client in (first, second, third):
            await client.settle()


async def test_of_far_too_many_at_once_as_many_as_may_come_in(small, school):
    person = school.person()

    async def come():
        """What a connection is closed with, or None when it is let in and stays."""
        client = await stack.enter_async_context(connected(small, person.token))
        # She may have been refused by now.
        with suppress(ConnectionClosed):
            await client.send("ping", {})
        if (event := await client.receive())["type"] == "pong":
            return None
        assert event["data"]["code"] == "too_many_connections", event
        return await client.closed()

    async with AsyncExitStack() as stack:
        codes = await asyncio.gather(*(come() for _ in range(30)))
    assert sorted(codes, key=bool) == [None] * 3 + [4429] * 27


async def test_a_second_try_opens_no_door(small, school):
    person = school.person()
    async with (
        connected(small, person.token) as first,
        connected(small, person.token) as second,
        connected(small, person.token) as third,
    ):
        for client in (first, second, third):
            await client.settle()
        async with connected(small) as fourth:
            await fourth.send("auth", {"user_id": person.id, "token": person.token})
            await fourth.send("auth", {"user_id": person.id, "token": person.token})
            await fourth.error("too_many_connections")
            assert await fourth.closed() == 4429


def test_too_many_requests(small, school):
    api = Api(small, school.person())
    for _ in range(20):
        api.ok("GET", "/chats/rooms/")
    answer = api.call("GET", "/chats/rooms/")
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) >= 1
    wait_until(lambda: api.call("GET", "/chats/rooms/").status == 200, "a request to be taken again")
