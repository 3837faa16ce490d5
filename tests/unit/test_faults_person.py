"""The people of the faults: what their client does decides what is found."""

import asyncio
import json
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from faults import population
from faults.events import Acknowledged, Seen, Sent, Told
from faults.person import MOST_WAITING, Person

ROOM, OTHER = 7, 8


class Link:
    """A connection over which nothing comes back by itself."""

    def __init__(self):
        self.sent = []

    async def send(self, text):
        self.sent.append(json.loads(text))


class Conversation:
    """A person and what she has said to the server."""

    def __init__(self, person, link):
        self.person = person
        self.link = link

    async def said(self):
        """What she has sent since the last call: types and what names it."""
        for _ in range(3):
            await asyncio.sleep(0)
        sent, self.link.sent = self.link.sent, []
        return [
            (each["type"], each["data"].get("client_id") or each["data"].get("since", each["data"].get("room_id")))
            for each in sent
        ]

    def hears(self, kind, **data):
        self.person._receive({"type": kind, "data": data})

    def enters(self, room, *messages):
        self.hears("history", room_id=room, messages=list(messages), complete=True)

    def noted(self, kind):
        return [event for event in self.person.diary.events if isinstance(event, kind)]


@pytest.fixture
async def conversation():
    with ThreadPoolExecutor(1) as callers:
        person = Person(1, "token", (ROOM, OTHER), None, lambda: 1.0, callers, random.Random(1))
        person.begin_diary()
        link = person._socket = Link()
        for room in person.rooms:
            person._join(room)
        yield Conversation(person, link)


def message(seq, sender=2, client_id=None):
    return {"chat": ROOM, "seq": seq, "uuid": f"u{seq}", "sender": sender, "client_id": client_id}


async def test_she_asks_for_what_came_after_what_she_has(conversation):
    assert await conversation.said() == [("join_room", 0), ("join_room", 0)]
    conversation.enters(ROOM, message(1), message(2))
    conversation.hears("message", **message(3))
    assert conversation.person.highest == {ROOM: 3}
    assert [(each.seq, each.live) for each in conversation.noted(Seen)] == [(1, False), (2, False), (3, True)]
    conversation.person._join(ROOM)
    assert await conversation.said() == [("join_room", 3)]


async def test_what_she_writes_waits_until_she_is_in_the_room(conversation):
    await conversation.said()
    conversation.person.write(ROOM)
    assert await conversation.said() == []
    conversation.enters(ROOM)
    assert await conversation.said() == [("message", "1-1")]
    assert [each.client_id for each in conversation.noted(Sent)] == ["1-1"]


async def test_what_was_stored_is_not_sent_again(conversation):
    await conversation.said()
    conversation.person.write(ROOM)
    conversation.enters(ROOM, message(1, 1, "1-1"))
    assert await conversation.said() == []
    assert [(each.client_id, each.seq, each.uuid) for each in conversation.noted(Acknowledged)] == [("1-1", 1, "u1")]


async def test_her_own_broadcast_acknowledges_once(conversation):
    conversation.enters(ROOM)
    conversation.person.write(ROOM)
    conversation.hears("message", **message(1, 2, "1-1"))
    assert conversation.person.unanswered == 1
    conversation.hears("message", **message(2, 1, "1-1"))
    conversation.hears("message", **message(2, 1, "1-1"))
    assert conversation.person.unanswered == 0
    assert len(conversation.noted(Acknowledged)) == 1
    assert len(conversation.noted(Seen)) == 3


async def test_what_cannot_be_stored_for_the_moment_is_sent_again(conversation):
    conversation.enters(ROOM)
    conversation.person.write(ROOM)
    await conversation.said()
    conversation.hears("error", error="Later.", code="unavailable", client_id="1-1", retry_after=0)
    assert await conversation.said() == [("message", "1-1")]
    assert conversation.person.unanswered == 1


async def test_what_is_refused_for_good_is_not_sent_again(conversation):
    conversation.enters(ROOM)
    conversation.person.write(ROOM)
    await conversation.said()
    conversation.hears("error", error="No.", code="content_empty", client_id="1-1")
    assert await conversation.said() == []
    assert [each.final for each in conversation.noted(Told)] == [True]


async def test_the_room_that_was_not_opened_is_asked_for_again(conversation):
    await conversation.said()
    conversation.enters(ROOM, message(4))
    # What is refused is the other one: answers come in the order of questions.
    conversation.hears("error", error="Later.", code="unavailable", retry_after=0)
    assert await conversation.said() == [("join_room", 0)]
    conversation.enters(OTHER)
    assert conversation.person.is_here


async def test_she_stops_writing_when_nothing_is_acknowledged(conversation):
    conversation.enters(ROOM)
    for _ in range(MOST_WAITING + 5):
        conversation.person.write(ROOM)
    assert conversation.person.unanswered == MOST_WAITING


def test_everybody_is_in_two_or_three_rooms():
    places = [population.rooms_of(person) for person in range(population.PEOPLE)]
    assert {len(mine) for mine in places} == {2, 3}
    members = [sum(room in mine for mine in places) for room in range(population.ROOMS)]
    assert min(members) >= 10
    assert max(members) <= 15


def test_the_script_makes_these_people():
    compile(population.script(), "script", "exec")
    said = 'Imported.\n[{"id": 1, "token": "t", "rooms": [7, 8]}]'
    assert population.seats(said) == [population.Seat(1, "t", [7, 8])]
