"""The channel layer over a real Redis: in order, in few writes, and there again when Redis is."""

import asyncio

import pytest
import redis
from redis.exceptions import ResponseError
from services import Redis

from chat import layers
from chat.layers import RedisChannelLayer

MOMENT = 20
"""Seconds that something may take on a busy machine."""


@pytest.fixture
def server():
    with Redis() as server:
        yield server


@pytest.fixture
async def layer(server):
    layer = RedisChannelLayer(hosts=[{"address": server.url, "socket_connect_timeout": 2}], prefix="test")
    yield layer
    await layer.flush()


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


async def test_after_a_restart_of_redis_it_hears_again(layer, channel, server):
    await layer.group_send("a", {"n": 1})
    assert await received(layer, channel, 1) == [1]
    server.stop()
    with pytest.raises((OSError, redis.RedisError)):
        await layer.group_send("a", {"n": 2})
    server.start()
    await hears_again(layer, channel)
    await layer.group_send("b", {"n": 3})
    assert await received(layer, channel, 1) == [3]


async def test_a_connection_that_is_killed_is_made_again(layer, channel, server):
    with redis.Redis.from_url(server.url) as observer:
        observer.client_kill_filter(_type="pubsub")
    await hears_again(layer, channel)


async def test_nothing_overtakes_while_the_connection_is_made_again(layer, channel, server):
    for _ in range(5):
        with redis.Redis.from_url(server.url) as observer:
            observer.client_kill_filter(_type="pubsub")
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


async def test_a_redis_that_hangs_is_given_up_and_found_again(layer, channel, server, monkeypatch):
    monkeypatch.setattr(layers, "PATIENCE", 0.3)
    server.pause()
    try:
        with pytest.raises((OSError, redis.RedisError, TimeoutError)):
            async with asyncio.timeout(MOMENT):
                await layer.group_send("a", {"n": 1})
    finally:
        server.resume()
    await hears_again(layer, channel)


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
