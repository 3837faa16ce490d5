"""A database that goes away: everybody is told at once, nobody is dropped, nothing acknowledged is lost."""

import asyncio
import functools
import re
import socket
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from itertools import count

import psycopg
import pytest
from api import Api, File
from browser_session import BrowserSession
from client import in_the_room
from school import School
from services import PostgreSQL
from target import salon

from waiting import wait_until

AT_LAST = 30
"""Seconds after which what is to come has come, on a busy machine too."""

SOON = 10
"""Seconds that a busy machine may take for what takes two."""


@pytest.fixture
def database():
    """A PostgreSQL of the test's own."""
    with PostgreSQL() as server:
        yield server


@pytest.fixture
def two(tmp_path, backends, database):
    """Two processes with it."""
    environment = {"REDIS_URL": backends["REDIS_URL"], "DATABASE_URL": database.url}
    with salon(tmp_path, environment, processes=2) as target:
        target.logs = sorted(tmp_path.glob("server-*.log"))
        yield target


@pytest.fixture
def trio(two):
    school = School(two)
    people = [school.person(name) for name in ("Wim Write", "Rita Read", "Otto Other")]
    return *people, school.room("R", *people)


class Writer:
    """Somebody who writes until all of it was acknowledged: what is refused, she sends again when she is told to."""

    def __init__(self, client, room, name):
        self._client, self._room, self._name = client, room, name
        self.acknowledged = {}
        """Her messages' sequence numbers, by their contents."""
        self.heard = []
        """Contents and sequence numbers of all messages, as they came."""
        self.refusals = 0

    async def write(self, numbers):
        """Write as many messages as there are numbers."""
        waiting = [f"{self._name}-{number}" for number in numbers]
        for content in waiting:
            await self._say(content)
        async with asyncio.timeout(AT_LAST):
            while not self.acknowledged.keys() >= set(waiting):
                await self._hear()

    async def hear(self, total):
        """Wait until so many messages have come in all."""
        async with asyncio.timeout(AT_LAST):
            while len(self.heard) < total:
                await self._hear()

    async def _say(self, content):
        await self._client.send("message", {"room_id": self._room, "content": content, "client_id": content})

    async def _hear(self):
        event = await self._client.receive(AT_LAST)
        data = event["data"]
        if event["type"] == "message":
            again = (data["content"], data["seq"])
            if again not in self.heard:
                self.heard.append(again)
            if data["content"].startswith(f"{self._name}-"):
                self.acknowledged[data["content"]] = data["seq"]
        elif event["type"] == "error":
            assert data["code"] == "unavailable", data
            assert 0 < data["retry_after"] <= 2
            self.refusals += 1
            await asyncio.sleep(data["retry_after"])
            await self._say(data["client_id"])


def stored(database, room):
    """Contents and sequence numbers of a room's messages in the database, in order."""
    with psycopg.connect(database.url) as connection:
        query = "SELECT content, seq FROM chat_chatmessage WHERE room_id = %s ORDER BY seq"
        return connection.execute(query, [room]).fetchall()


def end_sessions(database):
    """End all connections of others; how many there were."""
    with psycopg.connect(database.url) as connection:
        query = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return len(connection.execute(query).fetchall())


def said(target, sentence):
    """How many lines of each process's log hold this."""
    return [len(re.findall(sentence, log.read_text())) for log in target.logs]


async def check_whole(database, room, writers):
    """Everything that was acknowledged is stored once, without a gap, and everybody has seen all of it in order."""
    found = await asyncio.to_thread(stored, database, room)
    assert [seq for _, seq in found] == list(range(1, len(found) + 1))
    assert max(Counter(content for content, _ in found).values()) == 1
    for writer in writers:
        await writer.hear(len(found))
        assert writer.heard == found
        assert writer.acknowledged.items() <= dict(found).items()


def restart(database):
    database.stop()
    database.start()


def kill(database):
    """As if the machine had lost it: not even what is under way is ended."""
    database._process.kill()
    database._process.wait()
    database._stack.close()
    # The dead server's own processes notice by themselves that it is gone.
    wait_until(lambda: _starts(database), "PostgreSQL to start again")


def _starts(database):
    with suppress(OSError):
        (database._data / "postmaster.pid").unlink()
    try:
        database.start()
    except Exception:  # noqa: BLE001 (whatever keeps it from starting)
        database._stack.close()
        return False
    return True


