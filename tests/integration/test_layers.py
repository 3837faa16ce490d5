"""The channel layer over a real Redis: in order, in few writes, bounded, and there again when Redis is."""

import asyncio
import logging

import pytest
import redis
from channels.exceptions import ChannelFull
from eventually import until
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from services import Redis

from chat import layers, wire
from chat.layers import RedisChannelLayer
from chat.services import Service
from chat.wire import Wire

MOMENT = 20
"""Seconds that something may take on a busy machine."""


@pytest.fixture
def server():
    with Redis() as server:
        yield server


@pytest.fixture(autouse=True)
def service(monkeypatch):
    monkeypatch.setattr("chat.services.channel_layer", Service("channel layer"))


@pytest.fixture
async def layer(server):
    layer = RedisChannelLayer(hosts=[{"address": server.url}], prefix="test")
    yield layer
    await layer.flush()


@pytest.fixture
def breaks(layer):
    """The reasons that the layer has given why messages may be lost."""
    breaks = asyncio.Queue()
    for _ in range(2):
        layer.on_break(breaks.put_nowait)
    return breaks


@pytest.fixture
def tries(monkeypatch):
    """When it was tried to connect."""
    tries = []
    open_wire = Wire.open

    async def counted(*arguments):
        tries.append(asyncio.get_running_loop().time())
        return await open_wire(*arguments)

    monkeypatch.setattr(Wire, "open", counted)
    return tries


@pytest.fixture
def few_may_wait(monkeypatch):
    """At most 50 messages wait for Redis."""
    for module in (layers, wire):
        monkeypatch.setattr(module, "MAX_UNANSWERED", 50)


@pytest.fixture
async def channel(layer):
    """A channel that is in the groups `a` and `b`."""
    channel = await layer.new_channel()
    for group in "ab":
        await layer.group_add(group, channel)
    return channel


async def received(layer, channel, count):
    messages = []
    async with asyncio.timeout(MOMENT):
        while len(messages) < count:
            messages += await layer.receive_all(channel)
    return [message["n"] for message in messages]


async def within_a_moment(awaitable):
    async with asyncio.timeout(MOMENT):
        return await awaitable


async def is_lost(layer):
    """Wait until it is known that the connection is lost."""
    [link] = layer._get_layer()._shards

    async def is_there():
        return link._wire is not None

    await until(is_there, False)


def logged(caplog):
    """What an operator is told: level and text."""
    return [(record.levelno, record.getMessage()) for record in caplog.records if record.name.startswith("chat.")]


def kill_listeners(server):
    with redis.Redis.from_url(server.url) as observer:
        observer.client_kill_filter(_type="pubsub")


async def hears_again(layer, channel):
    """Wait until what is sent comes; what was sent before it may be lost."""
    async with asyncio.timeout(MOMENT):
        number = 1000
        while True:
            number += 1
            try:
                await layer.group_send("a", {"n": number})
                async with asyncio.timeout(0.2):
                    while (await layer.receive(channel))["n"] != number:
                        pass
                    return
            except (OSError, redis.RedisError):
                await asyncio.sleep(0.05)


async def test_what_is_sent_at_once_comes_in_order_and_in_few_writes(layer, channel, server):
    with redis.Redis.from_url(server.url) as observer:
        before = observer.info("stats")["total_reads_processed"]
        await asyncio.gather(*(layer.group_send("ab"[n % 2], {"n": n}) for n in range(300)))
        assert await received(layer, channel, 300) == list(range(300))
        await layer.group_send_all([("ab"[n % 2], {"n": n}) for n in range(300)])
        assert await received(layer, channel, 300) == list(range(300))
        assert observer.info("stats")["total_reads_processed"] - before < 100


async def test_after_a_restart_of_redis_it_hears_again(layer, channel, server, breaks, tries, caplog):
    await layer.group_send("a", {"n": 1})
    assert await received(layer, channel, 1) == [1]
    server.stop()
    await is_lost(layer)

    async def has_tried_often():
        with pytest.raises(RedisConnectionError):
            await layer.group_send("a", {"n": 2})
        return len(tries) >= 4

    await until(has_tried_often, True)
    assert breaks.empty()
    server.start()
    assert "lost" in await within_a_moment(breaks.get())
    for group, number in (("b", 3), ("a", 4)):
        await layer.group_send(group, {"n": number})
        assert await received(layer, channel, 1) == [number]
    assert breaks.empty()
    (first, lost), (second, back) = logged(caplog)
    assert (first, second) == (logging.ERROR, logging.WARNING)
    assert (
        lost == "The channel layer does not answer: the connection to Redis was lost: Redis has closed the connection"
    )
    assert back.startswith("The channel layer answers again, after ")


