"""Whom the watch looks at when something has changed, with a database that the test plays."""

import asyncio
from datetime import UTC, datetime

import pytest

from chat import auth, consumers, database, rooms, watch
from chat.auth import Identity
from chat.changes import EVERYTHING, NOTHING, Changes
from chat.connection import Connection
from chat.people import persons
from chat.protocol import ChatError, ErrorCode, SenderInfo
from chat.watch import Watch, look

ISSUED = datetime(2026, 1, 1, tzinfo=UTC)


class People:
    """The database: who is refused, who is a stranger where, who is called how; and whom it was asked about."""

    def __init__(self):
        self.refused, self.strangers, self.names = set(), set(), {}
        self.asked_for_people, self.asked_for_members = [], []
        self.fails = False

    async def query(self, function, asked):
        if self.fails:
            raise ChatError(ErrorCode.UNAVAILABLE, "away")
        if function is auth.refused:
            self.asked_for_people.append(sorted(user_id for user_id, _, _ in asked))
            return {each for each in asked if each[0] in self.refused or each[2] in self.refused}
        if function is persons:
            return {user_id: person(user_id, self.names.get(user_id)) for user_id in asked}
        assert function is rooms.strangers
        self.asked_for_members.append(sorted(asked))
        return set(asked) & self.strangers


def person(user_id, name=None):
    return SenderInfo(user_id, name or f"P{user_id}", "student", None)


@pytest.fixture
def people(monkeypatch):
    people = People()
    monkeypatch.setattr(database, "look_up", people.query)
    return people


@pytest.fixture
def hub(monkeypatch):
    """A hub of the test's own."""
    own = type(watch.hub)()
    monkeypatch.setattr(watch, "hub", own)
    return own


@pytest.fixture
def connect(hub):
    """Connections of persons 1, 2, 3 …"""

    def connect(user_id, *room_ids, digest=""):
        async def send(message):
            """What is sent is of no interest here."""

        connection = Connection(send)
        connection.identity = Identity(person(user_id), None, ISSUED, digest or f"d{user_id}")
        hub._people[user_id].add(connection)
        for room_id in room_ids:
            hub.join(connection, room_id)
        return connection

    return connect


async def test_nobody_is_looked_at_whom_nothing_concerns(people, connect):
    connect(1, 7)
    await look(Changes(frozenset([(7, 2), (8, 1)]), frozenset([8]), frozenset([2]), frozenset(["d2"])))
    assert people.asked_for_people == people.asked_for_members == []


async def test_who_is_concerned_is_looked_at_and_nobody_else(people, connect):
    connect(1, 7, 8)
    connect(2, 7)
    connect(3, 9)
    await look(Changes(people=frozenset([1]), rooms=frozenset([9]), memberships=frozenset([(7, 2)])))
    assert people.asked_for_people == [[1]]
    assert people.asked_for_members == [[(7, 2), (9, 3)]]


async def test_everybody_is_looked_at_in_slices(people, connect, monkeypatch):
    monkeypatch.setattr(watch, "SLICE", 2)
    for user_id in range(1, 6):
        connect(user_id, 7)
    await look(EVERYTHING)
    assert sorted(user_id for asked in people.asked_for_people for user_id in asked) == [1, 2, 3, 4, 5]
    assert [len(asked) for asked in people.asked_for_people] == [2, 2, 1]
    assert people.asked_for_members == [[(7, 1), (7, 2)], [(7, 3), (7, 4)], [(7, 5)]]


async def test_a_revoked_token_ends_its_connections_only(people, connect):
    first, second = connect(1), connect(1, digest="other")
    people.refused = {"d1"}
    await look(Changes(tokens=frozenset(["d1"])))
    assert people.asked_for_people == [[1]]
    assert (first.is_closing, second.is_closing) == (True, False)


async def test_a_new_name_is_known_from_then_on(people, connect):
    connection = connect(1)
    people.names[1] = "Newman"
    await look(Changes(people=frozenset([1])))
    assert connection.identity == Identity(person(1, "Newman"), None, ISSUED, "d1")


async def test_who_was_looked_up_before_a_change_and_comes_after_it_is_looked_at(people, connect):
    own = Watch()
    connection = connect(1)
    own._changed(Changes(people=frozenset([1])))
    await own._look()
    people.asked_for_people.clear()
    own.identified(connection)
    await own._look()
    assert people.asked_for_people == [[1]]


@pytest.mark.parametrize("told", [Changes(people=frozenset([2])), Changes(rooms=frozenset([1])), NOTHING])
async def test_who_comes_is_not_looked_at_for_what_does_not_concern_her(people, connect, told):
    own = Watch()
    connection = connect(1)
    own._changed(told)
    own._due = NOTHING
    own.identified(connection)
    assert not own._due


async def test_who_comes_is_not_looked_at_for_what_was_told_before(people, connect):
    own = Watch()
    own._changed(EVERYTHING)
    own._due = NOTHING
    own.identified(connect(1))
    assert not own._due


async def test_a_handshake_is_not_overtaken(people, hub, connect, monkeypatch):
    """Somebody is deactivated after she was looked up, and before the hub knows that she is here."""
    own = Watch()
    connection = connect(1)
    consumer = consumers.ChatConsumer()
    consumer.connection = connection
    consumer._deadline = None

    async def connect_late(*_):
        own._changed(Changes(people=frozenset([1])))
        own._due = NOTHING

    async def arrive(_):
        pass

    monkeypatch.setattr(consumers, "watch", own)
    monkeypatch.setattr(own, "start", lambda: None)
    monkeypatch.setattr(consumers.hub, "connect", connect_late)
    monkeypatch.setattr(consumers.keeper, "arrived", arrive)
    people.refused = {1}
    await consumer._authenticated(connection.identity)
    assert not connection.is_closing
    await own._look()
    assert connection.is_closing


async def test_what_could_not_be_looked_at_is_looked_at_later(people, connect, monkeypatch):
    monkeypatch.setattr(watch.settings, "CHANGES_INTERVAL", 0.01)
    own = Watch()
    connect(1)
    own._changed(Changes(people=frozenset([1])))
    people.fails = True
    with pytest.raises(ChatError):
        await own._look()
    people.fails = False
    own._changed(Changes(people=frozenset([2])))
    async with asyncio.timeout(10):
        await own._is_due.wait()
    await own._look()
    assert people.asked_for_people == [[1]]
    assert not own._due
