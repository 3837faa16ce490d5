"""The channel layer over Redis: channels-redis' pub/sub layer, for a process that is one channel in many groups.

What is published while a publish is under way goes out together after it, in one write and one round trip, in order;
channels-redis holds a lock over a round trip for each.
"""

import asyncio
import logging
import math
from collections.abc import Iterable, Sequence

from channels_redis.pubsub import RedisPubSubChannelLayer, RedisPubSubLoopLayer, RedisSingleShardConnection
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from chat.batches import Batches

logger = logging.getLogger(__name__)

MAX_PIPELINE = 500
"""Calls of `publish_all` that go out together; a call is one message, or those of one commit."""

LISTENING = 1.0
"""Seconds between two looks at the health of a connection on which nothing comes."""


class PipeliningConnection(RedisSingleShardConnection):
    """The connection to one Redis; its publishes share their round trips."""

    def __init__(self, host: dict, channel_layer: RedisPubSubLoopLayer) -> None:
        super().__init__(host, channel_layer)
        self._publisher: AbstractConnection | None = None
        self._publishes: Batches[Sequence[tuple[str, bytes]], None] = Batches(self._pipeline, MAX_PIPELINE)

    async def publish(self, channel: str, message: bytes) -> None:
        await self.publish_all([(channel, message)])

    async def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish messages, each to its channel, in order. Raises redis-py's errors when one of them was refused."""
        await self._publishes.ask(messages)

    async def _pipeline(self, calls: list[Sequence[tuple[str, bytes]]]) -> list[Exception | None]:
        # redis-py's own pipeline does several times the work of a command for each.
        if self._publisher is None:
            self._ensure_redis()
            self._publisher = await self._redis.connection_pool.get_connection()
        publisher = self._publisher
        try:
            await publisher.send_packed_command(b"".join([_publish(*message) for call in calls for message in call]))
            return [await self._refusal(publisher, len(call)) for call in calls]
        except BaseException:
            # Answers that are still to come would be taken for those to other commands.
            await publisher.disconnect(nowait=True)
            raise

    async def _refusal(self, publisher: AbstractConnection, answers: int) -> ResponseError | None:
        """The first refusal among so many answers."""
        refusal = None
        for _ in range(answers):
            try:
                await publisher.read_response()
            except ResponseError as error:
                refusal = refusal or error
        return refusal

    async def flush(self) -> None:
        self._publisher = None
        await super().flush()

    async def _do_receiving(self) -> None:
        # The way in which channels-redis waits wakes the process ten times a second.
        while True:
            try:
                if self._pubsub and self._pubsub.subscribed:
                    message = await self._pubsub.get_message(ignore_subscribe_messages=True, timeout=LISTENING)
                    self._receive_message(message)
                    await self._drain(self._pubsub.connection)
                else:
                    await asyncio.sleep(0.1)
            except (asyncio.CancelledError, GeneratorExit):
                raise
            except Exception:
                logger.exception("Redis cannot be listened to; trying again in a second")
                await asyncio.sleep(1)

    async def _drain(self, connection: AbstractConnection) -> None:
        """Take what has come with the last message, without a timer for each."""
        while await connection.can_read():
            response = await connection.read_response(timeout=math.inf, disconnect_on_error=False, push_request=True)
            self._receive_message(await self._pubsub.handle_message(response, ignore_subscribe_messages=True))


def _publish(channel: str, message: bytes) -> bytes:
    """The command in Redis' protocol (RESP)."""
    name = channel.encode()
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(message), message)


class RedisChannelLayer(RedisPubSubChannelLayer):
    """channels-redis' pub/sub layer on `PipeliningConnection`s, which can also send to many groups at once,
    and hand over at once what has arrived."""

    def _get_layer(self) -> RedisPubSubLoopLayer:
        is_new = asyncio.get_running_loop() not in self._layers
        layer = super()._get_layer()
        if is_new:
            layer._shards = [PipeliningConnection(shard.host, layer) for shard in layer._shards]
        return layer

    async def receive_all(self, channel: str) -> list[dict]:
        """What has arrived on the channel, in order; at least one message, which is waited for."""
        messages = [await self.receive(channel)]
        arrived = self._get_layer().channels[channel]
        while len(messages) < MAX_PIPELINE and not arrived.empty():
            messages.append(self.deserialize(arrived.get_nowait()))
        return messages

    async def group_send_all(self, messages: Iterable[tuple[str, dict]]) -> None:
        """Send messages, each to its group, in order and in one round trip for each Redis."""
        layer = self._get_layer()
        by_shard: dict[PipeliningConnection, list[tuple[str, bytes]]] = {}
        for group, message in messages:
            channel = layer._get_group_channel_name(group)
            by_shard.setdefault(layer._get_shard(channel), []).append((channel, self.serialize(message)))
        for shard, found in by_shard.items():
            await shard.publish_all(found)
