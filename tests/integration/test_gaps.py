"""What the channel layer loses is read from the database: nobody misses a message, and all get them in one order."""

import asyncio

import pytest
import redis
from api import Api, File
from client import connected, in_the_room
from school import School
from scrape import scraped
from services import Redis
from target import salon

LATE = 20
"""Seconds that a message may come late on a busy machine."""

PROCESSES = 0, 0, 1
"""Where the three of a room are."""

UNTOLD = """
from chat import journal
from chat.journal import Draft
from chat.models import User
from chat.people import person
sender = person(User.objects.get(pk=%(sender)d))
journal.write([Draft(%(room)d, sender, content) for content in %(contents)r])
"""
"""Stores messages of which nobody is told."""


@pytest.fixture
def channel_layer():
    with Redis() as server:
        yield server


@pytest.fixture
def two(tmp_path, backends, channel_layer):
    """Two processes of the test's own with a Redis of theirs."""
    environment = {"DATABASE_URL": backends["DATABASE_URL"], "REDIS_URL": channel_layer.url}
    with salon(tmp_path, environment, processes=2) as target:
        yield target


@pytest.fixture
def trio(two):
    """A writer and her neighbour at one process, and somebody far away at another, in a room."""
    school = School(two)
    people = [school.person(name) for name in ("Wim Write", "Nia Near", "Fay Far")]
    return *people, school.room("R", *people)


async def heard(client, count):
    """The contents of the next messages."""
    found = [(await client.expect("message", within=LATE))["data"] for _ in range(count)]
    numbers = [message["seq"] for message in found]
    assert numbers == list(range(numbers[0], numbers[0] + count))
    return [message["content"] for message in found]


def refuse_publishing(server):
    with redis.Redis.from_url(server.url) as observer:
        observer.execute_command("ACL", "SETUSER", "default", "-publish")


def allow_publishing(server):
    with redis.Redis.from_url(server.url) as observer:
        observer.execute_command("ACL", "SETUSER", "default", "+publish")


async def test_the_last_message_before_a_silence_does_not_wait_for_the_next(two, trio, channel_layer):
    async with in_the_room(two, trio, PROCESSES) as (writer, near, far):
        refuse_publishing(channel_layer)
        for content in ("one", "two", "three"):
            await writer.say(trio[-1], content)
        for client in (writer, near, far):
            assert await heard(client, 3) == ["one", "two", "three"]
        allow_publishing(channel_layer)
        assert scraped(two, 0)['salon_channel_layer_errors_total{kind="away"}'] > 0
        assert scraped(two, 1)["salon_gap_messages_total"] == 3
        assert 1 <= scraped(two, 1)["salon_gaps_filled_total"] <= 3
        await writer.say(trio[-1], "four")
        for client in (writer, near, far):
            assert await heard(client, 1) == ["four"]
            await client.settle()


async def test_what_is_stored_without_a_word_is_told(two, trio):
    writer, *_, room = trio
    async with in_the_room(two, trio, PROCESSES) as clients:
        program = UNTOLD % {"sender": writer.id, "room": room, "contents": [f"m{n}" for n in range(1200)]}
        await asyncio.to_thread(two.manage, "shell", "--verbosity=0", "--command", program)
        for client in clients:
            # More than is read at once.
            assert await heard(client, 1200) == [f"m{n}" for n in range(1200)]
            await client.settle()


async def test_without_redis_people_go_on_talking(two, trio, channel_layer):
    *people, room = trio
    async with in_the_room(two, trio, PROCESSES) as (writer, near, far):
        channel_layer.stop()
        await writer.say(room, "from here")
        for client in (writer, near, far):
            assert await heard(client, 1) == ["from here"]
        await far.say(room, "from there")
        for client in (writer, near, far):
            assert await heard(client, 1) == ["from there"]
        # Who comes now is let in.
        async with connected(two, people[1].token, process=1) as late:
            await late.join(room)
            await writer.say(room, "again")
            for client in (writer, near, far, late):
                assert await heard(client, 1) == ["again"]
            assert (await asyncio.to_thread(two.ready, 0))[0] == 503
            channel_layer.start()
            await asyncio.to_thread(_wait_ready, two)
            await far.say(room, "back")
            for client in (writer, near, far, late):
                assert await heard(client, 1) == ["back"]
                await client.settle()


def _wait_ready(target):
    from waiting import wait_until

    for process in range(2):
        wait_until(lambda process=process: target.ready(process)[0] == 200, "both to be ready")


