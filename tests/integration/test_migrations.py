"""A database of an earlier release is taken over, and the earlier release can still write while processes restart."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import psycopg
import pytest
from services import PostgreSQL
from target import PROJECT, Target

from waiting import wait_until

BEFORE = """
from django.db import connection
with connection.cursor() as cursor:
    def insert(table, **values):
        names, marks = ", ".join(values), ", ".join(["%s"] * len(values))
        cursor.execute(f"INSERT INTO chat_{table} ({names}) VALUES ({marks})", list(values.values()))
    now = "2026-01-01 00:00:00+00:00"
    for pk in (1, 2):
        insert("user", id=pk, password="", is_superuser=False, username=f"u{pk}", first_name="", last_name="", email="",
               is_staff=False, is_active=True, date_joined=now, role="student", avatar="")
    insert("chatroom", id=1, uuid="0" * 31 + "1", name="R", details="", is_group=True, room_type="group",
           is_deleted=False, created_at=now, last_update=now, last_seq=7)
    insert("membership", id=1, room_id=1, user_id=1, joined_at=now)
    for room in (2, 3):
        insert("chatroom", id=room, uuid="0" * 31 + str(room), name="", details="", is_group=True, room_type="private",
               is_deleted=False, created_at=now, last_update=now, last_seq=0)
        for user in (1, 2):
            insert("membership", id=10 * room + user, room_id=room, user_id=user, joined_at=now)
"""
AFTER = """
import json
from django.db import connection
from chat.models import ChatRoom, Membership
with connection.cursor() as cursor:
    # As the earlier release writes, which knows no read marks.
    columns = "(id, room_id, user_id, joined_at)"
    cursor.execute(f"INSERT INTO chat_membership {columns} VALUES (2, 1, 2, '2026-01-01 00:00:00')")
marks = Membership.objects.filter(room=1).order_by("pk").values_list("read_seq", "delivered_seq")
print(json.dumps([list(marks), list(ChatRoom.objects.order_by("pk").values_list("pair", "is_group"))]))
"""


@pytest.fixture(params=[nullcontext, PostgreSQL], ids=["sqlite", "postgresql"])
def bare(tmp_path, request):
    """A database in which nothing is yet."""
    with request.param() as service:
        target = Target(
            urls=[],
            manage_command=[sys.executable, str(PROJECT / "app" / "manage.py")],
            environment={"SALON_DATA_DIR": str(tmp_path), **({"DATABASE_URL": service.url} if service else {})},
        )
        yield target
        target.close()


def test_what_was_kept_before_goes_on(bare):
    bare.manage("migrate", "chat", "0001", "--verbosity=0")
    bare.manage("shell", "--command", BEFORE)
    bare.manage("migrate", "--verbosity=0")
    assert json.loads(bare.manage("shell", "--command", AFTER)) == [
        [[7, 7], [0, 0]],
        # Of the two private rooms of one pair, the older stays theirs.
        [[None, True], ["1:2", False], [None, True]],
    ]


def is_waiting(database):
    return database.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0] > 0


@pytest.mark.parametrize(("before", "after"), [("0002", "0003"), ("0003", "0002")])
def test_the_log_of_changes_comes_and_goes_while_the_earlier_release_writes(tmp_path, before, after):
    with PostgreSQL() as service:
        target = Target(
            urls=[],
            manage_command=[sys.executable, str(PROJECT / "app" / "manage.py")],
            environment={"SALON_DATA_DIR": str(tmp_path), "DATABASE_URL": service.url},
        )
        target.manage("migrate", "chat", "0001", "--verbosity=0")
        target.manage("shell", "--command", BEFORE)
        target.manage("migrate", "chat", before, "--verbosity=0")
        with (
            ThreadPoolExecutor() as pool,
            psycopg.connect(service.url, autocommit=True) as observer,
            psycopg.connect(service.url) as writer,
        ):
            # As the journal does: first the room, then who has written in it.
            writer.execute("UPDATE chat_chatroom SET last_seq = 8 WHERE id = 1")
            migrating = pool.submit(target.try_manage, "migrate", "chat", after, "--verbosity=0")
            wait_until(lambda: is_waiting(observer), "the migration to wait for who writes")
            writer.execute("UPDATE chat_membership SET read_seq = 8 WHERE id = 1")
            writer.commit()
            done = migrating.result()
            assert done.returncode == 0, done.stderr
        target.close()


RENAME = """
from chat.models import User
User.objects.update_or_create(username="u1", defaults={"first_name": "%s"})
"""
LOGGED = "from chat.models import Change; print(Change.objects.count())"


def test_the_log_of_changes_can_be_taken_away_and_brought_back(bare):
    bare.manage("migrate", "--verbosity=0")
    for name in ("One", "Two"):
        bare.manage("shell", "--command", RENAME % name)
    assert bare.manage("shell", "--command", LOGGED) == "1"
    bare.manage("migrate", "chat", "0002", "--verbosity=0")
    bare.manage("shell", "--command", RENAME % "Three")
    bare.manage("migrate", "--verbosity=0")
    assert bare.manage("shell", "--command", LOGGED) == "0"
    bare.manage("shell", "--command", RENAME % "Four")
    assert bare.manage("shell", "--command", LOGGED) == "1"
