"""What somebody missed before she joined, and what comes meanwhile: nothing is left out, and nothing comes twice."""

import asyncio
import json
import weakref

import pytest

from chat import conversation, database, presence, protocol
from chat.auth import Identity
from chat.connection import Connection
from chat.histories import Missed, Recent
from chat.hub import Hub
from chat.protocol import ChatError, JoinData, MessageData, RoomUpdate, RoomUpdateData, SenderInfo
from chat.relay import message_envelope
from chat.roster import Standing

ROOM = 7
ANN = SenderInfo(1, "Ann", "student", None)


def message(seq, content=None, changed=0):
    """Message `seq`, sent in second `seq` of the minute."""
    sent = f"2024-01-15T10:00:{seq:02}.000000Z"
    return MessageData(
        id=seq,
        uuid=str(seq),
        seq=seq,
        content=content or f"m{seq}",
        sender=ANN.id,
        chat=ROOM,
        created_at=sent,
        last_update=f"2024-01-15T10:00:{changed:02}.000000Z" if changed else sent,
        is_deleted=False,
        extra_data=None,
        message_type="text",
        attachment_url=None,
        voice_note_url=None,
        attachments=[],
        client_id=None,
        sender_info=ANN,
    )


class Database:
    """Answers from `stored`; each look-up can be held up after it was answered (`gates`)."""

    def __init__(self):
        self.stored = {}
        self.gates = []
        self.asked = []
        self.has_followed = asyncio.Event()

    def store(self, *seqs):
        self.stored |= {seq: message(seq) for seq in seqs}

    @property
    def last_seq(self):
        return max(self.stored, default=0)

    def hold(self):
        """Let the answer to the next look-up, which is of now, come late."""
        gate = asyncio.Event()
        self.gates.append(gate)
        return gate

    async def look_up(self, function, *args):
        self.asked.append(function)
        answer = getattr(self, function.__name__)(*args)
        if self.gates:
            await self.gates.pop(0).wait()
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def after(self, since):
        return [each for seq, each in sorted(self.stored.items()) if seq > since]

    def newest_numbers(self, room_ids):
        return dict.fromkeys(room_ids, self.last_seq)

    def missed(self, room_id, since, history):
        start = max(0, self.last_seq - (history or 0)) if since is None else since
        return Missed(self.after(start), [], max(0, self.last_seq - start), self.last_seq)

    def recent(self, room_id, since, count):
        start = min(self.last_seq, max(0, self.last_seq - count if since is None else since))
        sent = self.stored.get(start)
        return Recent(start, sent and sent.created_at, self.after(start), [], self.last_seq)

    def following(self, positions, limit):
        self.has_followed.set()
        return {room_id: self.after(position) for room_id, position in positions.items()}, set()


class Socket:
    def __init__(self):
        self.data = b""

    def send_frames(self, data):
        self.data += data

    @staticmethod
    def broadcast(sockets, data):
        for each in sockets:
            each.data += data


@pytest.fixture
async def stored(monkeypatch):
    stored = Database()
    monkeypatch.setattr(database, "look_up", stored.look_up)
    monkeypatch.setattr(database, "look_up_many", stored.look_up)
    return stored


@pytest.fixture
async def hub(monkeypatch, stored):
    hub = Hub()
    hub._relay._groups.add(f"chat_{ROOM}")
    monkeypatch.setattr(conversation, "hub", hub)

    class Roster:
        told = 0

        async def standing(self, user_id, room_id):
            return Standing(ANN, "group")

    async def states(*_):
        return []

    monkeypatch.setattr(conversation, "roster", Roster())
    monkeypatch.setattr(presence, "states_for", states)
    yield hub
    await hub.stop()


class Person:
    """Somebody who joins the room, and the numbers of the messages that she has got."""

    def __init__(self, hub):
        async def send(frame):
            raise AssertionError(frame)

        self.hub = hub
        self.connection = Connection(send, Socket())
        self.connection.identity = Identity(ANN, None, None, "")

    async def join(self, **wanted):
        await conversation.join(self.connection, ROOM, JoinData(room_id=ROOM, **wanted))

    def joins(self, **wanted):
        return asyncio.create_task(self.join(**wanted))

    @property
    def events(self):
        decoder, text = json.JSONDecoder(), self.connection.socket.data
        found = []
        while (start := text.find(b"{")) >= 0:
            # The frames' own bytes are in between.
            event, end = decoder.raw_decode(text[start:].decode("latin1"))
            found.append(event)
            text = text[start + end :]
        return found

    @property
    def got(self):
        found = []
        for event in self.events:
            if event["type"] == "message":
                found.append(event["data"]["seq"])
            elif event["type"] == "history":
                found += [each["seq"] for each in event["data"]["messages"]]
        return found


