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

SILENT_LOOKS = 6
"""Looks in a row that find nothing heard since the one before, after which a connection is given up."""

MAX_UNANSWERED = 20_000
"""Sends that may wait for their answers, some 400 bytes each: as many as a busy process makes in seconds, and Redis
answers within milliseconds."""

MAX_UNSENT = 16 * 1024 * 1024
"""Bytes that may wait until Redis reads: a hundred of the largest messages, and many thousands of the usual ones."""


def command(name: bytes, *arguments: bytes) -> bytes:
    """A command in Redis' protocol."""
    parts = [b"*%d\r\n$%d\r\n%b\r\n" % (len(arguments) + 1, len(name), name)]
    parts += [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments]
    return b"".join(parts)


class Waiting:
    """So many answers that somebody waits for, and the first refusal among them."""

    __slots__ = ("future", "left", "refusal")

    def __init__(self, answers: int, loop: asyncio.AbstractEventLoop) -> None:
        self.left = answers
        self.future: asyncio.Future[None] = loop.create_future()
        self.refusal: ResponseError | None = None

    def fail(self, error: Exception) -> None:
        """The answers will not come."""
        if not self.future.done():
            self.future.set_exception(error)


class Wire(asyncio.Protocol):
    """One connection, from `open` until it is lost.

    `heard` is called with the channel and the content of each message, `lost` once at the end, with the reason.
    """

    def __init__(
        self, connection: AbstractConnection, heard: Callable[[bytes, bytes], None], lost: Callable[["Wire", str], None]
    ) -> None:
        # redis-py has no public way to hand over what it has opened; these are the names in the pinned version. What
        # it no longer has, it does not close; and the writer, when nobody has it, would.
        self._writer = connection._writer
        connection._reader = connection._writer = None
        self._transport = self._writer.transport
        self.is_lost = False
        self._reason = ""
        self._heard = heard
        self._lost = lost
        self._reader = hiredis.Reader()
        self._waiting: deque[Waiting] = deque()
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._silence = 0
        """Looks since something was heard."""
        self._loop = asyncio.get_running_loop()
        self._transport.set_protocol(self)

    @classmethod
    async def open(
        cls, pool: ConnectionPool, heard: Callable[[bytes, bytes], None], lost: Callable[["Wire", str], None]
    ) -> "Wire":
        """A new connection. Raises redis-py's errors, or `OSError`."""
        connection = pool.make_connection()
        try:
            await connection.connect()
            # What happens to it from now on is told to a `Wire`; this already happened.
            if connection._reader.at_eof() or connection._writer.transport.is_closing():
                raise RedisConnectionError("The connection to Redis was lost as soon as it was made.")
        except BaseException:
            if connection._writer:
                connection._writer.transport.abort()
                connection._reader = connection._writer = None
            raise
        return cls(connection, heard, lost)

    @property
    def unanswered(self) -> int:
        """How many sends wait for their answers."""
        return len(self._waiting)

    @property
    def load(self) -> float:
        """How much of what may wait for Redis does; from 1 on, nothing more should be sent."""
        unsent = self._unsent_bytes + self._transport.get_write_buffer_size()
        return max(len(self._waiting) / MAX_UNANSWERED, unsent / MAX_UNSENT)

    def send(self, commands: bytes, waiting: Waiting) -> None:
        """Send commands, whose answers somebody waits for.

        The future raises `ResponseError` when one of them is refused, and `redis.exceptions.ConnectionError` when the
        connection is lost before.
        """
        self._waiting.append(waiting)
        # What is sent in one turn of the event loop is one write.
        if not self._unsent:
            self._loop.call_soon(self._write)
        self._unsent.append(commands)
        self._unsent_bytes += len(commands)

    def _write(self) -> None:
        if not self.is_lost:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()
        self._unsent_bytes = 0

    def look(self) -> None:
        """Ask for a sign of life when there was none since the last look; give the connection up after `SILENT_LOOKS`.

        Looks are counted, and no seconds: when the process itself has stood still, what came meanwhile is heard before
        the next look.
        """
        self._silence += 1
        if self._silence > SILENT_LOOKS:
            self.abort("Redis does not answer")
        elif self._silence > 1 and not self._waiting:
            # Whoever would wait for the answer is the next look.
            waiting = Waiting(1, self._loop)
            waiting.future.add_done_callback(_take)
            self.send(PING, waiting)

    def abort(self, reason: str) -> None:
        """End the connection."""
        self._reason = reason
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._silence = 0
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
        self.is_lost = True
        reason = self._reason or (str(error) if error else "Redis has closed the connection")
        while self._waiting:
            self._waiting.popleft().fail(RedisConnectionError(f"The connection to Redis was lost: {reason}."))
        self._lost(self, reason)

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
