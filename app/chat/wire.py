"""A connection to Redis over which a process both publishes and listens (RESP3).

redis-py opens it, with all that an address can ask for, and hands it over: from then on an answer or a message costs no
task, no timer and no turn of the event loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

PING = b"*1\r\n$4\r\nPING\r\n"


def command(name: bytes, *arguments: bytes) -> bytes:
    """A command in Redis' protocol."""
    parts = [b"*%d\r\n$%d\r\n%b\r\n" % (len(arguments) + 1, len(name), name)]
    parts += [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments]
    return b"".join(parts)


class Waiting:
    """So many answers that somebody waits for, since when, and the first refusal among them."""

    __slots__ = ("future", "left", "refusal", "since")

    def __init__(self, answers: int, loop: asyncio.AbstractEventLoop) -> None:
        self.left = answers
        self.future: asyncio.Future[None] = loop.create_future()
        self.since = loop.time()
        self.refusal: ResponseError | None = None


class Wire(asyncio.Protocol):
    """One connection, from `open` until it is lost.

    `heard` is called with the channel and the content of each message, `lost` once at the end.
    """

    def __init__(
        self, connection: AbstractConnection, heard: Callable[[bytes, bytes], None], lost: Callable[["Wire"], None]
    ) -> None:
        self._connection = connection
        # redis-py has no public way to hand over what it has opened; this is the name in the pinned version.
        self._transport = connection._writer.transport
        self._heard = heard
        self._lost = lost
        self._reader = hiredis.Reader()
        self._waiting: deque[Waiting] = deque()
        self._unsent: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._transport.set_protocol(self)

    @classmethod
    async def open(
        cls, pool: ConnectionPool, heard: Callable[[bytes, bytes], None], lost: Callable[["Wire"], None]
    ) -> "Wire":
        """A new connection. Raises redis-py's errors, or `OSError`."""
        connection = pool.make_connection()
        await connection.connect()
        return cls(connection, heard, lost)

    def send(self, commands: bytes, answers: int) -> asyncio.Future[None]:
        """Send commands; the future is done with the last of so many answers to them.

        It raises `ResponseError` when one of them is refused, and `redis.exceptions.ConnectionError` when the
        connection is lost before.
        """
        waiting = Waiting(answers, self._loop)
        self._waiting.append(waiting)
        # What is sent in one turn of the event loop is one write.
        if not self._unsent:
            self._loop.call_soon(self._write)
        self._unsent.append(commands)
        return waiting.future

    def _write(self) -> None:
        self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def look(self, patience: float) -> None:
        """Give the connection up when an answer is due for `patience` seconds; ask for one when nothing else came."""
        now = self._loop.time()
        if self._waiting:
            if now - self._waiting[0].since > patience:
                self._transport.abort()
        elif now - self._heard_at > patience:
            # Whoever would wait for the answer is the next look.
            self.send(PING, 1).add_done_callback(_take)

    def abort(self) -> None:
        """End the connection."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        reader = self._reader
        reader.feed(data)
        while (reply := reader.gets()) is not False:
            if type(reply) is not hiredis.PushNotification:
                self._answered(reply)
            elif reply[0] == b"message":
                self._heard(reply[1], reply[2])
            elif reply[0] in (b"subscribe", b"unsubscribe"):
                # This is how these two are answered.
                self._answered(reply)

    def connection_lost(self, error: Exception | None) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.future.done():
                waiting.future.set_exception(RedisConnectionError("The connection to Redis was lost."))
        self._lost(self)

    def _answered(self, reply: object) -> None:
        waiting = self._waiting[0]
        if isinstance(reply, hiredis.ReplyError) and waiting.refusal is None:
            waiting.refusal = ResponseError(str(reply))
        waiting.left -= 1
        if waiting.left:
            return
        self._waiting.popleft()
        if waiting.future.done():  # whoever waited has gone
            return
        if waiting.refusal:
            waiting.future.set_exception(waiting.refusal)
        else:
            waiting.future.set_result(None)


def _take(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()