async def test_a_connection_that_is_killed_is_made_again(layer, channel, server, breaks, caplog):
    for number in range(3):
        kill_listeners(server)
        assert "lost" in await within_a_moment(breaks.get())
        await layer.group_send("b", {"n": number})
        assert await received(layer, channel, 1) == [number]
    assert breaks.empty()
    assert [level for level, _ in logged(caplog)] == [logging.ERROR, logging.WARNING] * 3


async def test_while_nothing_is_lost_nobody_is_told(layer, channel, breaks, caplog):
    await layer.group_send_all([("a", {"n": n}) for n in range(2000)])
    assert await received(layer, channel, 2000) == list(range(2000))
    await layer.group_discard("b", channel)
    await layer.group_add("b", channel)
    await layer.group_send("b", {"n": 1})
    assert await received(layer, channel, 1) == [1]
    assert (breaks.qsize(), layer.dropped, layer.refused) == (0, 0, 0)
    assert logged(caplog) == []


async def test_who_hears_nothing_for_long_asks_whether_redis_lives(layer, channel, server, breaks, monkeypatch):
    monkeypatch.setattr(layers, "LOOK_INTERVAL", 0.02)
    monkeypatch.setattr(wire, "SILENT_LOOKS", 50)
    with redis.Redis.from_url(server.url) as observer:

        async def has_asked_often():
            return observer.info("commandstats").get("cmdstat_ping", {}).get("calls", 0) > wire.SILENT_LOOKS

        await until(has_asked_often, True)
    assert breaks.empty()


async def test_who_only_publishes_misses_nothing(server, layer, channel, caplog):
    publisher = RedisChannelLayer(hosts=[{"address": server.url}], prefix="test")
    breaks = asyncio.Queue()
    publisher.on_break(breaks.put_nowait)
    await publisher.group_send("a", {"n": 1})
    with redis.Redis.from_url(server.url) as observer:
        observer.client_kill_filter(_type="normal")
    await is_lost(publisher)
    await publisher.group_send("a", {"n": 2})
    assert await received(layer, channel, 2) == [1, 2]
    assert breaks.empty()
    assert logged(caplog) == []
    await publisher.flush()


async def test_while_redis_is_away_nobody_waits_for_it_and_few_tries_are_made(layer, channel, server, tries):
    server.stop()
    await is_lost(layer)
    with pytest.raises(RedisConnectionError):
        await layer.group_send("a", {"n": 0})
    async with asyncio.timeout(MOMENT):
        attempts = 0
        while len(tries) < 6:
            attempts += 1
            with pytest.raises(RedisConnectionError):
                await layer.group_send("a", {"n": 1})
            with pytest.raises(RedisConnectionError):
                await layer.new_channel()
            await asyncio.sleep(0)
    assert list(layer._get_layer().channels) == [channel]
    assert attempts > 10 * len(tries)
    # The pauses are random; five of them that are all next to nothing are not.
    assert tries[-1] - tries[0] > 0.02


async def test_a_connection_that_ends_as_soon_as_it_is_made_is_an_error(tmp_path):
    """As from a proxy whose Redis is away."""

    async def hang_up(reader, writer):
        await reader.readuntil(b"HELLO\r\n$1\r\n3\r\n")
        writer.write(b"%1\r\n$5\r\nproto\r\n:3\r\n" * 2)
        writer.close()

    async with await asyncio.start_unix_server(hang_up, tmp_path / "socket"):
        layer = RedisChannelLayer(hosts=[{"address": f"unix://{tmp_path}/socket"}], prefix="test")
        with pytest.raises(RedisConnectionError):
            await within_a_moment(layer.new_channel())
        with pytest.raises(RedisConnectionError):
            await within_a_moment(layer.group_send("a", {"n": 1}))
        await layer.flush()


