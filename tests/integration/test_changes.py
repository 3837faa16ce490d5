"""The log of changes as the database writes it, and as it is read, on both databases."""

import json
import uuid
from contextlib import contextmanager

import psycopg
import pytest
from school import School

PRELUDE = """
import json
from dataclasses import asdict
from django.db import connection, transaction
from django.utils import timezone
from chat import auth, changes, journal, messages, rooms
from chat.changes import Place
from chat.models import *
from chat.people import person

def sql(statement, *values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)

def show(place, found):
    found = asdict(found)
    everything = found.pop("everything")
    print(json.dumps([asdict(place), everything or {name: sorted(each) for name, each in found.items() if each}]))
"""


class Log:
    """The log of a target, and the database beside it."""

    def __init__(self, target):
        self.target = target

    def run(self, code):
        return self.target.manage("shell", "--command", f"{PRELUDE}\n{code}")

    def read(self, since=None):
        """The place up to which the log was read, and what has changed since the other place; or True: anything."""
        return json.loads(self.run(f"show(*changes.read({'None' if since is None else f'Place(**{since!r})'}))"))

    def changed_by(self, code):
        """What a piece of code leaves in the log."""
        place, _ = self.read()
        self.run(code)
        return self.read(place)[1]


@pytest.fixture
def log(target):
    return Log(target)


@pytest.fixture
def dora(school):
    return school.person("Dora Ito", "teacher")


@pytest.fixture
def club(school, dora, alice):
    return school.room("Club", dora, alice)


USER, ROOM, MEMBERSHIP = "{user}", "{room}", "[{room}, {user}]"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ('sql("UPDATE chat_user SET first_name = %s WHERE id = {user}", "Dorothy")', {"people": USER}),
        ('sql("UPDATE chat_user SET last_name = %s WHERE id = {user}", "X")', {"people": USER}),
        ('sql("UPDATE chat_user SET username = username || %s WHERE id = {user}", "x")', {"people": USER}),
        ('sql("UPDATE chat_user SET role = %s WHERE id = {user}", "student")', {"people": USER}),
        ('sql("UPDATE chat_user SET avatar = %s WHERE id = {user}", "/a.png")', {"people": USER}),
        ('sql("UPDATE chat_user SET is_active = %s WHERE id = {user}", False)', {"people": USER}),
        ('sql("UPDATE chat_user SET tokens_valid_after = %s WHERE id = {user}", timezone.now())', {"people": USER}),
        ("auth.revoke_all(User.objects.get(pk={user}))", {"people": USER}),
        ('sql("UPDATE chat_user SET password = %s WHERE id = {user}", "x{user}")', {"people": USER}),
        (
            "from django.contrib.sessions.models import Session\n"
            "Session.objects.create(pk='s{room}', session_data='', expire_date=timezone.now()).delete()",
            {"tokens": '"session:s{room}"'},
        ),
        ('sql("UPDATE chat_chatroom SET name = %s WHERE id = {room}", "Renamed")', {"rooms": ROOM}),
        ('sql("UPDATE chat_chatroom SET room_type = %s WHERE id = {room}", "announcement")', {"rooms": ROOM}),
        ('sql("UPDATE chat_chatroom SET is_deleted = %s WHERE id = {room}", True)', {"rooms": ROOM}),
        ('sql("DELETE FROM chat_membership WHERE room_id = {room} AND user_id = {user}")', {"memberships": MEMBERSHIP}),
        ("Membership.objects.filter(room={room}, user={user}).delete()", {"memberships": MEMBERSHIP}),
        (
            'sql("UPDATE chat_membership SET user_id = {other} WHERE room_id = {room} AND user_id = {user}")',
            {"memberships": "[{room}, {user}], [{room}, {other}]"},
        ),
        ("Membership.objects.create(room_id={room}, user_id={other})", {"memberships": "[{room}, {other}]"}),
        ("rooms._add(ChatRoom.objects.get(pk={room}), [User(pk={other})])", {"memberships": "[{room}, {other}]"}),
        (
            "User.objects.get(pk={user}).delete()",
            {"memberships": MEMBERSHIP, "people": USER},
        ),
        (
            "Membership.objects.filter(room={room})._raw_delete('default'); ChatRoom.objects.get(pk={room}).delete()",
            {"memberships": "[{room}, {alice}], [{room}, {user}]", "rooms": ROOM},
        ),
        (
            'RevokedToken.objects.create(digest="{room} spoilt", expires_at=timezone.now())',
            {"tokens": '"{room} spoilt"'},
        ),
    ],
)
def test_what_is_logged(log, club, dora, alice, carol, code, expected):
    values = {"user": dora.id, "room": club, "other": carol.id, "alice": alice.id}

    def filled(text):
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text

    assert log.changed_by(filled(code)) == {
        name: sorted(json.loads(f"[{filled(each)}]")) for name, each in expected.items()
    }


