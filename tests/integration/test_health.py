"""The health checks tell the truth, and people feel as little as can be when a service is away."""

from contextlib import asynccontextmanager

import pytest
from client import connected
from school import School
from services import PostgreSQL, Redis
from target import salon

from waiting import wait_until


def test_healthy(target):
    assert target.request("GET", "/healthz")[0] == 200
    assert target.ready() == (200, {"database": "ok", "channel_layer": "ok"})


@pytest.fixture
def stack(tmp_path):
    """Two processes with a PostgreSQL and a Redis of their own."""
    with (
        Redis() as redis,
        PostgreSQL() as postgresql,
        salon(tmp_path, {"REDIS_URL": redis.url, "DATABASE_URL": postgresql.url}, processes=2) as target,
    ):
        yield target, postgresql, redis


def wait_for_both(target):
    for process in range(2):
        wait_until(lambda process=process: target.ready(process)[0] == 200, "a process that is ready again")


@asynccontextmanager
async def alice_on_both(target):
    """Alice in a room of hers on either process: the room and her two clients."""
    school = School(target)
    alice = school.person("Alice")
    room = school.room("Room", alice)
    async with connected(target, alice.token) as here, connected(target, alice.token, process=1) as there:
        await here.join(room)
        await there.join(room)
        yield room, here, there


async def test_redis_away_and_back(stack):
    target, _, redis = stack
    async with alice_on_both(target) as (room, here, there):
        redis.stop()
        status, state = target.ready()
        assert (status, state["database"]) == (503, "ok")
        assert state["channel_layer"] != "ok"
        assert target.request("GET", "/healthz")[0] == 200
        # Those on the same process go on talking, and the others hear it too.
        await here.say(room, "without Redis")
        for client in (here, there):
            assert (await client.expect("message"))["data"]["content"] == "without Redis"
        redis.start()
        wait_for_both(target)
        await here.say(room, "with Redis again")
        for client in (here, there):
            assert (await client.expect("message"))["data"]["content"] == "with Redis again"


async def test_redis_hangs(stack):
    """What is delivered without Redis does not come a second time when Redis goes on."""
    target, _, redis = stack
    async with alice_on_both(target) as (room, here, there):
        redis.pause()
        try:
            await here.say(room, "while Redis hangs")
            assert (await here.expect("message"))["data"]["content"] == "while Redis hangs"
        finally:
            redis.resume()
        wait_for_both(target)
        await here.say(room, "and goes on")
        assert (await here.expect("message"))["data"]["content"] == "and goes on"


async def test_the_database_away_and_back(stack):
    target, postgresql, _ = stack
    school = School(target)
    alice = school.person("Alice")
    room = school.room("Room", alice)
    async with connected(target, alice.token) as client:
        await client.join(room)
        postgresql.stop()
        status, state = target.ready()
        assert (status, state["channel_layer"]) == (503, "ok")
        assert state["database"] != "ok"
        await client.say(room, "nowhere to keep this")
        await client.error("unavailable")
        await client.settle()
        async with connected(target, alice.token) as late:
            await late.error("unavailable")
            assert await late.closed() == 4503
        postgresql.start()
        wait_until(lambda: target.ready()[0] == 200, "PostgreSQL back")
        await client.say(room, "and back")
        assert (await client.expect("message"))["data"]["content"] == "and back"
