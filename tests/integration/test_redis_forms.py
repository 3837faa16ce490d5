"""The channel layer with each form of `REDIS_URL`, over real servers."""

import asyncio
from contextlib import ExitStack

import pytest
import redis
from authority import certify
from eventually import until
from redis.exceptions import ConnectionError as RedisConnectionError
from services import Redis, Sentinel
from target import free_port

from chat.layers import RedisChannelLayer
from chat.services import Service
from salon import redis_url
from waiting import wait_until

MOMENT = 20
"""Seconds that something may take on a busy machine."""

RIGHTS = "resetkeys resetchannels &salon* -@all +hello +auth +ping +select +publish +subscribe +unsubscribe"
SENTINEL_RIGHTS = "-@all +hello +auth +sentinel|masters"
"""What a user of the channel layer needs, as `salon.redis_url` says."""


@pytest.fixture(autouse=True)
def service(monkeypatch):
    monkeypatch.setattr("chat.services.channel_layer", Service("channel layer"))


@pytest.fixture
async def open_layer():
    """Makes the channel layer of a `REDIS_URL`."""
    layers = []

    def open_layer(url):
        layers.append(RedisChannelLayer(hosts=[redis_url.host(url)], prefix="salon"))
        return layers[-1]

    yield open_layer
    for layer in layers:
        await layer.flush()


async def channel_of(layer):
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    return channel


async def goes_round(layer, channel, number=1):
    async with asyncio.timeout(MOMENT):
        await layer.group_send("room", {"n": number})
        assert (await layer.receive(channel)) == {"n": number}


def give_rights(server):
    """Make a user `salon`, and let it come over TCP."""
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "salon", "on", ">p@ss", *RIGHTS.split())
        admin.config_set("protected-mode", "no")


async def test_a_user_with_few_rights_over_tcp(open_layer):
    with Redis("--port", port := free_port()) as server:
        give_rights(server)
        layer = open_layer(f"redis://salon:p%40ss@127.0.0.1:{port}/1")
        channel = await channel_of(layer)
        await goes_round(layer, channel)
        await layer.group_discard("room", channel)
        with redis.Redis.from_url(server.url) as admin:

            async def is_asked_for_a_sign_of_life():
                return "cmdstat_ping" in admin.info("commandstats")

            await until(is_asked_for_a_sign_of_life, True)
            assert admin.acl_log() == []
            admin.execute_command("ACL", "SETUSER", "salon", "-select")
        refused = open_layer(f"redis://salon:p%40ss@127.0.0.1:{port}/1")
        with pytest.raises(RedisConnectionError, match="no permissions to run the 'select' command"):
            await refused.new_channel()


def test_the_rights_are_those_that_are_written_down():
    assert f"    {RIGHTS}\n" in redis_url.__doc__
    assert f"`{SENTINEL_RIGHTS}`" in redis_url.__doc__


async def test_a_wrong_password_is_said_once_and_not_shown(open_layer, caplog):
    with Redis("--port", port := free_port()) as server:
        give_rights(server)
        layer = open_layer(f"redis://salon:wrong@127.0.0.1:{port}")
        for _ in range(3):
            with pytest.raises(RedisConnectionError, match="invalid username-password pair"):
                await layer.group_send("room", {"n": 1})
    [record] = caplog.records
    assert "invalid username-password pair" in record.getMessage()
    assert "wrong@" not in record.getMessage()


async def test_tls_with_certificates_on_both_sides(open_layer, tmp_path):
    certify(tmp_path)
    (tmp_path / "other").mkdir()
    certify(tmp_path / "other")
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key")}
    options = ["--tls-ca-cert-file", files["ca"], "--tls-cert-file", files["cert"], "--tls-key-file", files["key"]]
    ours = f"ssl_certfile={files['cert']}&ssl_keyfile={files['key']}"
    with Redis("--tls-port", port := free_port(), *options):
        layer = open_layer(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={files['ca']}&{ours}")
        channel = await channel_of(layer)
        await goes_round(layer, channel)
        wrong = {
            "certificate verify failed": f"?ssl_ca_certs={tmp_path}/other/ca.pem&{ours}",
            "certificate required|closed|reset": f"?ssl_ca_certs={files['ca']}",
        }
        for clue, query in wrong.items():
            with pytest.raises(RedisConnectionError, match=f"(?i){clue}"):
                await open_layer(f"rediss://127.0.0.1:{port}{query}").new_channel()
        await goes_round(layer, channel, 2)


async def test_a_failover_by_a_sentinel(open_layer):
    """The master ends; the layer finds the one that the sentinel has put in its place."""
    first, second, sentinel_port = free_port(), free_port(), free_port()
    with ExitStack() as stack:
        master = stack.enter_context(Redis("--port", first))
        give_rights(master)
        replica = stack.enter_context(Redis("--port", second, "--replicaof", "127.0.0.1", first))
        give_rights(replica)
        with redis.Redis.from_url(replica.url) as admin:
            wait_until(lambda: admin.info("replication")["master_link_status"] == "up", "the replica")
        stack.enter_context(Sentinel(sentinel_port, first, user=f"watch on >w@tch {SENTINEL_RIGHTS}"))
        with redis.Redis(port=sentinel_port) as sentinel:
            wait_until(lambda: sentinel.sentinel_slaves("main"), "the sentinel to know the replica")

            # One of the sentinels is away.
            hosts = f"127.0.0.1:{free_port()},127.0.0.1:{sentinel_port}"
            own = "sentinel_username=watch&sentinel_password=w%40tch"
            layer = open_layer(f"redis+sentinel://salon:p%40ss@{hosts}/main/1?{own}")
            breaks = asyncio.Queue()
            layer.on_break(breaks.put_nowait)
            channel = await channel_of(layer)
            await goes_round(layer, channel)

            master.stop()
            assert "lost" in await asyncio.wait_for(breaks.get(), MOMENT)
            assert sentinel.sentinel_get_master_addr_by_name("main") == (b"127.0.0.1", second)
            await goes_round(layer, channel, 2)
            assert breaks.empty()
            assert sentinel.acl_log() == []


async def test_a_sentinel_that_does_not_know_the_master(open_layer):
    with Redis("--port", port := free_port()), Sentinel(sentinel_port := free_port(), port):
        with pytest.raises(RedisConnectionError, match="No master found for 'other'"):
            await open_layer(f"redis+sentinel://127.0.0.1:{sentinel_port}/other").new_channel()
        layer = open_layer(f"redis+sentinel://127.0.0.1:{sentinel_port}/main")
        await goes_round(layer, await channel_of(layer))
