"""What it costs to let somebody in, and that it stays right when many come at once."""

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack

import psycopg
import pytest
import redis
from client import DEADLINE, connected, settled
from services import PostgreSQL, Redis
from statements import Count
from target import salon

from waiting import wait_until

ARRIVALS = 200
MOMENT = 60
"""Seconds that two busy processes may take to let so many in and out."""

CROWD = """
import json
from datetime import timedelta
from chat import auth, rooms
from chat.models import User
watcher, *others = [User.objects.create(username=f"%(name)s-{n}") for n in range(%(count)d + 1)]
# Nobody shares a room with more than the watcher and one other.
pairs = [(pair, rooms.create_room("R", [watcher, *pair]).pk) for pair in zip(others[::2], others[1::2])]
found = [(watcher, 0), *((user, room) for pair, room in pairs for user in pair)]
print(json.dumps([(user.pk, auth.create_token(user, timedelta(hours=1)), room) for user, room in found]))
"""


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """Two processes with services of their own; PostgreSQL logs every statement."""
    with (
        Redis() as redis_server,
        PostgreSQL("log_statement=all") as postgresql,
        salon(
            tmp_path_factory.mktemp("counted"),
            {"REDIS_URL": redis_server.url, "DATABASE_URL": postgresql.url},
            processes=2,
        ) as target,
    ):
        target.log = postgresql.directory / "log"
        yield target


def crowd(target, name, count):
    """The watcher, and people who share a room with her, two by two: (id, token, room) each."""
    program = CROWD % {"name": name, "count": count}
    return json.loads(target.manage("shell", "--verbosity=0", "--command", program))


class Cost(Count):
    """Beside the statements of PostgreSQL, the commands of Redis during the block."""

    def __init__(self, target):
        super().__init__(target.log)
        self._redis = redis.Redis.from_url(target.environment["REDIS_URL"])

    def __enter__(self):
        self._before = self._commands()
        return super().__enter__()

    def __exit__(self, *_):
        super().__exit__()
        self.commands = self._commands() - self._before
        self._redis.close()

    def _commands(self):
        found = {name: told["calls"] for name, told in self._redis.info("commandstats").items()}
        return Counter({name: calls for name, calls in found.items() if name != "cmdstat_info"})


def present(target):
    """How many people are here."""
    with psycopg.connect(target.environment["DATABASE_URL"], autocommit=True) as database:
        return database.execute("SELECT count(*) AS asked_by_the_test FROM chat_presence").fetchone()[0]


async def arrive(stack, target, token, room, process=0):
    client = await stack.enter_async_context(connected(target, token, process=process))
    await client.send("join_room", {"room_id": room})
    await client.settle()
    return client


async def test_what_one_handshake_costs(counted):
    _, *others = crowd(counted, "one", 12)
    costs = []
    async with AsyncExitStack() as stack:
        for (_, first, room), (_, second, _) in zip(others[::2], others[1::2], strict=True):
            await arrive(stack, counted, first, room)
            with Cost(counted) as count:
                await arrive(stack, counted, second, room)
            costs.append(count)
    # What the server does now and then by itself is never less than nothing.
    statements = min((count.statements for count in costs), key=len)
    # Who she is; BEGIN, her row, where she is, that she is here, and since when, who is told, COMMIT; that she is a
    # member; how present the others are.
    assert len(statements) <= 10, statements
    commands = min((count.commands for count in costs), key=Counter.total)
    # That she has come.
    assert commands == {"cmdstat_publish": 1}


async def test_a_migration_overtakes_no_plan(counted):
    """PostgreSQL refuses a plan that finds columns of another type by now; each of the server's connections has one."""
    _, *others = crowd(counted, "migrated", 16)
    with psycopg.connect(counted.environment["DATABASE_URL"], autocommit=True) as database:
        for digits in (3, 4, 5, 6):
            async with AsyncExitStack() as stack:
                some = others[(digits - 3) * 4 :][:4]
                await asyncio.gather(*(arrive(stack, counted, *each[1:]) for each in some))
            database.execute(f"ALTER TABLE chat_user ALTER COLUMN profile_issued_at TYPE timestamptz({digits})")


async def test_many_at_once_cost_less(counted):
    _, *others = crowd(counted, "many", 64)
    async with AsyncExitStack() as stack:
        for _, token, room in others[::2]:
            await arrive(stack, counted, token, room)
        with Cost(counted) as count:
            await asyncio.gather(*(arrive(stack, counted, token, room) for _, token, room in others[1::2]))
        assert len(count.statements) < 32 * 5
        with Cost(counted) as count:
            await stack.aclose()
            await asyncio.to_thread(wait_until, lambda: not present(counted), "everybody to be gone")
        # 64 people have gone: a transaction of six statements for each would be 384. How many go together is the
        # machine's affair.
        assert len(count.statements) < 384 / 3, count.statements


async def test_many_arrive_at_two_processes_and_leave(counted):
    (_, watching, _), *others = crowd(counted, "all", ARRIVALS)
    everybody = {user_id for user_id, _, _ in others}
    async with asyncio.timeout(MOMENT), settled(counted, watching) as watcher:
        async with AsyncExitStack() as stack:
            arrivals = [
                arrive(stack, counted, token, room, process) for _, token, room in others for process in range(2)
            ]
            await asyncio.gather(*arrivals)
            assert await told(watcher, ARRIVALS) == {(user_id, "online") for user_id in everybody}
            with psycopg.connect(counted.environment["DATABASE_URL"]) as database:
                found = database.execute("SELECT user_id, status, connections FROM chat_presence").fetchall()
            here = Counter((user_id, status, connections) for user_id, status, connections in found)
            assert {key: here[key] for key in here if key[0] in everybody} == {
                (user_id, "online", 1): 2 for user_id in everybody
            }
            await watcher.settle()
        assert await told(watcher, ARRIVALS) == {(user_id, "offline") for user_id in everybody}
        await watcher.send("ping")
        assert (await watcher.receive(DEADLINE))["type"] == "pong"


async def told(client, count):
    """Who is how present, by the next events, which are all different."""
    events = [await client.receive(MOMENT) for _ in range(count)]
    assert {event["type"] for event in events} == {"user_status"}
    return {(event["data"]["user_id"], event["data"]["status"]) for event in events}
