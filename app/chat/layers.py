"""The channel layer over Redis: channels-redis' pub/sub layer, for a process that is one channel in many groups.

channels-redis holds a lock over a round trip for each message that is published, polls for each that comes, and never
says that a connection was lost. Here a message is written when it is published and read when it comes, and a lost
connection is made anew, with all that was subscribed to.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence

from channels_redis.pubsub import RedisPubSubChannelLayer, RedisPubSubLoopLayer, RedisSingleShardConnection
from channels_redis.utils import create_pool
from redis.asyncio.connection import ConnectionPool

from chat.wire import Wire, command

logger = logging.getLogger(__name__)

MAX_ARRIVED = 500
"""Messages that are handed over at once."""

PATIENCE = 5.0
"""Seconds without an answer after which a connection is given up, and without a sign of life after which it is asked
for one."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between two tries to connect again: each time twice as many."""


class Link(RedisSingleShardConnection):
    """The link to one Redis, over a `Wire` that is replaced when it is lost."""

    def __init__(self, host: dict, channel_layer: RedisPubSubLoopLayer) -> None:
        super().__init__(host, channel_layer)
        self._pool: ConnectionPool = create_pool({**host, "protocol": 3})
        self._wire: Wire | None = None
        self._opening = asyncio.Lock()
        self._coming = 0
        """Publishers who wait for a wire."""
        self._repair: asyncio.Task[None] | None = None
        self._look: asyncio.TimerHandle | None = None

    async def publish(self, channel: str, message: bytes) -> None:
        await self.publish_all([(channel, message)])

    async def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish messages, each to its channel, in order and in one write.

        Raises redis-py's errors, or `OSError`, when Redis is away or has refused one of them.
        """
        wire = self._wire
        if wire is None or self._coming:
            # Behind those who wait already: nothing overtakes what was published before.
            self._coming += 1
            try:
                wire = await self._open()
            finally:
                self._coming -= 1
        await wire.send(b"".join([_publish(*message) for message in messages]), len(messages))

    async def subscribe(self, channel: str) -> None:
        if channel in self._subscribed_to:
            return
        # Before: a wire that is opened meanwhile subscribes to it too.
        self._subscribed_to.add(channel)
        try:
            wire = self._wire or await self._open()
            await wire.send(command(b"SUBSCRIBE", channel.encode()), 1)
        except BaseException:
            self._subscribed_to.discard(channel)
            raise

    async def unsubscribe(self, channel: str) -> None:
        if channel in self._subscribed_to:
            self._subscribed_to.remove(channel)
            if self._wire:
                await self._wire.send(command(b"UNSUBSCRIBE", channel.encode()), 1)

    async def flush(self) -> None:
        self._subscribed_to = set()
        if self._repair:
            self._repair.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._repair
        if self._look:
            self._look.cancel()
            self._look = None
        if self._wire:
            self._wire.abort()
            self._wire = None

    async def _open(self) -> Wire:
        async with self._opening:
            if self._wire is None:
                async with asyncio.timeout(PATIENCE):
                    self._wire = await self._open_and_subscribe()
                if self._look is None:
                    self._look_later()
            return self._wire

    async def _open_and_subscribe(self) -> Wire:
        wire = await Wire.open(self._pool, self._heard, self._lost)
        try:
            if self._subscribed_to:
                names = [channel.encode() for channel in self._subscribed_to]
                await wire.send(command(b"SUBSCRIBE", *names), len(names))
        except BaseException:
            wire.abort()
            raise
        return wire

    def _heard(self, channel: bytes, message: bytes) -> None:
        self._receive_message({"channel": channel, "data": message})

    def _lost(self, wire: Wire) -> None:
        if wire is self._wire:
            self._wire = None
            logger.warning("The connection to Redis was lost")
            if self._subscribed_to and self._repair is None:
                self._repair = asyncio.create_task(self._open_again())

    async def _open_again(self) -> None:
        pause = FIRST_PAUSE
        try:
            while self._subscribed_to:
                try:
                    await self._open()
                except Exception as error:  # noqa: BLE001 (a service that comes back raises this and that)
                    logger.debug("Redis cannot be reached: %r", error)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                else:
                    logger.warning("The connection to Redis is back")
                    return
        finally:
            self._repair = None

    def _look_later(self) -> None:
        self._look = asyncio.get_running_loop().call_later(PATIENCE / 2, self._look_now)

    def _look_now(self) -> None:
        if self._wire:
            self._wire.look(PATIENCE)
        self._look_later()


def _publish(channel: str, message: bytes) -> bytes:
    name = channel.encode()
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(message), message)


class RedisChannelLayer(RedisPubSubChannelLayer):
    """channels-redis' pub/sub layer on `Link`s; it also sends to many groups and hands over many messages at once."""

    def _get_layer(self) -> RedisPubSubLoopLayer:
        is_new = asyncio.get_running_loop() not in self._layers
        layer = super()._get_layer()
        if is_new:
            layer._shards = [Link(shard.host, layer) for shard in layer._shards]
        return layer

    async def receive_all(self, channel: str) -> list[dict]:
        """What has arrived on the channel, in order; at least one message, which is waited for."""
        messages = [await self.receive(channel)]
        arrived = self._get_layer().channels[channel]
        while len(messages) < MAX_ARRIVED and not arrived.empty():
            messages.append(self.deserialize(arrived.get_nowait()))
        return messages

    async def group_send_all(self, messages: Iterable[tuple[str, dict]]) -> None:
        """Send messages, each to its group, in order and in one round trip for each Redis."""
        layer = self._get_layer()
        by_shard: dict[Link, list[tuple[str, bytes]]] = {}
        for group, message in messages:
            channel = layer._get_group_channel_name(group)
            by_shard.setdefault(layer._get_shard(channel), []).append((channel, self.serialize(message)))
        for shard, found in by_shard.items():
            await shard.publish_all(found)
