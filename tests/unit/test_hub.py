"""What a process does with what the channel layer brings it, for sockets that are written to directly."""

import asyncio

import pytest

from chat import services
from chat.auth import Identity
from chat.connection import Connection
from chat.hub import Hub
from chat.protocol import Pong, SenderInfo
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
    return Hub()


@pytest.fixture
def join(hub):
    """Somebody who has joined the room: her connection and its socket."""

    def join(user_id, *, is_held=False):
        async def send(message):
            raise AssertionError(message)

        connection = Connection(send, Socket())
        connection.identity = Identity(SenderInfo(user_id, f"P{user_id}", "student", None), None, None, "")
        hub._people[user_id].add(connection)
        attendance = hub.join(connection, ROOM, is_held=True)
        if not is_held:
            hub.release(connection, ROOM, attendance, newest=0, after=0)
        return connection, connection.socket, attendance

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
    hub.release(connection, ROOM, attendance, newest=1, after=1)
    hub._deliver_all([said("a again", 1), said("c", 3)])
    assert b"".join(one.writes) == written("a", "b", "c")
    assert b"".join(two.writes) == written("history up to a", "b", "c")


async def test_the_first_who_joins_gets_what_came_during_her_look_up(hub, join):
    connection, socket, attendance = join(1, is_held=True)
    hub._deliver_all([said("d", 4), said("c", 3), said("b", 2)])
    hub.release(connection, ROOM, attendance, newest=3, after=2)
    assert b"".join(socket.writes) == written("c", "d")


async def test_who_joins_without_a_look_back_gets_what_came_during_her_look_up(hub, join):
    connection, socket, attendance = join(1, is_held=True)
    hub._deliver_all([said("b", 2), said("c", 3)])
    hub.release(connection, ROOM, attendance, newest=2, after=0)
    assert b"".join(socket.writes) == written("b", "c")


async def test_messages_of_two_processes_are_passed_on_in_their_order(hub, join):
    socket = join(1)[1]
    hub._deliver_all([said("b", 2), said("d", 4)])
    assert socket.writes == []
    hub._deliver_all([said("a", 1), said("c", 3)])
    assert b"".join(socket.writes) == written("a", "b", "c", "d")


async def test_what_is_told_here_is_not_delivered_again_when_it_comes_back(hub, join, monkeypatch):
    socket, came_back = join(1)[1], asyncio.Queue()

    class Layer:
        async def group_send(self, group, envelope):
            came_back.put_nowait(envelope)

        async def receive(self, channel):
            return await came_back.get()

    layer = Layer()
    monkeypatch.setattr("chat.relay.get_channel_layer", lambda: layer)
    hub._relay.loop = asyncio.get_running_loop()
    await hub.publish_to_room(ROOM, Pong())
    reader = asyncio.create_task(hub._relay._read())
    async with asyncio.timeout(10):
        # What is asked for behind it has come too.
        echo = hub._relay._echoes["end"] = asyncio.get_running_loop().create_future()
        came_back.put_nowait({"echo": "end"})
        await echo
    assert len(socket.writes) == 1
    reader.cancel()


async def test_the_channel_layer_keeps_nobody_here_waiting(hub, join, monkeypatch):
    socket = join(1)[1]

    class Layer:
        async def group_send(self, group, envelope):
            assert socket.writes
            raise ConnectionError

    monkeypatch.setattr("chat.relay.get_channel_layer", Layer)
    hub._relay.loop = asyncio.get_running_loop()
    await hub.publish_to_room(ROOM, Pong())
    assert len(socket.writes) == 1
    services.channel_layer.answered()


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


def test_what_cannot_be_delivered_keeps_nothing_else_back(hub, join):
    socket = join(1)[1]
    hub._deliver_all([said("a", 1), {"room": ROOM}, said("b", 2)])
    assert socket.writes == [written("a", "b")]
