"""Everybody comes back at once, as after a restart, and asks for what she has missed: what that costs the database."""

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from client import connected
from services import PostgreSQL, Redis
from statements import Count
from target import salon

PEOPLE, ROOMS, TOGETHER = 1000, 10, 100
"""How many come back, into how many rooms, and how many of them are on their way at the same time."""

STATEMENTS = 12
"""What one batch of those who come may cost at most: who they are, that they are here, who else is. For each by herself
it would be ten."""

MOMENT = 60
"""Seconds that a busy machine may take for it."""

CROWD = """
import json
from datetime import timedelta
from chat import auth, database, journal, rooms
from chat.journal import Draft
from chat.models import User
from chat.people import person
people = User.objects.bulk_create([User(username=f"back-{n}") for n in range(%(people)d)])
found = []
for number in range(%(rooms)d):
    members = people[number::%(rooms)d]
    room = rooms.create_room(f"R{number}", members).pk
    journal.write([Draft(room, person(members[0]), f"m{n}") for n in range(100)])
    found += [(auth.create_token(user, timedelta(hours=1)), room) for user in members]
print(json.dumps([found, database.LONGEST_PACE]))
"""


@pytest.fixture
def counted(tmp_path):
    """A process with services of its own; PostgreSQL logs every statement."""
    with (
        Redis() as redis,
        PostgreSQL("log_statement=all") as postgresql,
        salon(tmp_path, {"REDIS_URL": redis.url, "DATABASE_URL": postgresql.url}) as target,
    ):
        target.log = postgresql.directory / "log"
        yield target


async def come_back(stack, target, token, room, since):
    """Her connection, and the numbers of what she has missed."""
    client = await stack.enter_async_context(connected(target, token, ping_interval=None))
    await client.send("join_room", {"room_id": room, "since": since})
    events = [await client.expect("history", MOMENT)]
    while not events[-1]["data"]["complete"]:
        events.append(await client.expect("history", MOMENT))
    return client, [message["seq"] for event in events for message in event["data"]["messages"]]


async def test_a_thousand_come_back_at_the_price_of_their_rooms(counted):
    program = CROWD % {"people": PEOPLE, "rooms": ROOMS}
    crowd, pace = json.loads(counted.manage("shell", "--verbosity=0", "--command", program))
    assert len(crowd) == PEOPLE
    gate = asyncio.Semaphore(TOGETHER)

    async def one(stack, number, token, room):
        async with gate:
            # They have not all seen the same.
            since = 60 + number % 30
            client, found = await come_back(stack, counted, token, room, since)
            assert found == list(range(since + 1, 101))
            return client, room

    async with AsyncExitStack() as stack, asyncio.timeout(3 * MOMENT):
        with Count(counted.log) as count:
            clients = await asyncio.gather(*(one(stack, n, token, room) for n, (token, room) in enumerate(crowd)))
        # They are there like everybody else.
        speakers = {room: client for client, room in clients}
        for room, client in speakers.items():
            await client.send("message", {"room_id": room, "content": "welcome"})
        for client, _ in clients:
            assert (await client.expect("message", MOMENT))["data"]["seq"] == 101
    history = [text for text in count.statements if "chat_chatmessage" in text or "chat_attachment" in text]
    # For each room: its messages, their files, when the oldest was sent, what was changed; anew after a moment.
    assert ROOMS <= len(history) <= 4 * ROOMS * count.moments(2.0), Counter(history).most_common(5)
    # And all that has to do with persons, for many of them at once. Such batches follow each other at a pace of their
    # own, however many come.
    greatest = max(PEOPLE, STATEMENTS * count.moments(pace))
    assert len(count.statements) < greatest, Counter(text[:60] for text in count.statements).most_common(12)
