"""A database that is slow for a while: what is stored is told, and nobody who has gone goes on."""

import asyncio
from contextlib import contextmanager

import psycopg
import pytest
from api import Api, File
from client import connected
from school import School
from target import salon

from waiting import wait_until

AT_LAST = 20
"""Seconds after which a time-out has passed, on a busy machine too."""


@pytest.fixture
def two(tmp_path, services):
    """Two processes of the test's own, with the database and Redis of the others."""
    environment = {name: services.environment[name] for name in ("REDIS_URL", "DATABASE_URL")}
    with salon(tmp_path, environment, processes=2) as target:
        yield target


@pytest.fixture
def pair(two):
    school = School(two)
    writer, reader = school.person("Wim Write"), school.person("Rita Read")
    return writer, reader, school.room("R", writer, reader)


@contextmanager
def held_up(target, room):
    """Nothing can be written in the room during the block."""
    with psycopg.connect(target.environment["DATABASE_URL"]) as connection:
        connection.execute("SELECT 1 FROM chat_chatroom WHERE id = %s FOR UPDATE", [room])
        yield
        connection.rollback()


@contextmanager
def slowed_down(target, room):
    """What is written in the room during the block is not done with before its end."""
    with psycopg.connect(target.environment["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE slow (room_id bigint);"
            "CREATE FUNCTION slow_down() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " WHILE EXISTS (SELECT FROM slow WHERE room_id = NEW.room_id) LOOP PERFORM pg_sleep(0.01); END LOOP;"
            " RETURN NEW; END $$;"
            "CREATE TRIGGER slow_down BEFORE INSERT ON chat_chatmessage FOR EACH ROW EXECUTE FUNCTION slow_down()"
        )
        connection.execute("INSERT INTO slow VALUES (%s)", [room])
        try:
            yield
        finally:
            connection.execute("DELETE FROM slow")
            # Waits until it is.
            connection.execute("DROP TRIGGER slow_down ON chat_chatmessage")
            connection.execute("DROP FUNCTION slow_down")
            connection.execute("DROP TABLE slow")


def is_waiting(target):
    """Whether somebody waits for a lock."""
    with psycopg.connect(target.environment["DATABASE_URL"]) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return connection.execute(query).fetchone()[0] > 0


async def test_what_is_stored_too_late_is_told_all_the_same(two, pair):
    writer, reader, room = pair
    async with connected(two, writer.token) as w, connected(two, reader.token, process=1) as r:
        await w.join(room)
        await r.join(room)
        data = {"room_id": room, "content": "slow", "client_id": "one"}
        with held_up(two, room):
            await w.send("message", data)
            event = await w.expect("error", within=AT_LAST)
            assert (event["data"]["code"], event["data"]["client_id"]) == ("unavailable", "one")
        heard = (await r.expect("message"))["data"]
        assert heard["content"] == "slow"
        assert (await w.expect("message"))["data"] == heard
        await w.send("message", data)
        assert (await w.expect("message"))["data"] == heard
        await r.settle()


def end_the_journal(target):
    """End the connections on which messages are stored, whatever they are at; how many there were."""
    with psycopg.connect(target.environment["DATABASE_URL"]) as connection:
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ %s AND pid != pg_backend_pid()"
        return len(connection.execute(query, [r"^\s*PREPARE store"]).fetchall())


async def test_the_journal_finds_a_new_connection(two, pair):
    writer, _, room = pair
    async with connected(two, writer.token) as w:
        await w.join(room)
        for content in ("one", "two"):
            await w.say(room, content)
            event = await w.receive()
            if event["type"] == "error":
                # The process had not heard yet that its connection had ended.
                assert event["data"]["code"] == "unavailable"
                await w.say(room, content)
                event = await w.receive()
            assert event["data"]["content"] == content
            assert await asyncio.to_thread(end_the_journal, two)


async def said_at_last(client, data):
    """The message, which is sent again while the room is not free yet."""
    async with asyncio.timeout(AT_LAST):
        while True:
            await client.send("message", data)
            event = await client.receive()
            if event["type"] == "message":
                return event["data"]
            assert event["data"]["code"] == "unavailable", event
            await asyncio.sleep(event["data"]["retry_after"])


async def test_a_connection_that_ends_in_the_midst_of_a_message_is_told_and_stores_nothing_twice(two, pair):
    writer, _, room = pair
    async with connected(two, writer.token) as w:
        await w.join(room)
        data = {"room_id": room, "content": "once", "client_id": "one"}
        with held_up(two, room):
            await w.send("message", data)
            await asyncio.to_thread(wait_until, lambda: is_waiting(two), "the message to be on its way")
            # Between two tries it is on none.
            await asyncio.to_thread(wait_until, lambda: end_the_journal(two), "a connection that stores")
            event = await w.expect("error", within=AT_LAST)
            assert (event["data"]["code"], event["data"]["client_id"]) == ("unavailable", "one")
        for _ in range(2):
            assert (await said_at_last(w, data))["seq"] == 1


async def test_a_file_of_a_message_that_is_stored_too_late_is_kept(two, pair):
    writer, reader, room = pair
    api = Api(two, writer)
    async with connected(two, reader.token, process=1) as r:
        await r.join(room)
        data, files = {"chat_room_id": room, "content": "x"}, [("attachment", File("a.txt", b"text"))]
        with slowed_down(two, room):
            answer = await asyncio.to_thread(api.call, "POST", "/chats/messages/create/", data, files=files)
            assert answer.status == 503
        url = (await r.expect("message"))["data"]["attachment_url"]
    assert api.call("GET", url[url.index("/chats") :]).body == b"text"


async def test_who_goes_while_her_row_is_held_is_gone_all_the_same(two, pair):
    writer, reader, room = pair
    async with connected(two, reader.token, process=1) as r:
        await r.join(room)
        async with connected(two, writer.token) as w:
            await w.join(room)
        with psycopg.connect(two.environment["DATABASE_URL"]) as connection:
            connection.execute("SELECT 1 FROM chat_user WHERE id = %s FOR UPDATE", [writer.id])
            await asyncio.to_thread(wait_until, lambda: is_waiting(two), "her going to wait for her row")
            # Longer than anybody waits.
            await asyncio.to_thread(wait_until, lambda: not is_waiting(two), "the first try to be given up")
            connection.rollback()
        async with asyncio.timeout(AT_LAST):
            while (event := await r.receive())["data"].get("status") != "offline":
                pass
        assert event["data"]["user_id"] == writer.id


async def test_what_is_being_stored_when_the_process_ends_is_told(two, pair):
    writer, reader, room = pair
    async with connected(two, reader.token, process=1) as r:
        await r.join(room)
        async with connected(two, writer.token) as w:
            await w.join(room)
            with held_up(two, room):
                await w.say(room, "last words")
                await asyncio.to_thread(wait_until, lambda: is_waiting(two), "the message to be on its way")
                two.processes[0].terminate()
            assert (await r.expect("message"))["data"]["content"] == "last words"


async def test_what_waits_behind_a_revocation_is_not_said(two, pair):
    writer, reader, room = pair
    async with connected(two, writer.token) as w, connected(two, reader.token, process=1) as r:
        await r.join(room)
        with held_up(two, room):
            for content in ("before", "after"):
                await w.say(room, content)
            await asyncio.to_thread(wait_until, lambda: is_waiting(two), "the first message to be on its way")
            two.manage("revoke", writer.username)
            await w.error("revoked")
        assert (await r.expect("message"))["data"]["content"] == "before"
        await r.say(room, "and then?")
        assert (await r.expect("message"))["data"]["content"] == "and then?"


async def test_who_is_held_up_holds_up_nobody_else(two, pair):
    held, free, room = pair
    with psycopg.connect(two.environment["DATABASE_URL"]) as connection:
        connection.execute("SELECT 1 FROM chat_user WHERE id = %s FOR UPDATE", [held.id])
        async with connected(two, held.token) as h, connected(two, free.token) as f:
            await f.settle()
            await f.join(room)
            connection.rollback()
            await h.settle()
            await f.status(held, "online")
