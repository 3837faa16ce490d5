"""What a call of the HTTP API costs PostgreSQL: statements and rows, which are the same on any machine.

PostgreSQL logs the plan of each statement with what it really read (auto_explain).
"""

import json
import re
from dataclasses import dataclass

import pytest
from api import Api
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
HOUSEKEEPING = ("chat_serverprocess", "chat_presence", "django_session")
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
        with self._log.open() as log:
            log.seek(before)
            statements = list(_statements(log.read()))
        assert statements
        return answer, statements


def _statements(log):
    for found in re.finditer(r"^.*LOG:  duration: .* plan:\n((?:\t.*\n)+)", log, re.MULTILINE):
        explained = json.loads(found[1])
        if not any(name in explained["Query Text"] for name in HOUSEKEEPING):
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
    before = explained._log.stat().st_size
    assert explained.target.manage("shell", "--command", asked) == "1"
    with explained._log.open() as log:
        log.seek(before)
        assert sum(statement.rows for statement in _statements(log.read())) >= COUNT


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