def arrive(hub, *seqs):
    hub._deliver_all([message_envelope(message(seq), 0.0) for seq in seqs])


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_another_one_knew_of_sooner_is_not_left_out(hub, stored):
    """Of two who join at once, the second one's look-up is of later, and is answered sooner; what came in between has
    not come here, and never will."""
    stored.store(1, 2, 3)
    early, late = Person(hub), Person(hub)
    gate = stored.hold()
    joining = early.joins(since=2)
    await settle()
    stored.store(4, 5)
    await late.join()
    gate.set()
    await joining
    stored.store(6)
    arrive(hub, 6)
    assert early.got == [3, 4, 5, 6]
    assert late.got == [6]


async def test_what_is_remembered_has_no_hole_where_the_order_began_later(hub, stored):
    stored.store(1, 2, 3)
    early, plain, late = Person(hub), Person(hub), Person(hub)
    gate = stored.hold()
    joining = early.joins(since=2)
    await settle()
    stored.store(4, 5)
    await plain.join()
    stored.store(6)
    arrive(hub, 6)
    gate.set()
    await joining
    await late.join(since=1)
    assert early.got == [3, 4, 5, 6]
    assert late.got == [2, 3, 4, 5, 6]


async def test_who_wants_nothing_of_before_has_no_hole_at_the_beginning(hub, stored):
    stored.store(1, 2, 3)
    plain = Person(hub)
    gate = stored.hold()
    stored.store(4, 5, 6)
    joining = plain.joins()
    await settle()
    arrive(hub, 4, 5)
    await asyncio.sleep(0.1)
    gate.set()
    await joining
    arrive(hub, 6)
    stored.store(7)
    arrive(hub, 7)
    assert plain.got == [7]


async def test_whose_look_up_fails_is_not_in_the_room(hub, stored, monkeypatch):
    stored.store(1)
    person = Person(hub)
    gate = stored.hold()
    monkeypatch.setattr(stored, "recent", lambda *_: database.unavailable())
    joining = person.joins(since=0)
    await settle()
    gate.set()
    with pytest.raises(ChatError):
        await joining
    assert hub.audience(ROOM) is None


@pytest.fixture
def short_trust(monkeypatch):
    """What was read counts for so many seconds."""
    monkeypatch.setattr("chat.catchup.TRUSTED", 0.01)
    return 0.01


async def test_what_was_read_is_not_kept_when_nobody_asks_any_more(hub, stored, short_trust):
    stored.store(1)
    await Person(hub).join(since=0)
    gone = asyncio.Event()
    weakref.finalize(hub.audience(ROOM).recent, gone.set)
    await asyncio.wait_for(gone.wait(), 10)
    assert hub.audience(ROOM).recent is None


async def test_what_is_read_slowly_is_kept_until_it_is_there(hub, stored, short_trust):
    stored.store(1)
    asyncio.get_running_loop().call_later(5 * short_trust, stored.hold().set)
    await Person(hub).join(since=0)
    assert len(stored.asked) == 1


async def test_numbers_that_come_again_after_a_restore_are_passed_on(hub, stored):
    stored.store(1, 2, 3)
    person = Person(hub)
    await person.join(since=2)
    del stored.stored[2], stored.stored[3]
    await hub.gaps.look()
    stored.store(2)
    arrive(hub, 2)
    assert person.got == [3, 2]


def edit(hub, seq):
    """Tell that a message has another content."""
    event = RoomUpdate(RoomUpdateData(room_id=ROOM, kind="message_edited", message=message(seq, "new", changed=59)))
    hub._deliver_all([{"room": ROOM, "text": protocol.encode(event), "anew": True}])


def shown(person):
    """The contents of the messages as they are on her screen."""
    found = {}
    for event in person.events:
        data = event["data"]
        if event["type"] == "message":
            found[data["seq"]] = data["content"]
        elif event["type"] == "history":
            found |= {each["seq"]: each["content"] for each in data["messages"]}
        elif (edited := data["message"])["seq"] in found:
            found[edited["seq"]] = edited["content"]
    return found


async def test_a_change_does_not_overtake_its_message(hub, stored):
    person = Person(hub)
    await person.join(since=0)
    arrive(hub, 2)
    edit(hub, 2)
    arrive(hub, 1)
    assert shown(person) == {1: "m1", 2: "new"}


async def test_a_change_while_its_message_is_being_read_comes_behind_it(hub, stored):
    person = Person(hub)
    await person.join(since=0)
    stored.store(1, 2)
    gate = stored.hold()
    arrive(hub, 3)
    await asyncio.wait_for(stored.has_followed.wait(), 10)
    edit(hub, 2)
    gate.set()
    await settle()
    assert shown(person) == {1: "m1", 2: "new", 3: "m3"}


async def test_a_change_during_the_first_look_up_comes_behind_its_message(hub, stored):
    person = Person(hub)
    stored.store(1, 2)
    gate = stored.hold()
    joining = person.joins()
    await settle()
    arrive(hub, 2)
    edit(hub, 2)
    gate.set()
    await joining
    assert shown(person) == {2: "new"}


async def test_a_change_of_what_was_passed_on_does_not_wait(hub, stored):
    person = Person(hub)
    await person.join(since=0)
    arrive(hub, 1)
    edit(hub, 1)
    assert shown(person) == {1: "new"}
