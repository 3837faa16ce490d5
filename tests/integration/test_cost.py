"""What a call of the HTTP API costs PostgreSQL: statements and rows, which are the same on any machine.

PostgreSQL logs the plan of each statement with what it really read (auto_explain).
"""

import asyncio
import json
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from api import Api
from client import connected, settled
from school import School
from services import PostgreSQL
from target import salon

EXPLAIN = (
    "session_preload_libraries=auto_explain",
    "auto_explain.log_min_duration=0",
    "auto_explain.log_analyze=on",
    "auto_explain.log_timing=off",
    "auto_explain.log_format=json",
    "autovacuum=off",
)
HOUSEKEEPING = ("chat_serverprocess", "chat_presence", "chat_change", "django_session")
"""What the server asks for by itself, now and then."""

REMOVED = ("Rows Removed by Filter", "Rows Removed by Join Filter", "Rows Removed by Index Recheck")
ANALYZE = "from django.db import connection; connection.cursor().execute('ANALYZE')"

COUNT = 10_000
FILL = """
from chat import journal
from chat.journal import Draft
from chat.models import User
from chat.people import person
sender = person(User.objects.get(pk=%(sender)d))
for start in range(0, %(count)d, 1000):
    journal.write([Draft(%(room)d, sender, f"m{n}") for n in range(start + 1, start + 1001)])
"""

MANY = 30
CROWD = """
from uuid import uuid4
from chat import journal, rooms
from chat.files import StoredFile
from chat.journal import Draft
from chat.models import School, User
from chat.people import person
teacher = User.objects.get(pk=%(teacher)d)
others = [User.objects.create(username=f"{teacher.username}-{n}", avatar="/a.png") for n in range(%(count)d)]
for number in range(%(count)d):
    room = rooms.create_room(f"R{number}", [teacher, *others])
    room.school = School.objects.create(name="S", code=f"{teacher.username}-{number}")
    room.save()
    journal.write([
        Draft(room.pk, person(user), "said", files=tuple(
            StoredFile(uuid4(), kind, "a.mp3", "audio/mpeg", 9) for kind in ("attachment", "voice_note")
        ))
        for user in others
    ])
print(room.pk)
"""


@dataclass
class Statement:
    """A statement that PostgreSQL ran, and the rows that it looked at in tables and indexes."""

    text: str
    rows: int


class Explained:
    """The server with a PostgreSQL that tells what it does."""

    def __init__(self, target, log):
        self.target = target
        self._log = log

    def get(self, person, path):
        """The answer to a call, and the statements that it took."""
        api = Api(self.target, person)
        # The first time notes that the messages have arrived.
        api.ok("GET", path)
        before = self._log.stat().st_size
        answer = api.ok("GET", path)
        # Before a connection is used after a rest, it is asked whether it lives.
        statements = [each for each in _statements(self._since(before)) if each.text != "SELECT 1"]
        assert statements
        return answer, statements

    def mark(self):
        """A moment, for `since`."""
        return self._log.stat().st_size

    def since(self, mark, but=HOUSEKEEPING):
        """The statements since a moment, without those that name one of some tables."""
        return list(_statements(self._since(mark), but))

    def _since(self, mark):
        with self._log.open() as log:
            log.seek(mark)
            return log.read()


def _statements(log, but=HOUSEKEEPING):
    for found in re.finditer(r"^.*LOG:  duration: .* plan:\n((?:\t.*\n)+)", log, re.MULTILINE):
        explained = json.loads(found[1])
        if not any(name in explained["Query Text"] for name in but):
            yield Statement(explained["Query Text"], round(sum(_rows(explained["Plan"]))))


def _rows(node):
    if "Relation Name" in node and node["Node Type"] != "ModifyTable":
        read = sum(node.get(name, 0) for name in ("Actual Rows", *REMOVED))
        yield read * node["Actual Loops"]
    else:
        yield sum(node.get(name, 0) for name in REMOVED) * node["Actual Loops"]
    for inner in node.get("Plans", ()):
        yield from _rows(inner)


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    with (
        PostgreSQL(*EXPLAIN) as postgresql,
        salon(tmp_path_factory.mktemp("explained"), {"DATABASE_URL": postgresql.url}) as target,
    ):
        yield Explained(target, postgresql.directory / "log")


@pytest.fixture(scope="module")
def long_room(explained):
    """A room with 10,000 messages, and somebody in it."""
    school = School(explained.target)
    teacher, pupil = school.person("Tara Teach", "teacher"), school.person("Paul Pupil")
    room = school.room("Long", teacher, pupil)
    explained.target.manage("shell", "--command", FILL % {"sender": teacher.id, "room": room, "count": COUNT})
    explained.target.manage("shell", "--command", ANALYZE)
    return room, pupil


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("before=51", f"before={COUNT + 1}"),
        ("after=0", f"after={COUNT - 50}"),
        ("offset=0", f"offset={COUNT - 50}"),
        ("before=51", "limit=50"),
        ("after=0&before=1000", f"after={COUNT - 50}&before={COUNT + 1}"),
    ],
)
def test_a_page_costs_the_same_wherever_it_is(explained, long_room, first, last):
    room, person = long_room
    costs = []
    for query, seq in ((first, 1), (last, COUNT - 49)):
        page, statements = explained.get(person, f"/chats/messages/?room_id={room}&{query}")
        assert [message["seq"] for message in page["results"]] == list(range(seq, seq + 50))
        costs.append([(re.sub(r"\d+", "N", statement.text), statement.rows) for statement in statements])
    assert costs[0] == costs[1]
    assert sum(rows for _, rows in costs[0]) < 250


