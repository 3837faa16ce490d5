"""What the log says of a person's visit. That nothing else stands in it is seen for all tests (`log_lines.check`)."""

import asyncio
from pathlib import Path

import log_lines
import pytest
from api import Api
from client import connected
from school import School

from waiting import wait_until


@pytest.fixture(params=["embedded", "services"])
def target(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def school(target):
    return School(target)


def of(target, person, **wanted):
    """The lines about a person."""
    wanted |= {"user": person.id}
    found = log_lines.lines(Path(target.environment["SALON_DATA_DIR"]))
    return [line for line in found if wanted.items() <= line.items()]


async def visit(target, person, room):
    async with connected(target, person.token) as client:
        await client.join(room)
        for _ in range(3):
            await client.raw('{"type": "leave_room", "data": {"room_id": 999999999}}')
            await client.error("not_joined")
        await client.say(room, "The words of a visit")
        await client.expect("message")
    await asyncio.to_thread(
        wait_until, lambda: of(target, person, event="connection.closed"), "the end of the visit in the log"
    )


async def test_a_visit_can_be_told_from_beginning_to_end(target, school):
    ann = school.person("Ann")
    room = school.room("Visited", ann)
    await visit(target, ann, room)
    [opened], [closed] = of(target, ann, event="connection.opened"), of(target, ann, event="connection.closed")
    assert opened["connection"] == closed["connection"]
    assert (opened["level"], opened["outcome"], opened["logger"]) == ("info", "ok", "chat.consumers")
    assert (closed["level"], closed["outcome"], closed["received"]) == ("info", "1000", 6)
    assert 0 < opened["duration"] < closed["duration"] < 60
    events = of(target, ann, event="event.received", connection=opened["connection"])
    told = [(line["level"], line["type"], line.get("room"), line["outcome"]) for line in events]
    assert told == [
        ("debug", "join_room", room, "ok"),
        ("debug", "ping", None, "ok"),
        # Of a kind, the first is news.
        ("info", "leave_room", 999999999, "not_joined"),
        ("debug", "leave_room", 999999999, "not_joined"),
        ("debug", "leave_room", 999999999, "not_joined"),
        ("debug", "message", room, "ok"),
    ]


async def test_a_call_is_told_by_its_route(target, school):
    ben = school.person("Ben")
    room = school.room("Called", ben)
    api = Api(target, ben)
    api.call("GET", f"/chats/rooms/{room}/")
    api.call("POST", f"/chats/rooms/{room}/mark_as_read/")
    api.call("POST", "/chats/messages/", {"chat": room, "content": "The words of a call"})
    api.call("GET", "/chats/rooms/999999999/")
    told = [
        (line["level"], line["method"], line["route"], line.get("room"), line["outcome"])
        for line in of(target, ben, event="request.answered")
    ]
    assert told == [
        ("debug", "GET", "/chats/rooms/<str:key>/", room, "200"),
        ("info", "POST", "/chats/rooms/<str:key>/mark_as_read/", room, "200"),
        ("info", "POST", "/chats/messages/", None, "201"),
        ("info", "GET", "/chats/rooms/<str:key>/", 999999999, "404"),
    ]
    assert len({line["request"] for line in of(target, ben, event="request.answered")}) == 4


@pytest.mark.parametrize(
    ("sent", "is_taken"), [("0123456789abcdef" * 2, True), ("Made up by a visitor", False), ("f" * 31, False)]
)
async def test_it_calls_a_request_as_nginx_does(embedded, sent, is_taken):
    person = School(embedded).person()
    headers = {"X-Request-ID": sent}
    async with connected(embedded, person.token, additional_headers=headers) as client:
        await client.settle()
    [opened] = of(embedded, person, event="connection.opened")
    assert (opened["connection"] == sent) == is_taken
    authorized = headers | {"Authorization": f"Bearer {person.token}"}
    assert embedded.request("GET", "/chats/rooms/", headers=authorized)[0] == 200
    [answered] = of(embedded, person, event="request.answered")
    assert (answered["request"] == sent) == is_taken


async def test_a_refused_token_is_told_without_the_token(services):
    directory = Path(services.environment["SALON_DATA_DIR"])
    before = log_lines.lines(directory)
    async with connected(services, f"eyJ{'hbGciOiJub25lIn0'}.e30.") as client:
        await client.expect("error")
        await client.closed()
    # Somebody else may be refused meanwhile.
    refused = [
        line
        for line in log_lines.lines(directory)
        if line["event"] == "connection.refused" and line["outcome"] == "invalid_token" and line not in before
    ]
    assert len(refused) == 1
    assert "user" not in refused[0]