@pytest.mark.parametrize(
    "code",
    [
        'journal.write([journal.Draft({room}, person(User.objects.get(pk={user})), "said", client_id="once")])',
        "messages.mark_read({user}, {room}); messages.mark_delivered([({room}, [{user}], 5)])",
        "user = User.objects.get(pk={user}); user.last_seen = user.last_login = timezone.now(); user.save()",
        "ChatRoom.objects.get(pk={room}).save(); Membership.objects.filter(room={room}).first().save()",
        'sql("UPDATE chat_user SET first_name = first_name, role = role, tokens_valid_after = tokens_valid_after")',
        'sql("UPDATE chat_chatroom SET last_seq = last_seq + 1, last_update = last_update, details = %s", "D")',
        'sql("UPDATE chat_membership SET read_seq = read_seq + 1, delivered_seq = delivered_seq, user_id = user_id")',
        'User.objects.create(username="{new}")',
        'sql("UPDATE chat_user SET password = password")',
        'rooms.create_room("Empty", [])',
        "with transaction.atomic(): User.objects.filter(pk={user}).delete(); transaction.set_rollback(True)",
    ],
)
def test_what_is_not_logged(log, club, dora, code):
    assert log.changed_by(code.format(room=club, user=dora.id, new=uuid.uuid4().hex)) == {}


def test_what_was_read_is_not_read_again(log, dora):
    place, everything = log.read()
    assert everything is True
    log.run(f"User.objects.filter(pk={dora.id}).update(role='parent')")
    later, changed = log.read(place)
    assert changed == {"people": [dora.id]}
    assert log.read(later)[1] == {}
    assert log.read(place)[1] == {"people": [dora.id]}


MANY_LINES = """
if connection.vendor == "postgresql":
    sql("INSERT INTO chat_change (user_id) SELECT 1 FROM generate_series(0, %s)", changes.MANY)
else:
    Change.objects.bulk_create([Change(user_id=1) for _ in range(changes.MANY + 1)])
"""


def test_very_many_are_everything(log):
    place, _ = log.read()
    log.run(MANY_LINES)
    later, changed = log.read(place)
    assert changed is True
    while changed:
        later, changed = log.read(later)
    log.run("Change.objects.filter(user_id=1).delete()")


def test_who_was_away_while_the_log_was_pruned_looks_at_everything(log, dora):
    rename = f"user = User.objects.get(pk={dora.id}); user.first_name += 'x'; user.save()"
    before, _ = log.read()
    log.run(rename)
    then, _ = log.read(before)
    prune = f"changes.prune(Place(**{then!r}))"
    log.run(rename)
    log.run(prune)
    # Who had read what was removed has missed nothing, and gets what came since.
    now, changed = log.read(then)
    assert changed == {"people": [dora.id]}
    assert log.read(before)[1] is True
    # That something was removed stays to be known, though there is nothing more to remove, and when there is.
    log.run(prune)
    assert log.read(before)[1] is True
    log.run(rename)
    log.run(f"changes.prune(Place(**{now!r}))")
    assert log.read(before)[1] is True
    assert log.read(then)[1] is True
    assert log.read(now)[1] == {"people": [dora.id]}
    assert log.run("print(Change.objects.exclude(pruned_to=None).count())") == "1"


@pytest.fixture
def postgresql(services):
    return Log(services)


@contextmanager
def open_transaction(log):
    with psycopg.connect(log.target.environment["DATABASE_URL"]) as connection:
        yield connection


