"""Nothing comes through Redis, or the database goes away for a while: what has changed holds all the same."""

import pytest
from client import connected
from eventually import answer_to_message, answer_to_typing, sql, until
from school import School
from services import PostgreSQL, Redis
from target import salon


@pytest.fixture
def redis():
    with Redis() as redis:
        yield redis
        redis.resume()


@pytest.fixture
def deaf(tmp_path, redis, services):
    """Two processes with the database of the others, and a Redis of the test's own."""
    environment = {"REDIS_URL": redis.url, "DATABASE_URL": services.environment["DATABASE_URL"]}
    with salon(tmp_path, environment, processes=2) as target:
        yield target


RENAME = "UPDATE chat_user SET first_name = %s, last_name = %s WHERE id = %s"


@pytest.mark.parametrize("how", ["paused", "restarted"])
async def test_what_redis_does_not_tell_is_known(deaf, redis, how):
    school = School(deaf)
    anna, ben, cleo = (school.person(name) for name in ("Anna A", "Ben B", "Cleo C"))
    room = school.room("R", anna, ben, cleo)
    async with (
        connected(deaf, anna.token) as a,
        connected(deaf, ben.token, process=1) as b,
        connected(deaf, cleo.token, process=1) as c,
    ):
        # Anna has not joined: so her own messages do not take the way through Redis to her.
        for client in (b, c):
            await client.join(room)
        for client in (a, b, c):
            assert await answer_to_typing(client, room) is None
        if how == "paused":
            redis.pause()
        else:
            redis.stop()
        # The notices of the admin and the commands are lost now, as if it were done by SQL.
        sql(deaf, "DELETE FROM chat_membership WHERE room_id = %s AND user_id = %s", room, ben.id)
        sql(deaf, "UPDATE chat_user SET is_active = %s WHERE id = %s", False, cleo.id)
        sql(deaf, RENAME, "New", "Name", anna.id)
        while (event := await b.receive())["type"] != "room_update":
            pass
        assert (event["data"]["room_id"], event["data"]["kind"]) == (room, "participants_removed")
        while (event := await c.receive())["type"] != "error":
            pass
        assert event["data"]["code"] == "revoked"
        assert await c.closed() == 4401
        if how == "paused":
            redis.resume()
        else:
            redis.start()
        await until(lambda: answer_to_typing(b, room), "invalid_room")
        shown = {"id": anna.id, "name": "New Name", "role": "student", "avatar": None}
        await until(lambda: answer_to_message(a, room), shown)


async def test_a_database_that_restarts_costs_no_change(tmp_path):
    with PostgreSQL() as postgresql, salon(tmp_path, {"DATABASE_URL": postgresql.url}) as target:
        school = School(target)
        anna, ben = school.person("Anna A"), school.person("Ben B")
        room = school.room("R", anna, ben)
        async with connected(target, anna.token) as a, connected(target, ben.token) as b:
            for client in (a, b):
                await client.join(room)
                assert await answer_to_typing(client, room) is None
            postgresql.stop()
            postgresql.start()
            sql(target, "DELETE FROM chat_membership WHERE room_id = %s AND user_id = %s", room, ben.id)
            while (event := await b.receive())["type"] != "room_update":
                pass
            assert event["data"]["kind"] == "participants_removed"
            await until(lambda: answer_to_typing(b, room), "invalid_room")
            await until(lambda: answer_to_typing(a, room), None)
