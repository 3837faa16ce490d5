"""Read marks, unread counts, and how far a message has come."""

import pytest
from api import ENCODINGS, Api
from client import connected

from waiting import wait_until


@pytest.fixture
def three(target, school):
    """Three people, their HTTP APIs, and a room of theirs."""
    people = [
        school.person(name, role) for name, role in (("Ada A", "teacher"), ("Ben B", "student"), ("Cem C", "parent"))
    ]
    return (
        people,
        [Api(target, person, process=number) for number, person in enumerate(people)],
        school.room("3", *people),
    )


def status(api, message):
    return api.ok("GET", f"/chats/messages/{message['id']}/")["status"]


def unread(api, room):
    return api.ok("GET", f"/chats/rooms/{room}/")["unread_count"]


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_mark_as_read_over_http(target, three, encoding):
    (ada, ben, cem), (a, b, c), room = three
    first, second = (
        a.ok("POST", "/chats/messages/", {"chat": room, "content": each}, status=201) for each in ("one", "two")
    )
    assert (unread(a, room), unread(b, room)) == (0, 2)
    async with connected(target, ada.token, process=1) as socket:
        await socket.join(room)
        answer = b.ok("POST", f"/chats/rooms/{room}/mark_as_read/", {}, encoding=encoding)
        assert answer == {"room_id": room, "read_seq": second["seq"], "unread_count": 0}
        told = (await socket.expect("room_update"))["data"]
        assert told == {"room_id": room, "kind": "read", "user_id": ben.id, "seq": second["seq"]}
        # Once more moves nothing, and is not told.
        b.ok("POST", f"/chats/rooms/{room}/mark_as_read/", {}, encoding=encoding)
        await socket.settle()
    assert unread(b, room) == 0
    assert status(a, first) != "read"
    c.ok("POST", f"/chats/rooms/{room}/mark_as_read/", {"seq": first["seq"]}, encoding=encoding)
    assert (status(a, first), unread(c, room)) == ("read", 1)
    assert status(a, second) != "read"


async def test_mark_as_read_over_the_wire(target, three):
    (ada, ben, cem), (a, b, c), room = three
    message = a.ok("POST", "/chats/messages/", {"chat": room, "content": "one"}, status=201)
    async with connected(target, ada.token) as socket, connected(target, ben.token, process=1) as reader:
        await socket.join(room)
        await reader.send("read", {"room_id": room})
        told = (await socket.expect("room_update"))["data"]
        assert told == {"room_id": room, "kind": "read", "user_id": ben.id, "seq": message["seq"]}
        await reader.send("read", {"room_id": room, "seq": 0})
        await reader.send("read", {"room_id": room, "seq": 99})
        await reader.settle()
        await socket.settle()
    assert unread(b, room) == 0


async def test_a_stranger_marks_nothing(target, carol, room):
    async with connected(target, carol.token) as c:
        await c.send("read", {"room_id": room})
        await c.error("invalid_room")


async def test_sent_delivered_read(target, three):
    (ada, ben, cem), (a, b, c), room = three
    message = a.ok("POST", "/chats/messages/", {"chat": room, "content": "one"}, status=201)
    assert message["status"] == "sent"
    async with connected(target, ben.token) as socket, connected(target, cem.token, process=1) as other:
        await socket.send("join_room", {"room_id": room, "history": 10})
        await socket.expect("history")
        assert status(a, message) == "sent"
        await other.join(room)
        # She joined without asking for what was before: it has not reached her.
        assert status(a, message) == "sent"
        live = a.ok("POST", "/chats/messages/", {"chat": room, "content": "two"}, status=201)
        for each in (socket, other):
            await each.expect("message")
        wait_until(lambda: status(a, live) == "delivered", "the message to count as delivered")
    b.ok("POST", f"/chats/rooms/{room}/mark_as_read/")
    assert status(a, live) == "delivered"
    c.ok("POST", f"/chats/rooms/{room}/mark_as_read/")
    assert status(a, live) == status(a, message) == "read"
    listed = a.ok("GET", f"/chats/rooms/{room}/")
    assert [each["status"] for each in listed["messages"]] == ["read", "read"]


def test_who_writes_has_read_what_is_above(three):
    _, (a, b, _), room = three
    a.ok("POST", "/chats/messages/", {"chat": room, "content": "one"}, status=201)
    assert unread(b, room) == 1
    b.ok("POST", "/chats/messages/", {"chat": room, "content": "two"}, status=201)
    assert (unread(b, room), unread(a, room)) == (0, 1)


def test_who_comes_later_has_nothing_unread(target, school, three):
    people, (a, b, c), room = three
    for each in ("one", "two"):
        message = a.ok("POST", "/chats/messages/", {"chat": room, "content": each}, status=201)
    for api in (b, c):
        api.ok("POST", f"/chats/rooms/{room}/mark_as_read/")
    late = school.person("Lou Late")
    a.ok("PATCH", f"/chats/rooms/{room}/", {"participants": [*(person.id for person in people), late.id]})
    assert unread(Api(target, late), room) == 0
    assert status(a, message) == "read"