def test_transactions_that_overlap_are_each_read_once(postgresql):
    school = School(postgresql.target)
    first, second, third, never = (school.person(name) for name in ("F F", "S S", "T T", "N N"))
    rename = "UPDATE chat_user SET first_name = 'New' WHERE id = %s"
    place, _ = postgresql.read()
    with open_transaction(postgresql) as one, open_transaction(postgresql) as two, open_transaction(postgresql) as lost:
        one.execute(rename, [first.id])
        lost.execute(rename, [never.id])
        two.execute(rename, [second.id])
        assert postgresql.read(place)[1] == {}
        # Its lines have the higher numbers, and are there first.
        two.commit()
        place, changed = postgresql.read(place)
        assert changed == {"people": [second.id]}
        two.execute(rename, [third.id])
        two.commit()
        place, changed = postgresql.read(place)
        assert changed == {"people": [third.id]}
        one.commit()
        place, changed = postgresql.read(place)
        assert changed == {"people": [first.id]}
        lost.rollback()
        assert postgresql.read(place)[1] == {}


def test_what_a_long_transaction_leaves_is_not_pruned_before_it_can_be_read(postgresql):
    person = School(postgresql.target).person("Lola Long")
    with open_transaction(postgresql) as long:
        long.execute("UPDATE chat_user SET first_name = 'New' WHERE id = %s", [person.id])
        place, _ = postgresql.read()
        long.commit()
    postgresql.run(f"changes.prune(Place(**{place!r}))")
    assert postgresql.read(place)[1] == {"people": [person.id]}


def test_a_savepoint_changes_nothing(postgresql):
    person = School(postgresql.target).person("Sava Point")
    place, _ = postgresql.read()
    with open_transaction(postgresql) as connection:
        connection.execute("SELECT pg_current_xact_id()")
        with connection.transaction():
            connection.execute("UPDATE chat_user SET first_name = 'New' WHERE id = %s", [person.id])
        place, changed = postgresql.read(place)
        assert changed == {}
    assert postgresql.read(place)[1] == {"people": [person.id]}


def test_a_table_that_is_emptied_concerns_everybody(postgresql):
    place, _ = postgresql.read()
    with open_transaction(postgresql) as connection:
        connection.execute("TRUNCATE chat_revokedtoken")
    assert postgresql.read(place)[1] is True


def test_lines_of_another_cluster_do_no_harm(postgresql):
    """A database that was restored from a dump: its lines have numbers that this cluster has not reached."""
    place, _ = postgresql.read()
    postgresql.run("Change.objects.create(user_id=1, transaction=2**40)")
    place, changed = postgresql.read(place)
    assert changed == {}
    postgresql.run("Change.objects.filter(transaction=2**40).delete()")
    # And a process that had read the other cluster.
    number = 2**40 + 7
    far = {"oldest": number, "next": number, "snapshot": f"{number}:{number}:"}
    assert postgresql.read(far)[1] is True


def test_whoever_may_change_a_room_need_not_be_allowed_to_write_the_log(postgresql):
    role = f"clerk_{uuid.uuid4().hex[:8]}"
    person = School(postgresql.target).person("Clara Clerk")
    place, _ = postgresql.read()
    with open_transaction(postgresql) as connection:
        connection.execute(f"CREATE ROLE {role}")
        connection.execute(f"GRANT SELECT, UPDATE ON chat_user TO {role}")
        connection.execute(f"SET LOCAL ROLE {role}")
        connection.execute("UPDATE chat_user SET first_name = 'New' WHERE id = %s", [person.id])
    assert postgresql.read(place)[1] == {"people": [person.id]}


STANDINGS = """
from chat import roster
pairs = [({dora}, {room}), ({carol}, {room}), ({dora}, {gone}), ({away}, {room}), ({nobody}, {room}), ({dora}, {none})]
User.objects.filter(pk={away}).update(is_active=False)
ChatRoom.objects.filter(pk={gone}).update(is_deleted=True, room_type="announcement")
found = [[*pair, standing.person.name, standing.room_type] for pair, standing in roster.load(pairs).items()]
print(json.dumps([found, roster.load([]) == {{}}, sorted(rooms.strangers([(room, user) for user, room in pairs]))]))
"""


def test_who_stands_where(log, school, dora, carol):
    away = school.person("Ava Away")
    gone = school.room("Gone", dora)
    club = school.room("Club", dora, away)
    ids = {
        "dora": dora.id,
        "carol": carol.id,
        "away": away.id,
        "room": club,
        "gone": gone,
        "nobody": 2**40,
        "none": 2**41,
    }
    found, is_empty, strangers = json.loads(log.run(STANDINGS.format(**ids)))
    assert found == [[dora.id, club, "Dora Ito", "group"]]
    assert is_empty
    assert strangers == sorted([[club, carol.id], [gone, dora.id], [club, away.id], [club, 2**40], [2**41, dora.id]])