async def test_nothing_overtakes_while_the_connection_is_made_again(layer, channel, server):
    for _ in range(5):
        kill_listeners(server)
        sending = []
        for number in range(300):
            sending.append(asyncio.ensure_future(layer.group_send("ab"[number % 2], {"n": number})))
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*sending, return_exceptions=True)
        sent = [number for number, outcome in enumerate(outcomes) if outcome is None]
        assert sent
        # Those that came to nobody were sent while the connection was lost.
        found = await received(layer, channel, 1)
        while found[-1] != sent[-1]:
            found += await received(layer, channel, 1)
        assert found == sorted(found)


async def test_a_redis_that_hangs_is_given_up_and_found_again(layer, channel, server, breaks, caplog):
    """What hangs is not told from what is cut off by a network that drops every packet."""
    server.pause()
    try:
        # Whoever publishes learns of it without a time limit of her own; and so does who only listens.
        with pytest.raises(RedisConnectionError, match="Redis does not answer"):
            await within_a_moment(layer.group_send("a", {"n": 1}))
        assert breaks.empty()
    finally:
        server.resume()
    assert "lost" in await within_a_moment(breaks.get())
    server.pause()
    try:
        await is_lost(layer)
    finally:
        server.resume()
    assert "lost" in await within_a_moment(breaks.get())
    await hears_again(layer, channel)
    assert breaks.empty()
    assert [level for level, _ in logged(caplog)] == [logging.ERROR, logging.WARNING] * 2


async def test_what_is_not_taken_is_bounded_by_number(layer, channel, breaks, caplog, monkeypatch):
    monkeypatch.setattr(layers, "MAX_ARRIVED", 100)
    arrived = layer._get_layer().channels[channel]
    for burst in range(1, 3):
        await layer.group_send_all([("a", {"n": n}) for n in range(300)])

        async def dropped():
            return layer.dropped

        await until(dropped, 200 * burst)
        assert await layer.receive(channel) == {"n": 200}
        # There is room for one more: that is no end.
        await asyncio.sleep(0)
        assert breaks.empty()
        assert await received(layer, channel, 99) == list(range(201, 300))
        assert "faster than they were taken" in await within_a_moment(breaks.get())
        assert breaks.empty()
        assert arrived.take(1) == []
    line = (logging.ERROR, "200 messages were dropped: they came faster than they were taken")
    assert logged(caplog) == [line] * 2


async def test_what_is_not_taken_is_bounded_by_bytes(layer, channel, breaks, monkeypatch):
    monkeypatch.setattr(layers, "MAX_ARRIVED_BYTES", 100_000)
    await layer.group_send_all([("a", {"n": n, "text": "x" * 9_900}) for n in range(30)])

    async def dropped():
        return layer.dropped

    await until(dropped, 20)
    assert await received(layer, channel, 10) == list(range(20, 30))
    assert "faster than they were taken" in await within_a_moment(breaks.get())


async def test_an_overflow_without_an_end_is_told_all_the_same(layer, channel, breaks, monkeypatch):
    monkeypatch.setattr(layers, "MAX_ARRIVED", 100)
    monkeypatch.setattr(layers, "LONGEST_BURST", 0)
    for burst in range(1, 4):
        await layer.group_send_all([("a", {"n": n}) for n in range(150)])

        async def dropped():
            return layer.dropped

        await until(dropped, 50 + 149 * (burst - 1))
        await within_a_moment(layer.receive(channel))
        assert "faster than they were taken" in await within_a_moment(breaks.get())


async def test_what_redis_does_not_take_is_bounded_by_number(
    layer, channel, server, breaks, caplog, few_may_wait, monkeypatch
):
    monkeypatch.setattr(layers, "LOOK_INTERVAL", 0.1)
    [link] = layer._get_layer()._shards
    server.pause()
    try:
        waiting = [asyncio.ensure_future(layer.group_send("a", {"n": n})) for n in range(50)]
        await asyncio.sleep(0)
        refused = 0
        while link._wire:
            with pytest.raises(ChannelFull):
                await layer.group_send("a", {"n": 50})
            refused += 1
            await asyncio.sleep(0.01)
        outcomes = await within_a_moment(asyncio.gather(*waiting, return_exceptions=True))
    finally:
        server.resume()
    assert {type(each) for each in outcomes} == {RedisConnectionError}
    assert layer.refused == refused
    await within_a_moment(breaks.get())

    async def told():
        return [line for line in logged(caplog) if "messages were not published" in line[1]]

    await until(told, [(logging.ERROR, f"{refused} messages were not published: too many waited for Redis")])
    await hears_again(layer, channel)
    assert layer.refused == refused


