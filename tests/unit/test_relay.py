"""The groups that a process is in: as many as it needs, whatever comes between."""

import asyncio

import pytest

from chat import services
from chat.relay import CHANGED, PEOPLE, Relay


class Layer:
    """A channel layer that can be away, and that can be held up in what changes a group."""

    def __init__(self):
        self.groups = set()
        self.is_away = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Queue()
        self.sent = []

    async def new_channel(self):
        self._fail()
        return "here"

    async def group_add(self, group, channel):
        self._fail()
        await self.gate.wait()
        self.groups.add(group)

    async def group_discard(self, group, channel):
        await self.gate.wait()
        self.groups.discard(group)

    async def group_send(self, group, envelope):
        self._fail()
        self.sent.append((group, envelope))

    async def receive(self, channel):
        return await self.arrived.get()

    def _fail(self):
        if self.is_away:
            raise ConnectionError("away")


@pytest.fixture
async def layer(monkeypatch):
    layer = Layer()
    monkeypatch.setattr("chat.relay.get_channel_layer", lambda: layer)
    # Whatever others have left.
    services.channel_layer.answered()
    yield layer
    services.channel_layer.answered()


@pytest.fixture
async def heard():
    """What was received; None stands for what may have been lost."""
    return asyncio.Queue()


@pytest.fixture
async def relay(layer, heard):
    def receive(envelopes):
        for each in envelopes:
            heard.put_nowait(each)

    relay = Relay(receive, lambda: heard.put_nowait(None))
    yield relay
    await relay.stop()


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_group_that_is_left_and_needed_again_at_once_is_kept(relay, layer):
    await relay.enter("room")
    layer.gate.clear()
    # Another one is entered, which takes a while.
    entering = asyncio.create_task(relay.enter("another"))
    await settle()
    relay.leave("room")
    await settle()
    assert relay.is_in("room")
    relay.keep("room")
    layer.gate.set()
    await entering
    await settle()
    assert relay.is_in("room")
    assert layer.groups == {"room", "another"}


async def test_a_group_that_nobody_needs_is_left(relay, layer):
    await relay.enter("room")
    relay.leave("room")
    await settle()
    assert layer.groups == set()
    assert not relay.is_in("room")


async def test_what_was_sent_before_a_group_could_be_entered_may_have_been_lost(relay, layer, heard):
    layer.is_away = True
    await relay.enter("room")
    await relay.enter("another")
    assert heard.empty()
    layer.is_away = False
    await relay.enter_missing()
    assert layer.groups == {"room", "another"}
    assert (heard.get_nowait(), heard.qsize()) == (None, 0)
    await relay.enter_missing()
    assert heard.empty()


async def test_a_group_that_is_just_being_entered_has_lost_nothing(relay, layer, heard):
    layer.gate.clear()
    entering = asyncio.create_task(relay.enter("room"))
    await settle()
    missing = asyncio.create_task(relay.enter_missing())
    await settle()
    layer.gate.set()
    await asyncio.gather(entering, missing)
    assert heard.empty()


@pytest.mark.parametrize("stranger", [7, None, {"echo": []}])
async def test_what_is_no_envelope_does_not_end_the_reading(relay, layer, heard, stranger):
    await relay.enter("room")
    layer.arrived.put_nowait(stranger)
    layer.arrived.put_nowait({"text": "on"})
    assert await asyncio.wait_for(heard.get(), 10) == {"text": "on"}


async def test_of_a_change_that_could_not_be_sent_the_others_hear_when_it_can(relay, layer):
    layer.is_away = True
    await relay.send([("room", {"text": "a message"})])
    await relay.send([("room", {"text": "a change", "anew": True})])
    await relay.tell_lost_changes()
    layer.is_away = False
    for _ in range(2):
        await relay.tell_lost_changes()
    assert [(group, envelope["notice"]) for group, envelope in layer.sent] == [(PEOPLE, CHANGED)]


async def test_of_a_message_that_could_not_be_sent_nothing_is_told(relay, layer):
    layer.is_away = True
    await relay.send([("room", {"text": "a message"})])
    layer.is_away = False
    await relay.tell_lost_changes()
    assert layer.sent == []


async def test_leaving_a_group_does_not_say_that_the_layer_is_there(relay, layer):
    """Without a connection there is nothing to be left, and nothing is asked of anybody."""
    await relay.enter("room")
    layer.is_away = True
    await relay.enter("another")
    assert services.channel_layer.is_away
    relay.leave("room")
    await settle()
    assert not relay.is_in("room")
    assert services.channel_layer.is_away
