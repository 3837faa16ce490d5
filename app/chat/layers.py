"""The channel layer over Redis: channels-redis' pub/sub layer, for a process that is one channel in many groups.

channels-redis holds a lock over a round trip for each message that is published, polls for each that comes, keeps
whatever is not taken, and never says that a connection was lost. Here a message is written when it is published and
read when it comes; what waits is bounded, both ways; a lost connection is made anew, with all that was subscribed to;
and whoever wants to know is told when messages may have been lost on their way here.
"""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from channels.exceptions import ChannelFull
from channels_redis.pubsub import RedisPubSubChannelLayer, RedisPubSubLoopLayer, RedisSingleShardConnection
from channels_redis.utils import _wrap_close, create_pool
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.maint_notifications import MaintNotificationsConfig

from chat import services
from chat.wire import MAX_UNANSWERED, MAX_UNSENT, Waiting, Wire, command
from salon import measures
from salon.logs import apart, nobodys

logger = logging.getLogger(__name__)

MAX_HANDED_OVER = 500
"""Messages that are handed over at once."""

MAX_ARRIVED = 20_000
"""Messages of one channel that may wait to be taken: some seconds' worth for a process that has fallen behind. What is
older, it reads from the database sooner than from here."""

MAX_ARRIVED_BYTES = 16 * 1024 * 1024
"""Bytes of them: 20,000 of the largest messages would be 2.5 GB."""

LONGEST_BURST = 10.0
"""Seconds after which an overflow that has not ended is told all the same."""

LOOK_INTERVAL = 0.25
"""Seconds between two looks whether Redis lives: with `wire.SILENT_LOOKS` one that hangs, or whose packets are dropped,
is given up after less than two seconds, which is what a publisher waits for (`CHANNEL_LAYER_TIMEOUT`)."""

TRY_TIMEOUT = 2.0
"""Seconds that a try to connect may take as a whole: to ask sentinels, to connect, to log in and to subscribe."""

CONNECT_TIMEOUT = 1.0
"""Seconds of these for one connection, and for each answer on the way: after a link is back, the next packet goes out
within that time."""