async def test_what_redis_does_not_take_is_bounded_by_bytes(layer, channel, server):
    """Without anything made smaller; and the error comes at once, not with the end of the connection."""
    [link] = layer._get_layer()._shards
    server.pause()
    try:
        sending = []
        while not (sending and sending[-1].done()):
            message = {"n": len(sending), "text": "x" * 1_000_000}
            sending.append(asyncio.ensure_future(layer.group_send("a", message)))
            await asyncio.sleep(0)
        assert 1 <= link._wire.load < 1.2
        assert not any(each.done() for each in sending[:-1])
        with pytest.raises(ChannelFull):
            await sending[-1]
        outcomes = await within_a_moment(asyncio.gather(*sending[:-1], return_exceptions=True))
        assert {type(each) for each in outcomes} == {RedisConnectionError}
    finally:
        server.resume()
    await hears_again(layer, channel)


async def test_who_waits_for_the_first_connection_is_bounded_too(server, few_may_wait):
    layer = RedisChannelLayer(hosts=[{"address": server.url}], prefix="test")
    server.pause()
    try:
        outcomes = await within_a_moment(
            asyncio.gather(*(layer.group_send("a", {"n": n}) for n in range(60)), return_exceptions=True)
        )
    finally:
        server.resume()
    assert [type(each) for each in outcomes] == [RedisConnectionError] * 50 + [ChannelFull] * 10
    await layer.flush()


async def test_what_redis_refuses_is_an_error_and_the_rest_goes_on(server):
    with redis.Redis.from_url(server.url) as observer:
        observer.acl_setuser(
            "salon", enabled=True, nopass=True, commands=["+@all"], channels=["test__group__a", "testspecific.*"]
        )
    layer = RedisChannelLayer(hosts=[{"address": server.url, "username": "salon", "password": "x"}], prefix="test")
    channel = await layer.new_channel()
    await layer.group_add("a", channel)
    with pytest.raises(ResponseError):
        await layer.group_add("b", channel)
    sent = await asyncio.gather(
        layer.group_send("a", {"n": 1}),
        layer.group_send("b", {"n": 2}),
        layer.group_send("a", {"n": 3}),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in sent] == [type(None), ResponseError, type(None)]
    assert await received(layer, channel, 2) == [1, 3]
    await layer.flush()


async def test_who_gives_up_waiting_leaves_nothing_behind(layer, channel):
    for n in range(50):
        sending = asyncio.ensure_future(layer.group_send("a", {"n": n}))
        await asyncio.sleep(0)
        sending.cancel()
    await layer.group_send("a", {"n": 50})
    assert (await received(layer, channel, 51))[-1] == 50


async def test_what_somebody_gave_up_before_there_was_a_connection_is_not_published(layer, channel, server):
    publisher = RedisChannelLayer(hosts=[{"address": server.url}], prefix="test")
    server.pause()
    try:
        sending = [asyncio.ensure_future(publisher.group_send("a", {"n": n})) for n in range(3)]
        await asyncio.sleep(0)
        sending[1].cancel()
        await asyncio.sleep(0)
    finally:
        server.resume()
    await within_a_moment(asyncio.gather(sending[0], sending[2]))
    assert await received(layer, channel, 2) == [0, 2]
    await publisher.flush()


async def test_what_cannot_be_read_takes_nothing_else_with_it(layer, channel, server, caplog):
    await layer.group_send("a", {"n": 1})
    with redis.Redis.from_url(server.url) as observer:
        observer.publish("test__group__a", b"\xc1")
    await layer.group_send("a", {"n": 2})
    assert await received(layer, channel, 2) == [1, 2]
    assert logged(caplog) == [(logging.ERROR, "A message in the channel layer cannot be read")]


def test_who_wants_to_be_told_need_not_wait_for_an_event_loop(server):
    layer = RedisChannelLayer(hosts=[{"address": server.url}], prefix="test")
    reasons = []
    layer.on_break(reasons.append)

    async def lose_it(number):
        await layer.new_channel()
        kill_listeners(server)

        async def count():
            return len(reasons)

        await until(count, number)

    for number in (1, 2):
        asyncio.run(lose_it(number))