@pytest.mark.parametrize("fault", [end_sessions, restart, kill], ids=lambda each: each.__name__)
async def test_nothing_is_lost_or_doubled_under_load(two, trio, database, fault):
    room = trio[-1]
    async with in_the_room(two, trio, (0, 1, 0)) as clients:
        writers = [Writer(client, room, f"w{number}") for number, client in enumerate(clients)]
        numbers = count()
        for _ in range(2):
            await asyncio.gather(
                *(writer.write(range(start, start + 5)) for writer, start in _starts_of(writers, numbers))
            )
            struck = asyncio.create_task(asyncio.to_thread(fault, database))
            await asyncio.gather(
                *(writer.write(range(start, start + 25)) for writer, start in _starts_of(writers, numbers))
            )
            await struck
        await asyncio.gather(*(writer.write(range(start, start + 5)) for writer, start in _starts_of(writers, numbers)))
        await check_whole(database, room, writers)


def _starts_of(writers, numbers):
    return [(writer, next(numbers) * 100) for writer in writers]


async def test_everybody_is_told_at_once_and_the_log_once(two, trio, database):
    writer, reader, _, room = trio
    async with in_the_room(two, trio, (0, 1, 0)) as (w, r, o):
        database.stop()
        wait_until(lambda: said(two, "The database does not answer") == [1, 1], "both processes to notice")
        for number in range(20):
            await w.send("message", {"room_id": room, "content": "x", "client_id": str(number)})
        for number in range(20):
            event = await w.expect("error", within=SOON)
            assert (event["data"]["code"], event["data"]["client_id"]) == ("unavailable", str(number))
            assert event["data"]["retry_after"] > 0
        # What leaves no trace goes on.
        await w.send("typing", {"room_id": room, "is_typing": True})
        for client in (r, o):
            assert (await client.expect("typing"))["data"]["user_id"] == writer.id
        status, state = await asyncio.to_thread(two.ready, 0)
        assert (status, state["channel_layer"]) == (503, "ok")
        answer = await asyncio.to_thread(Api(two, writer).call, "GET", "/chats/rooms/")
        assert (answer.status, "Retry-After" in answer.headers) == (503, True)
        assert re.search(r"has not answered for \d+ seconds", state["database"])
        database.start()
        await asyncio.to_thread(wait_until, lambda: two.ready(0)[0] == two.ready(1)[0] == 200, "both to be ready")
        await r.say(room, "back")
        for client in (w, r, o):
            assert (await client.expect("message"))["data"]["content"] == "back"
        assert said(two, "The database does not answer") == [1, 1]
        assert said(two, "The database answers again, after") == [1, 1]
        assert said(two, '"level":"(error|warning)"') == [2, 2]


def test_pages_say_so_and_the_log_says_it_once(two, trio, database):
    boss = BrowserSession(two)
    two.manage("create_user", "boss", "--superuser", "--password-stdin", stdin="correct horse\n")
    boss.login("boss", "correct horse")
    pages = ("/", "/login/", "/admin/", "/admin/chat/chatroom/", "/admin/login/")
    assert [boss.get(page)[0] for page in pages] == [200, 302, 200, 200, 302]
    database.stop()
    # Before anybody has noticed, and afterwards.
    for _ in range(2):
        for page in pages:
            status, headers, text = boss.get(page)
            assert (status, headers["Retry-After"]) == (503, "1"), page
            assert "cannot reach its database" in text
        wait_until(lambda: sum(said(two, "The database does not answer")) == 1, "the process to notice")
    assert boss.get("/docs/")[0] == 200
    assert "joindre sa base" in boss.get("/", **{"Accept-Language": "fr"})[2]
    database.start()
    wait_until(lambda: two.ready(0)[0] == 200, "it to be ready")
    assert [boss.get(page)[0] for page in pages] == [200, 302, 200, 200, 302]
    assert sum(said(two, '"level":"(error|warning)"')) == 2
    assert said(two, '"trace"') == [0, 0]


def test_a_page_that_is_under_way_when_the_database_hangs_is_answered(two, database):
    somebody, wrong = BrowserSession(two), {"username": "somebody", "password": "wrong"}
    status, _, form = somebody.submit("/login/", wrong)
    assert status == 200
    database.pause()
    try:
        assert somebody.send("/login/", form, wrong)[0] == 503
    finally:
        database.resume()


def test_who_only_calls_the_http_api_finds_out_that_it_is_away(two, trio, database):
    """Nobody has connected to this process, and nobody asks whether it is ready."""
    api = Api(two, trio[0])
    assert api.call("GET", "/chats/rooms/").status == 200
    database.stop()
    assert api.call("GET", "/chats/rooms/").status == 503
    wait_until(lambda: sum(said(two, "The database does not answer")) == 1, "the process to notice")
    database.start()
    wait_until(lambda: sum(said(two, "The database answers again")) == 1, "the process to notice")
    assert api.call("GET", "/chats/rooms/").status == 200