SENTINEL_TIMEOUT = 0.4
"""Seconds of these for each sentinel that is away, before the next one is asked."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
"""Seconds between the beginnings of two tries, at most: each time twice as many. It is a random part of it, so that
not all processes come at once."""


def _pool(host: dict) -> ConnectionPool:
    """What makes connections to one of the `hosts` of channels-redis."""
    common = {
        "protocol": 3,
        # Whether to try again is decided here, and a user with few rights is not to be asked for more.
        "retry": Retry(NoBackoff(), 0),
        "driver_info": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    host = {**common, "socket_timeout": CONNECT_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT, **host}
    if "sentinels" in host:
        timeouts = {"socket_timeout": SENTINEL_TIMEOUT, "socket_connect_timeout": SENTINEL_TIMEOUT}
        host["sentinel_kwargs"] = {**common, **timeouts, **(host.get("sentinel_kwargs") or {})}
    return create_pool(host)


class Link(RedisSingleShardConnection):
    """The link to one Redis, over a `Wire` that is replaced when it is lost."""

    def __init__(self, host: dict, channel_layer: "LoopLayer") -> None:
        super().__init__(host, channel_layer)
        self._pool = _pool(host)
        self._wire: Wire | None = None
        self._opening: asyncio.Task[None] | None = None
        self._failure = ""
        """Why the last try to connect came to nothing, while there are more to come."""
        self._backlog: list[tuple[bytes, Waiting]] = []
        """What is sent as soon as there is a wire."""
        self._backlog_bytes = 0
        self._is_broken = False
        """Whether something that was subscribed to was not heard for a while, and nobody was told yet."""
        self._refused = 0
        """Messages that were not taken since this was last logged."""
        self._look: asyncio.TimerHandle | None = None

    async def publish(self, channel: str, message: bytes) -> None:
        await self.publish_all([(channel, message)])

    async def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish messages, each to its channel, in order and in one write.

        Raises `ChannelFull` at once when too much waits for Redis already, and redis-py's errors or `OSError` when
        Redis is away or has refused one of them.
        """
        if self._load() >= 1:
            self._refused += len(messages)
            self.channel_layer.channel_layer.refused += len(messages)
            raise ChannelFull("too many messages wait for Redis")
        await self._send(b"".join([_publish(*message) for message in messages]), len(messages))

    async def subscribe(self, channel: str) -> None:
        if channel in self._subscribed_to:
            return
        # Before: a wire that is opened meanwhile subscribes to it too.
        self._subscribed_to.add(channel)
        try:
            await self._send(command(b"SUBSCRIBE", channel.encode()), 1)
        except BaseException:
            self._subscribed_to.discard(channel)
            raise

    async def unsubscribe(self, channel: str) -> None:
        if channel in self._subscribed_to:
            self._subscribed_to.remove(channel)
            if self._wire or (self._opening and not self._failure):
                await self._send(command(b"UNSUBSCRIBE", channel.encode()), 1)

    async def flush(self) -> None:
        self._subscribed_to = set()
        self._is_broken = False
        if self._opening:
            self._opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._opening
        if self._look:
            self._look.cancel()
            self._look = None
        self._fail_backlog("The connection to Redis was closed.")
        if self._wire:
            self._wire.abort("it is no longer needed")
            self._wire = None

    @property
    def unanswered(self) -> int:
        """How many sends wait for Redis."""
        return self._wire.unanswered if self._wire else len(self._backlog)

    def _load(self) -> float:
        """How much of what may wait for Redis does; from 1 on, nothing more is taken."""
        if self._wire:
            return self._wire.load
        return max(len(self._backlog) / MAX_UNANSWERED, self._backlog_bytes / MAX_UNSENT)

    def _send(self, commands: bytes, answers: int) -> asyncio.Future[None]:
        """Send commands; the future is done with the last of so many answers to them."""
        loop = asyncio.get_running_loop()
        waiting = Waiting(answers, loop)
        if self._wire:
            self._wire.send(commands, waiting)
            return waiting.future
        if self._failure:
            # Who waits for something else than Redis, like the people in this process, need not wait for each try.
            raise RedisConnectionError(self._failure)
        self._backlog.append((commands, waiting))
        self._backlog_bytes += len(commands)
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), context=nobodys())
        if self._look is None:
            self._look = loop.call_later(LOOK_INTERVAL, self._look_now)
        return waiting.future

    async def _open(self) -> None:
        """Try to have a wire until there is one, as long as somebody wants it."""
        clock = asyncio.get_running_loop().time
        pause = FIRST_PAUSE
        try:
            while self._subscribed_to or self._backlog:
                next_try = clock() + random.uniform(0, pause)  # nosec B311 # noqa: S311 (no secret)
                try:
                    async with asyncio.timeout(TRY_TIMEOUT):
                        wire = await self._open_and_subscribe()
                except Exception as error:  # noqa: BLE001 (a service that comes back raises this and that)
                    self._failure = f"Redis cannot be reached: {str(error) or 'timed out'}"
                    services.channel_layer.failed(self._failure)
                    self._fail_backlog(self._failure)
                    await asyncio.sleep(next_try - clock())
                    pause = min(2 * pause, LONGEST_PAUSE)
                else:
                    self._opened(wire)
                    return
        finally:
            self._opening = None
            self._failure = ""

    async def _open_and_subscribe(self) -> Wire:
        try:
            wire = await Wire.open(self._pool, self._heard, self._lost)
        finally:
            if sentinel := getattr(self._pool, "sentinel_manager", None):
                # The next time may be in a month.
                await sentinel.aclose()
        try:
            if self._subscribed_to:
                names = [channel.encode() for channel in self._subscribed_to]
                waiting = Waiting(len(names), asyncio.get_running_loop())
                wire.send(command(b"SUBSCRIBE", *names), waiting)
                await waiting.future
            if wire.is_lost:
                raise RedisConnectionError("The connection was lost as soon as it was made.")
        except BaseException:
            wire.abort("it could not be used")
            raise
        return wire

    def _opened(self, wire: Wire) -> None:
        self._wire = wire
        backlog, self._backlog, self._backlog_bytes = self._backlog, [], 0
        for commands, waiting in backlog:
            # Who has given up meanwhile does not want it any more.
            if not waiting.future.done():
                wire.send(commands, waiting)
        services.channel_layer.answered()
        if self._is_broken:
            self._is_broken = False
            self.channel_layer.channel_layer.tell_break("the connection to Redis was lost and is made anew")

    def _fail_backlog(self, reason: str) -> None:
        backlog, self._backlog, self._backlog_bytes = self._backlog, [], 0
        for _, waiting in backlog:
            waiting.fail(RedisConnectionError(reason))

    def _heard(self, channel: bytes, message: bytes) -> None:
        layer = self.channel_layer
        name = channel.decode()
        if (arrivals := layer.channels.get(name)) is not None:
            arrivals.put_nowait(message)
            return
        for member in layer.groups.get(name, ()):
            if (arrivals := layer.channels.get(member)) is not None:
                arrivals.put_nowait(message)

    def _lost(self, wire: Wire, reason: str) -> None:
        if wire is not self._wire:
            return
        self._wire = None
        # Without a subscription nothing is missed; the next that is published opens another one.
        if self._subscribed_to:
            self._is_broken = True
            services.channel_layer.failed(f"the connection to Redis was lost: {reason}")
            self._opening = asyncio.create_task(self._open(), context=nobodys())

    def _look_now(self) -> None:
        if self._wire:
            self._wire.look()
        if self._refused and self._load() <= 0.5:
            logger.error(
                "%d messages were not published: too many waited for Redis",
                self._refused,
                extra=apart("channel_layer.overflow", messages=self._refused),
            )
            self._refused = 0
        self._look = asyncio.get_running_loop().call_later(LOOK_INTERVAL, self._look_now)


