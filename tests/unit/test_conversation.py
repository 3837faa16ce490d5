"""Steps of a conversation that something else comes between."""

import pytest

from chat import conversation, rooms
from chat.auth import Identity
from chat.connection import Connection
from chat.hub import Hub
from chat.protocol import ChatError, ErrorCode, JoinData, SenderInfo
from chat.roster import Standing

ANN = SenderInfo(1, "Ann", "student", None)


class Roster:
    """Answers that the test gives, one look-up after the other; what is called with them happens meanwhile."""

    def __init__(self, *happenings):
        self.told = 0
        self.happenings = list(happenings)

    async def standing(self, user_id, room_id):
        assert (user_id, room_id) == (1, 7)
        self.happenings.pop(0)(self)
        return Standing(ANN, "group")


def something_is_told(roster):
    roster.told += 1


def nothing_happens(roster):
    pass


def she_is_no_member(roster):
    raise rooms.invalid_room()


@pytest.fixture
def hub(monkeypatch):
    hub = Hub()

    async def enter(group):
        hub._relay._groups.add(group)

    monkeypatch.setattr(hub._relay, "_enter", enter)
    monkeypatch.setattr(conversation, "hub", hub)
    return hub


@pytest.fixture
def connection():
    async def send(message):
        pass

    connection = Connection(send)
    connection.identity = Identity(ANN, None, None, "")
    return connection


@pytest.fixture
def join(monkeypatch, connection):
    async def before(*_):
        return None, None, []

    async def join(*happenings):
        roster = Roster(*happenings)
        monkeypatch.setattr(conversation, "roster", roster)
        await conversation.join(connection, 7, JoinData(room_id=7))
        assert roster.happenings == []

    monkeypatch.setattr(conversation, "_before", before)
    return join


async def test_a_join_that_fails_leaves_her_where_she_was(hub, join, connection, monkeypatch):
    hub._relay._groups.add("chat_7")
    sent = []
    monkeypatch.setattr(Connection, "send", lambda _, *texts: sent.extend(texts))

    async def fail(*_):
        # What is said while she waits is hers all the same, if she was there before.
        hub.audience(7).send("said meanwhile", b"", None)
        raise ChatError(ErrorCode.UNAVAILABLE, "away")

    async def join_in_vain():
        with monkeypatch.context() as broken:
            broken.setattr(conversation, "_before", fail)
            with pytest.raises(ChatError):
                await join(nothing_happens)

    await join_in_vain()
    assert (connection.rooms, sent) == ({}, [])
    await join(nothing_happens)
    connection.rooms[7].after = 5
    await join_in_vain()
    assert sent == ["said meanwhile"]
    assert (connection.rooms[7].after, connection.rooms[7].held) == (5, None)
    assert hub.present(7) == {ANN.id}


async def test_a_removal_that_is_told_during_the_look_up_is_not_overlooked(hub, join, connection):
    hub._relay._groups.add("chat_7")
    with pytest.raises(ChatError) as refused:
        await join(something_is_told, she_is_no_member)
    assert refused.value.code is ErrorCode.INVALID_ROOM
    assert connection.rooms == {}


async def test_a_removal_while_the_process_begins_to_listen_is_not_overlooked(hub, join, connection):
    with pytest.raises(ChatError):
        await join(nothing_happens, she_is_no_member)
    assert connection.rooms == {}


async def test_what_is_told_and_does_not_concern_her_costs_another_look(hub, join, connection):
    hub._relay._groups.add("chat_7")
    await join(something_is_told, nothing_happens)
    assert list(connection.rooms) == [7]


async def test_a_stranger_has_the_process_listen_to_nothing(hub, join):
    with pytest.raises(ChatError):
        await join(she_is_no_member)
    assert hub._relay._groups == set()


def test_of_a_removal_it_is_told_at_once(hub):
    told = []
    hub.on_removal(lambda room_id, user_ids: told.append((room_id, user_ids)))
    hub._deliver({"room": 7, "text": "x"})
    hub._deliver({"room": 7, "text": "x", "remove": [1, 2]})
    hub._deliver({"room": 7, "text": "x", "empty": True})
    assert told == [(7, [1, 2]), (7, None)]