async def test_the_tenth_in_a_row_does_not_wait_ten_times(two, trio, database):
    room = trio[-1]
    async with in_the_room(two, trio, (0, 1, 0)) as (w, _, o):
        database.pause()
        try:
            async with asyncio.timeout(SOON):
                for number in range(10):
                    await w.send("message", {"room_id": room, "content": f"m{number}", "client_id": str(number)})
                for number in range(10):
                    event = await w.expect("error")
                    assert (event["data"]["code"], event["data"]["client_id"]) == ("unavailable", str(number))
            await w.settle()
            status, _ = await asyncio.to_thread(two.ready, 1)
            assert status == 503
        finally:
            database.resume()
        await asyncio.to_thread(wait_until, lambda: two.ready(0)[0] == two.ready(1)[0] == 200, "both to be ready")
        writer = Writer(w, room, "again")
        await writer.write(range(3))
        found = await asyncio.to_thread(stored, database, room)
        # What was under way when it stopped may be stored, once.
        assert max(Counter(content for content, _ in found).values()) == 1
        assert writer.acknowledged.items() <= dict(found).items()


async def test_other_rooms_go_on_beside_one_that_is_locked(two, trio, database):
    school = School(two)
    *people, locked = trio
    free = await asyncio.to_thread(school.room, "Free", *people)
    async with in_the_room(two, trio, (0, 1, 0)) as (w, r, _):
        await w.join(free)
        await r.join(free)
        with psycopg.connect(database.url) as connection:
            connection.execute("SELECT 1 FROM chat_chatroom WHERE id = %s FOR UPDATE", [locked])
            await w.send("message", {"room_id": locked, "content": "first", "client_id": "1"})
            for number in range(5):
                await r.say(free, f"m{number}")
                assert (await r.expect("message", within=SOON))["data"]["content"] == f"m{number}"
            # Of the locked room she hears within the two seconds that she was promised, or gets it stored.
            events = [await w.receive(SOON) for _ in range(6)]
            assert [each["data"]["code"] for each in events if each["type"] == "error"] == ["unavailable"]
            connection.rollback()


WAITS = r"SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid)) AND query ~ '^\s*PREPARE store'"


def stores_for(database, holder):
    """Whether a message that is being stored waits for a lock of this process of the database's."""
    with psycopg.connect(database.url) as connection:
        return connection.execute(WAITS, [holder]).fetchone()[0] > 0


@pytest.mark.parametrize("table", ["chat_user", "chat_membership"])
async def test_a_locked_person_holds_up_nobody_else_in_her_room(two, trio, database, table):
    writer, _, _, room = trio
    column = {"chat_user": "id", "chat_membership": "user_id"}[table]
    async with in_the_room(two, trio, (0, 0, 1)) as (w, r, o):
        with psycopg.connect(database.url) as connection:
            connection.execute(f"SELECT 1 FROM {table} WHERE {column} = %s FOR UPDATE", [writer.id])  # noqa: S608
            holder = connection.info.backend_pid
            await w.say(room, "held")
            await r.settle()
            for client in (r, o):
                await client.say(room, "free")
            for client in (r, o):
                assert [(await client.expect("message"))["data"]["content"] for _ in range(2)] == ["free", "free"]
            # Hers came before and is put aside: what waits in the database for her lock keeps the room from everybody.
            assert not any([await asyncio.to_thread(stores_for, database, holder) for _ in range(30)])
            connection.rollback()


async def test_locked_rooms_do_not_wait_for_each_other(two, trio, database):
    """What finds the second lock, and what waits for the first, ask the database at the same time."""
    school = School(two)
    *people, first = trio
    second = await asyncio.to_thread(school.room, "Second", *people)
    async with in_the_room(two, trio, (0, 0, 0)) as (w, r, _):
        await r.join(second)
        lock = "SELECT 1 FROM chat_chatroom WHERE id = %s FOR UPDATE"
        with psycopg.connect(database.url) as one, psycopg.connect(database.url) as other:
            one.execute(lock, [first])
            other.execute(lock, [second])
            waiting = Writer(w, first, "w"), Writer(r, second, "r")
            writing = [asyncio.create_task(writer.write(range(5))) for writer in waiting]
            await asyncio.to_thread(
                wait_until, lambda: all(writer.refusals for writer in waiting), "both to be refused"
            )
            other.rollback()
            await writing[1]
            assert not writing[0].done()
            one.rollback()
            await writing[0]
        assert [seq for _, seq in await asyncio.to_thread(stored, database, first)] == [1, 2, 3, 4, 5]