async def test_nothing_is_lost_or_doubled_while_connections_to_redis_are_killed(two, trio, channel_layer):
    room = trio[-1]
    async with in_the_room(two, trio, PROCESSES) as (writer, near, far):
        for number in range(60):
            await (writer, far)[number % 2].say(room, f"m{number}")
            if number % 10 == 5:
                with redis.Redis.from_url(channel_layer.url) as observer:
                    observer.client_kill_filter(_type="pubsub")
        found = [await heard(client, 60) for client in (writer, near, far)]
        assert found[0] == found[1] == found[2]
        assert sorted(found[0]) == sorted(f"m{number}" for number in range(60))
        for client in (writer, near, far):
            await client.settle()


async def test_a_redis_that_hangs_keeps_nobody_waiting(two, trio, channel_layer):
    room = trio[-1]
    async with in_the_room(two, trio, PROCESSES) as clients:
        writer, near, far = clients
        channel_layer.pause()
        try:
            for number in range(20):
                await (writer, far)[number % 2].say(room, f"m{number}")
            found = [await heard(client, 20) for client in clients]
        finally:
            channel_layer.resume()
        assert found[0] == found[1] == found[2]
        await asyncio.to_thread(_wait_ready, two)
        await near.say(room, "and on")
        for client in clients:
            assert await heard(client, 1) == ["and on"]
            await client.settle()


async def test_a_message_with_files_is_whole_when_it_comes_by_the_database(two, trio, channel_layer):
    writer, *_, room = trio
    async with in_the_room(two, trio, PROCESSES) as (_, near, far):
        refuse_publishing(channel_layer)
        data, files = {"chat_room_id": room, "content": "look"}, [("attachment", File("a.txt", b"text"))]
        answer = await asyncio.to_thread(Api(two, writer).call, "POST", "/chats/messages/create/", data, files=files)
        assert answer.status == 201
        here = (await near.expect("message", within=LATE))["data"]
        there = (await far.expect("message", within=LATE))["data"]
        assert here == there
        assert there["attachments"][0]["name"] == "a.txt"


async def test_two_processes_that_write_at_once_are_heard_in_one_order(two, trio):
    room = trio[-1]
    async with in_the_room(two, trio, PROCESSES) as clients:
        writer, near, far = clients
        await asyncio.gather(
            *(client.say(room, f"{name}{n}") for n in range(30) for name, client in (("w", writer), ("f", far)))
        )
        found = [await heard(client, 60) for client in clients]
        assert found[0] == found[1] == found[2]
        for name in "wf":
            assert [content for content in found[0] if content[0] == name] == [f"{name}{n}" for n in range(30)]


async def test_an_edit_that_nobody_could_be_told_of_is_told_when_redis_is_back(two, trio, channel_layer):
    writer, *_, room = trio
    api = Api(two, writer)
    async with in_the_room(two, trio, PROCESSES) as (here, near, far):
        await here.say(room, "wrong")
        message = (await here.expect("message"))["data"]["id"]
        for client in (near, far):
            await client.expect("message")
        channel_layer.stop()
        await asyncio.to_thread(api.ok, "PATCH", f"/chats/messages/{message}/", {"content": "right"})
        for client in (here, near):
            assert (await client.expect("room_update"))["data"]["message"]["content"] == "right"
        channel_layer.start()
        event = (await far.expect("room_update", within=LATE))["data"]
        assert (event["kind"], event["message"]["content"]) == ("message_edited", "right")


async def test_an_edit_that_could_not_be_published_is_told_when_it_can(two, trio, channel_layer):
    """The others hear all the time, and know of nothing that they have missed."""
    writer, *_, room = trio
    api = Api(two, writer)
    async with in_the_room(two, trio, PROCESSES) as (here, near, far):
        await here.say(room, "wrong")
        for client in (here, near, far):
            message = (await client.expect("message"))["data"]["id"]
        refuse_publishing(channel_layer)
        await asyncio.to_thread(api.ok, "PATCH", f"/chats/messages/{message}/", {"content": "right"})
        for client in (here, near):
            assert (await client.expect("room_update"))["data"]["message"]["content"] == "right"
        allow_publishing(channel_layer)
        event = (await far.expect("room_update", within=LATE))["data"]
        assert (event["kind"], event["message"]["content"]) == ("message_edited", "right")


async def test_the_answer_to_a_message_that_is_sent_again_overtakes_nothing(two, trio, channel_layer):
    """Who came back after it would ask for what follows it, and never get what was before."""
    writer, *_, room = trio
    async with in_the_room(two, trio, PROCESSES) as (here, near, far):
        refuse_publishing(channel_layer)
        again = {"room_id": room, "content": "three", "client_id": "again"}
        async with connected(two, writer.token, process=1) as other:
            # What is stored there comes here only by the database.
            await far.say(room, "one")
            await far.say(room, "two")
            assert await heard(far, 2) == ["one", "two"]
            await other.send("message", again)
            assert (await other.expect("message"))["data"]["content"] == "three"
        await here.send("message", again)
        assert await heard(here, 3) == ["one", "two", "three"]
        await here.settle()
        assert await heard(near, 3) == ["one", "two", "three"]
