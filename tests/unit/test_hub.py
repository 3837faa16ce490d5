"""What a process does with what the channel layer brings it, for sockets that are written to directly."""

import pytest

from chat.auth import Identity
from chat.connection import Connection
from chat.hub import Hub
from chat.protocol import SenderInfo
from salon import frames

ROOM = 7


class Socket:
    """Keeps what was written to it, write by write."""

    def __init__(self):
        self.writes = []

    def send_frames(self, data):
        self.writes.append(data)

    @staticmethod
    def broadcast(sockets, data):
        for each in sockets:
            each.writes.append(data)


def written(*texts):
    return b"".join(frames.text(text.encode()) for text in texts)


def said(text, seq, sender=1, room=ROOM):
    return {"room": room, "text": text, "seq": seq, "sender": sender}


def typed(text, person):
    return {"room": ROOM, "text": text, "except": person}


@pytest.fixture
def hub():
    hub = Hub()
    # Nobody listens to a channel layer here.
    hub.hears = lambda room_id: False
    return hub


@pytest.fixture
def join(hub):
    """Somebody who has joined the room: her connection and its socket."""

    def join(user_id, *, is_held=False):
        async def send(message):
            raise AssertionError(message)

        connection = Connection(send, Socket())
        connection.identity = Identity(SenderInfo(user_id, f"P{user_id}", "student", None), None, None, "")
        hub._people[user_id].add(connection)
        return connection, connection.socket, hub.join(connection, ROOM, is_held=is_held)

    return join


def test_messages_that_come_together_are_one_write(hub, join):
    sockets = [join(user_id)[1] for user_id in (1, 2)]
    hub._deliver_all([said("a", 1), said("elsewhere", 1, room=8), said("b", 2)])
    hub._deliver_all([said("c", 3)])
    for socket in sockets:
        assert socket.writes == [written("a", "b"), written("c")]


def test_what_is_not_for_all_stays_in_its_place(hub, join):
    (_, one, _), (_, two, _) = join(1), join(2)
    hub._deliver_all([said("a", 1), typed("1 types", 1), said("b", 2), {"people": [2], "text": "for 2"}, said("c", 3)])
    assert b"".join(one.writes) == written("a", "b", "c")
    assert b"".join(two.writes) == written("a", "1 types", "b", "for 2", "c")


def test_who_is_removed_has_what_came_before(hub, join):
    (_, one, _), (_, two, _) = join(1), join(2)
    hub._deliver_all([said("a", 1), {"room": ROOM, "text": "2 goes", "remove": [2]}, said("b", 2)])
    assert b"".join(one.writes) == written("a", "2 goes", "b")
    assert b"".join(two.writes) == written("a", "2 goes")


def test_who_looks_up_what_she_missed_gets_the_rest_after_it(hub, join):
    (_, one, _), (connection, two, attendance) = join(1), join(2, is_held=True)
    hub._deliver_all([said("a", 1), said("b", 2)])
    assert two.writes == []
    connection.send("history up to a")
    hub.release(connection, ROOM, attendance, after=1)
    hub._deliver_all([said("late a", 1), said("c", 3)])
    assert b"".join(one.writes) == written("a", "b", "late a", "c")
    assert b"".join(two.writes) == written("history up to a", "b", "c")


def test_a_room_that_cannot_be_written_to_keeps_no_other_back(hub, join, monkeypatch):
    socket = join(1)[1]
    hub._deliver_all([said("a", 1)])

    def broken(sockets, data):
        raise OSError("descriptor")

    monkeypatch.setattr(Socket, "broadcast", staticmethod(broken))
    hub._deliver_all([said("lost", 2)])
    monkeypatch.undo()
    hub._deliver_all([said("b", 3)])
    assert socket.writes == [written("a"), written("b")]


class Layer:
    """A channel layer that brings an event back and then says that it could not be sent."""

    def __init__(self, hub):
        self._hub = hub

    async def group_send(self, group, envelope):
        if not self._hub._is_known(envelope):
            self._hub._deliver_all([envelope])
        raise ConnectionError


async def test_what_came_back_before_its_publish_failed_is_not_delivered_again(hub, join, monkeypatch):
    socket = join(1)[1]
    monkeypatch.setattr("chat.hub.get_channel_layer", lambda: Layer(hub))
    await hub._publish([("chat_7", said("a", 1))])
    assert socket.writes == [written("a")]


def test_what_cannot_be_delivered_keeps_nothing_else_back(hub, join):
    socket = join(1)[1]
    hub._deliver_all([said("a", 1), {"room": ROOM}, said("b", 2)])
    assert socket.writes == [written("a", "b")]