REFUSALS = {
    "full disk": (
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$;"
        "CREATE TRIGGER full_disk BEFORE INSERT ON chat_chatmessage EXECUTE FUNCTION full_disk()",
        "DROP TRIGGER full_disk ON chat_chatmessage",
    ),
    # What holds for connections that are made from then on; those that are there stay as they are.
    "read only": (
        "ALTER DATABASE salon SET default_transaction_read_only = on",
        "ALTER DATABASE salon SET default_transaction_read_only = off",
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_database_that_stores_nothing_is_told_of_once(two, trio, database, refusal):
    writer, *_, room = trio
    begin, end = REFUSALS[refusal]
    async with in_the_room(two, trio, (0, 1, 0)) as (w, _, o):
        with psycopg.connect(database.url, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(begin)
            if refusal == "read only":
                end_sessions(database)
        with psycopg.connect(database.url, options="-c default_transaction_read_only=off", autocommit=True) as other:
            for number in range(5):
                await w.send("message", {"room_id": room, "content": "x", "client_id": str(number)})
                event = await w.expect("error", within=SOON)
                assert (event["data"]["code"], event["data"]["client_id"]) == ("unavailable", str(number))
                assert event["data"]["retry_after"] > 0
            assert sum(said(two, "The database stores no messages")) == 1
            answers = [await asyncio.to_thread(two.ready, number) for number in range(2)]
            assert sorted(status for status, _ in answers) == [200, 503]
            (state,) = [state for status, state in answers if status == 503]
            assert (state["database"], state["channel_layer"]) == ("ok", "ok")
            assert re.fullmatch(r"No message could be stored for \d+ seconds\.", state["storage"])
            # What only reads goes on.
            assert (await asyncio.to_thread(Api(two, writer).call, "GET", "/chats/rooms/")).status == 200
            other.execute(end)
        # Though nobody sends a message.
        await asyncio.to_thread(wait_until, lambda: two.ready(0)[0] == two.ready(1)[0] == 200, "both to be ready")
        assert "storage" not in (await asyncio.to_thread(two.ready, 0))[1]
        await w.say(room, "there is room again")
        for client in (w, o):
            assert (await client.expect("message"))["data"]["seq"] == 1
        data, files = {"chat_room_id": room, "content": "x"}, [("attachment", File("a.txt", b"a"))]
        for _ in range(4):
            answer = await asyncio.to_thread(
                Api(two, writer).call, "POST", "/chats/messages/create/", data, files=files
            )
            assert answer.status == 201
        assert sum(said(two, "The database stores no messages")) == 1
        assert sum(said(two, "The database stores messages again")) == 1


async def test_a_message_that_ends_every_connection_is_refused_and_takes_no_other_with_it(two, trio, database):
    room = trio[-1]
    async with in_the_room(two, trio, (0, 0, 1)) as (w, r, o):
        with psycopg.connect(database.url, autocommit=True) as connection:
            connection.execute(
                "CREATE FUNCTION end_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " IF NEW.content = 'poison' THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;"
                " RETURN NEW; END $$"
            )
            connection.execute(
                "CREATE TRIGGER end_it BEFORE INSERT ON chat_chatmessage FOR EACH ROW EXECUTE FUNCTION end_it()"
            )
        await w.send("message", {"room_id": room, "content": "poison", "client_id": "1"})
        event = await w.expect("error", within=SOON)
        assert (event["data"]["code"], event["data"]["client_id"]) == ("internal", "1")
        # The next one may still meet the connections that this one has cost.
        writers = [Writer(client, room, f"w{number}") for number, client in enumerate((w, r, o))]
        await asyncio.gather(*(writer.write(range(3)) for writer in writers))
        await check_whole(database, room, writers)
    assert sum(said(two, "was not stored: 5 times in a row the database has ended the connection")) == 1


async def test_no_file_stays_of_a_message_that_is_not_stored(two, trio, database, tmp_path):
    """It is on its way to a room that is locked for longer than anybody waits."""
    writer, _, _, room = trio
    call = functools.partial(Api(two, writer).call, "POST", "/chats/messages/create/")
    data = {"chat_room_id": room, "content": "x", "client_id": "one"}
    assert call(data, files=[("attachment", File("a.txt", b"a"))]).status == 201
    with psycopg.connect(database.url) as connection:
        connection.execute("SELECT 1 FROM chat_chatroom WHERE id = %s FOR UPDATE", [room])
        sent = [data | {"client_id": name} for name in ("one", "two", "three", "four")]
        answers = await asyncio.gather(
            *(asyncio.to_thread(call, each, files=[("attachment", File("a.txt", b"a"))]) for each in sent)
        )
        assert [answer.status for answer in answers] == [503] * 4
        # Who may no longer write there has nothing stored, whatever is still on its way.
        connection.execute("DELETE FROM chat_membership WHERE user_id = %s", [writer.id])
        connection.commit()
    await asyncio.to_thread(wait_until, lambda: len(kept_files(tmp_path)) == 1, "the files to be removed")


def kept_files(directory):
    return [path for path in (directory / "files").rglob("*") if path.is_file()]


class Hole:
    """A TCP proxy that can swallow everything: what comes is not passed on, and who connects gets no answer."""

    def __init__(self, path):
        self._path = path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._is_open = threading.Event()
        self._is_open.set()
        self._accepted = 0
        self._forgotten = 0
        """So many connections, the first ones, are swallowed for ever."""
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self):
        self._is_open.clear()

    def go_on(self, *, forgetful=False):
        """Pass on what comes from now on; but where it is forgetful, not on connections that were made before."""
        if forgetful:
            self._forgotten = self._accepted
        self._is_open.set()

    def close(self):
        self._is_open.set()
        self._listener.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._accepted += 1
                threading.Thread(target=self._serve, args=(near, self._accepted), daemon=True).start()

    def _serve(self, near, number):
        self._is_open.wait()
        with suppress(OSError), near, socket.socket(socket.AF_UNIX) as far:
            far.connect(self._path)
            back = threading.Thread(target=self._pass_on, args=(far, near, number), daemon=True)
            back.start()
            self._pass_on(near, far, number)
            back.join()

    def _pass_on(self, one, other, number):
        with suppress(OSError):
            while data := one.recv(65536):
                self._is_open.wait()
                if number > self._forgotten:
                    other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def hole_before(database):
    hole = Hole(str(database.directory / ".s.PGSQL.5432"))
    try:
        yield hole
    finally:
        hole.close()


@pytest.mark.parametrize("forgetful", [False, True])
async def test_a_link_that_swallows_everything_is_noticed_and_its_return_too(tmp_path, backends, database, forgetful):
    with hole_before(database) as hole:
        environment = {
            "REDIS_URL": backends["REDIS_URL"],
            "DATABASE_URL": f"postgresql://salon@127.0.0.1:{hole.port}/salon",
        }
        with salon(tmp_path, environment, processes=2) as target:
            school = School(target)
            people = [school.person(name) for name in ("Wim Write", "Rita Read")]
            room = school.room("R", *people)
            async with in_the_room(target, (*people, room), (0, 1)) as clients:
                writers = [Writer(client, room, f"w{number}") for number, client in enumerate(clients)]
                await asyncio.gather(*(writer.write(range(3)) for writer in writers))
                await asyncio.gather(*(writer.hear(6) for writer in writers))
                api = Api(target, people[0])
                ask = functools.partial(asyncio.to_thread, api.call, "GET", "/chats/rooms/")
                assert [answer.status for answer in await asyncio.gather(*(ask() for _ in range(8)))] == [200] * 8
                hole.swallow()
                for number, client in enumerate(clients):
                    await client.send("message", {"room_id": room, "content": "lost?", "client_id": f"w{number}-lost"})
                    event = await client.expect("error", within=SOON)
                    assert event["data"]["code"] == "unavailable"
                    await client.settle()
                hole.go_on(forgetful=forgetful)
                await asyncio.to_thread(
                    wait_until, lambda: target.ready(0)[0] == target.ready(1)[0] == 200, "its return"
                )
                # Nobody waits for an answer on a connection that the link has forgotten.
                async with asyncio.timeout(SOON):
                    assert [answer.status for answer in await asyncio.gather(*(ask() for _ in range(8)))] == [200] * 8
                refusals = [writer.refusals for writer in writers]
                await asyncio.gather(*(writer.write(range(10, 15)) for writer in writers))
                assert [writer.refusals for writer in writers] == refusals
                found = await asyncio.to_thread(stored, database, room)
                assert [seq for _, seq in found] == list(range(1, len(found) + 1))
                for writer in writers:
                    assert writer.acknowledged.items() <= dict(found).items()
            # What still waits for an answer there keeps no process from ending.
            for process in target.processes:
                process.terminate()
            assert [await asyncio.to_thread(process.wait, SOON) for process in target.processes] == [0, 0]