@pytest.mark.parametrize("path", ["/chats/rooms/", "/chats/rooms/{room}/", "/chats/messages/"])
def test_a_long_room_is_not_read_to_be_shown(explained, long_room, path):
    room, person = long_room
    _, statements = explained.get(person, path.format(room=room))
    assert sum(statement.rows for statement in statements) < 500


def test_what_is_counted_is_what_is_read(explained, long_room):
    """The measure itself: a search that no index serves reads every message."""
    room, person = long_room
    asked = f"from chat.models import *; print(ChatMessage.objects.filter(room_id={room}, content='m9').count())"
    mark = explained.mark()
    assert explained.target.manage("shell", "--command", asked) == "1"
    assert sum(statement.rows for statement in explained.since(mark)) >= COUNT


@pytest.fixture(scope="module")
def few_and_many(explained):
    """Two teachers with their last room: one has 1 room with 1 other person and 1 message, the other has 30 of all."""
    school, found = School(explained.target), []
    for count in (1, MANY):
        teacher = school.person("Tara Teach", "teacher")
        room = explained.target.manage("shell", "--command", CROWD % {"teacher": teacher.id, "count": count})
        found.append((teacher, int(room)))
    explained.target.manage("shell", "--command", ANALYZE)
    return found


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/chats/rooms/", lambda body: len(body["results"])),
        ("/chats/rooms/{room}/", lambda body: len(body["messages"])),
        ("/chats/rooms/{room}/", lambda body: len(body["participants"]) - 1),
        ("/chats/messages/?room_id={room}", lambda body: len(body["results"])),
        ("/chats/messages/?limit=30", lambda body: len(body["results"])),
        ("/chats/messages/?limit=30&offset=0", lambda body: len(body["results"])),
    ],
    ids=["rooms", "messages of a room", "participants", "messages", "messages of all rooms", "by offset"],
)
def test_more_takes_no_more_statements(explained, few_and_many, path, shown):
    counts = []
    for (person, room), expected in zip(few_and_many, (1, MANY), strict=True):
        body, statements = explained.get(person, path.format(room=room))
        assert shown(body) == expected
        counts.append(len(statements))
    assert counts[0] == counts[1] < 15


async def test_who_types_is_asked_for_once(explained):
    school = School(explained.target)
    person, other = school.person("Tim Type"), school.person("Olga Other")
    room = school.room("R", person, other)
    async with connected(explained.target, person.token) as p, connected(explained.target, other.token) as o:
        await o.join(room)
        await p.join(room)
        mark = explained.mark()
        for _ in range(25):
            for is_typing in (True, False):
                await p.send("typing", {"room_id": room, "is_typing": is_typing})
                assert (await o.expect("typing"))["data"]["is_typing"] is is_typing
        assert explained.since(mark) == []


POLLS = 6
OLD_LINES = """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("INSERT INTO chat_change (user_id) SELECT 1 FROM generate_series(1, 100000)")
    cursor.execute("ANALYZE chat_change")
"""


async def test_who_does_nothing_costs_nothing(explained):
    """However many are here and however long the log is, the process only asks what is new in it, and now and then what
    is new in the rooms that they are in: by one query each."""
    school = School(explained.target)
    people = [school.person("Ida Idle") for _ in range(10)]
    room = school.room("R", *people)
    async with AsyncExitStack() as stack:
        for person in people:
            client = await stack.enter_async_context(settled(explained.target, person.token))
            await client.join(room)
        explained.target.manage("shell", "--command", OLD_LINES)
        # What is looked at because of them, and written down of those who came, has been when this has passed.
        await _polls(explained, explained.mark(), 2 * POLLS)
        mark = explained.mark()
        polls = await _polls(explained, mark, POLLS)
        asked = explained.since(mark)
        looks = [statement for statement in asked if "last_seq FROM chat_chatroom" in statement.text]
        assert 0 < len(looks) < POLLS
        # Whether its connection lives, the process asks for its sign of life every ten seconds, and not for each look.
        assert {statement.text for statement in asked if statement not in looks} <= {"SELECT 1"}
        assert max(poll.rows for poll in polls) < 10


async def _polls(explained, mark, count):
    """So many looks into the log of changes since a moment."""
    async with asyncio.timeout(30):
        while True:
            polls = [each for each in explained.since(mark, ()) if "pg_current_snapshot" in each.text]
            if len(polls) >= count:
                return polls
            await asyncio.sleep(0.1)