def _publish(channel: str, message: bytes) -> bytes:
    name = channel.encode()
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(message), message)


class Arrivals:
    """What has arrived on one channel and was not taken yet; when it is too much, the oldest is dropped.

    It stands in for the `asyncio.Queue` of channels-redis.
    """

    __slots__ = ("_bytes", "_dropped", "_has_some", "_layer", "_messages", "_overflowed_at")

    def __init__(self, layer: "RedisChannelLayer") -> None:
        self._layer = layer
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self._has_some = asyncio.Event()
        self._dropped = 0
        """In this burst."""
        self._overflowed_at = 0.0

    def put_nowait(self, message: bytes) -> None:
        messages = self._messages
        messages.append(message)
        self._bytes += len(message)
        if len(messages) > MAX_ARRIVED or self._bytes > MAX_ARRIVED_BYTES:
            self._drop()
        self._has_some.set()

    def __len__(self) -> int:
        return len(self._messages)

    async def get(self) -> bytes:
        while not self._messages:
            self._has_some.clear()
            await self._has_some.wait()
        return self.take(1)[0]

    def take(self, most: int) -> list[bytes]:
        """The oldest ones, which may be none."""
        messages = self._messages
        taken = [messages.popleft() for _ in range(min(most, len(messages)))]
        self._bytes -= sum(map(len, taken))
        if self._dropped:
            self._end_burst()
        return taken

    def _drop(self) -> None:
        if not self._dropped:
            self._overflowed_at = asyncio.get_running_loop().time()
        while len(self._messages) > MAX_ARRIVED or self._bytes > MAX_ARRIVED_BYTES:
            self._bytes -= len(self._messages.popleft())
            self._dropped += 1
            self._layer.dropped += 1

    def _end_burst(self) -> None:
        # Not as soon as one more would fit: the next would begin another burst.
        has_room = len(self._messages) <= MAX_ARRIVED / 2 and self._bytes <= MAX_ARRIVED_BYTES / 2
        if has_room or asyncio.get_running_loop().time() - self._overflowed_at > LONGEST_BURST:
            logger.error(
                "%d messages were dropped: they came faster than they were taken",
                self._dropped,
                extra=apart("channel_layer.dropped", messages=self._dropped),
            )
            self._dropped = 0
            self._layer.tell_break("messages came faster than they were taken")


class LoopLayer(RedisPubSubLoopLayer):
    """The channel layer of one event loop."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._shards = [Link(shard.host, self) for shard in self._shards]

    async def _subscribe_to_channel(self, channel: str) -> None:
        self.channels[channel] = Arrivals(self.channel_layer)
        try:
            await self._get_shard(channel).subscribe(channel)
        except BaseException:
            # Nobody learns its name.
            self.channels.pop(channel, None)
            raise


class RedisChannelLayer(RedisPubSubChannelLayer):
    """channels-redis' pub/sub layer on `Link`s; it also sends to many groups and hands over many messages at once."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.dropped = 0
        """Messages that arrived and were dropped, because too many waited to be taken."""
        self.refused = 0
        """Messages that were not taken for publishing, because too many waited for Redis."""
        self._on_break: list[Callable[[str], None]] = []
        measures.queues["channel_layer_out"] = lambda: sum(link.unanswered for link in self._links())
        measures.queues["channel_layer_in"] = lambda: sum(map(len, self._arrivals()))

    def _links(self) -> list[Link]:
        return [link for layer in self._layers.values() for link in layer._shards]

    def _arrivals(self) -> "list[Arrivals]":
        return [arrivals for layer in self._layers.values() for arrivals in layer.channels.values()]

    def on_break(self, receiver: Callable[[str], None]) -> None:
        """Have `receiver` called with a reason when messages to channels here may have been lost.

        It is called on the event loop of these channels, once they hear again: after the connection was lost, and after
        too many messages waited to be taken, once for each burst; once, however often it was given here.
        """
        if receiver not in self._on_break:
            self._on_break.append(receiver)

    def tell_break(self, reason: str) -> None:
        """Messages to channels of this event loop may have been lost, and from now on they hear again."""
        for receiver in self._on_break:
            asyncio.get_running_loop().call_soon(receiver, reason)

    def _get_layer(self) -> LoopLayer:
        loop = asyncio.get_running_loop()
        if (layer := self._layers.get(loop)) is None:
            layer = self._layers[loop] = LoopLayer(*self._args, **self._kwargs, channel_layer=self)
            _wrap_close(self, loop)
        return layer

    async def receive_all(self, channel: str) -> list[dict]:
        """What has arrived on the channel, in order; at least one message, which is waited for."""
        messages = [await self.receive(channel)]
        for message in self._get_layer().channels[channel].take(MAX_HANDED_OVER - 1):
            try:
                messages.append(self.deserialize(message))
            except Exception:
                # The others came with it by chance.
                logger.exception("A message in the channel layer cannot be read")
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
