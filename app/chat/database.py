"""The way from the event loop to the database: a few threads, each with its own connection.

Channels' `database_sync_to_async` runs everything in one thread of the process, so that one slow query delays
everybody; these are several, and what waits for them has a time-out.

Whether the database is there, `probe` says, and nobody else: `chat.watch` calls it several times a second. While it is
away, nobody is let wait for it.
"""

import asyncio
import contextlib
import functools
import logging
import math
import os
import select
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar
from uuid import uuid4

import psycopg
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, Error, close_old_connections, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from chat import failures, services
from chat.failures import Trouble
from chat.protocol import ChatError, ErrorCode
from salon import measures
from salon.logs import about

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

PACE = 0.02
"""Seconds from one batch of people who come to the next: each of their statements is then for several."""

LONGEST_PACE = 0.05
"""The same when everybody comes at once, as after a restart: the database is asked as often for a thousand as for a
hundred. Longer, and the work for one batch, which nothing interrupts, is noticed by those who are there."""

LOOK_INTERVAL = 1.0
"""Seconds after which a thread looks whether its connection still works, and is not too old, before it uses it."""

LATE = 1.0
"""Seconds after the database's return in which what was under way before is answered, or else never."""

SLOW_INTERVAL = 60.0
"""Seconds between two lines in the log about answers that take too long."""

AHEAD, HTTP, LONG, OTHERS = "ahead", "http", "long", "database"
"""The kinds of threads."""

_threads = ThreadPoolExecutor(settings.DATABASE_THREADS, thread_name_prefix=OTHERS)
# Threads of their own for the HTTP API: a call there may wait for the journal, which needs one of the others.
_http_threads = ThreadPoolExecutor(settings.HTTP_THREADS, thread_name_prefix=HTTP)
_thread_ahead = ThreadPoolExecutor(1, thread_name_prefix=AHEAD)
# Of several threads that make hundreds of messages of what the database says, each would make the event loop wait for
# its turn, and none of them would be sooner at its end.
_long_thread = ThreadPoolExecutor(1, thread_name_prefix=LONG)
measures.queues["database"] = _threads._work_queue.qsize
measures.queues["http"] = _http_threads._work_queue.qsize
measures.queues["histories"] = _long_thread._work_queue.qsize
_this_thread = threading.local()
_at_work: dict[int, tuple[str, float, BaseDatabaseWrapper]] = {}
"""For each thread that does something: its kind, since when, and its connection."""
_limits: set[asyncio.Timeout] = set()
"""The time-outs of those who wait for an answer."""
_slow_told_at = -math.inf
_returned_at = -math.inf
_is_ending = False


def limit_waiting() -> None:
    """Have connections that this process makes from now on wait for no lock, and keep none, longer than people do.

    For a server, not for commands: a migration waits as long as it must.
    """
    if settings.HAS_POSTGRESQL:
        options = connections.settings[DEFAULT_DB_ALIAS]["OPTIONS"]
        # The last one of a name counts: it is the operator's.
        options["options"] = f"{settings.SERVER_OPTIONS} {options.get('options', '')}".strip()
        # By this name a process knows its own connections in the database's list of them.
        options.setdefault("application_name", f"salon-{uuid4().hex[:12]}")


async def query(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` returns, run in a database thread.

    Raises `ChatError` (`unavailable`): at once while the database is away; when it goes; or when it has not answered
    after `DATABASE_TIMEOUT` seconds.
    """
    return await _asked(functools.partial(_run, OTHERS, function, *args, **kwargs))


async def look_up(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same, for what only reads: where the connection is lost meanwhile, it is asked again on another one."""
    return await _asked(functools.partial(_run_again, OTHERS, function, *args, **kwargs))


async def look_up_many(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same, for what reads hundreds of rows: after what others read so, and beside all that is short."""
    return await _asked(functools.partial(_run_again, LONG, function, *args, **kwargs), _long_thread)


async def in_time(answer: Awaitable[T], seconds: float = settings.DATABASE_TIMEOUT) -> T:
    """The answer, which comes from the database by whatever way.

    Raises `ChatError` (`unavailable`) when it has not come after so many seconds, or the database goes.
    """
    try:
        async with _limit(seconds):
            return await answer
    except TimeoutError:
        raise late() from None


async def finish(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` returns, however long it takes. Raises Django's errors: whoever asks knows how it ended."""
    work = functools.partial(_run, OTHERS, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_threads, work)


async def probe(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function`, which only reads, returns, in a thread of its own; so it is known whether the database is there.

    Raises `ChatError` (`unavailable`) where it has not answered after `PROBE_TIMEOUT` seconds, or cannot.
    """
    began = time.monotonic()
    task = functools.partial(_run_again, AHEAD, function, *args, **kwargs)
    work = _thread_ahead.submit(task)
    answer = asyncio.wrap_future(work)
    # It may be that nobody waits for it any more.
    answer.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.wait([answer], timeout=settings.PROBE_TIMEOUT)
    # A loop that was busy itself may not have heard of an answer that is there.
    if not work.done():
        _let_go(work)
        # On a link that loses packets, one answer may be late while others come.
        if services.database.heard_at < began:
            services.database.failed(f"it is silent for {settings.PROBE_TIMEOUT:g} seconds")
        raise unavailable()
    try:
        found = work.result()
    except Error as error:
        if failures.trouble(error) is Trouble.AWAY:
            services.database.failed(failures.reason(error))
        raise _as_told(error) from error
    services.database.answered()
    return found


def _let_go(work: Future) -> None:
    """Wait no longer for a probe; when it is answered after all, the database is back."""
    loop = asyncio.get_running_loop()
    if work.cancel():
        return
    # A connection on which nothing comes is of no use; the thread makes another one. To make one takes several answers,
    # and on a slow link each of them its time.
    _cut(AHEAD, time.monotonic() - settings.PROBE_TIMEOUT / 2)

    def answered(done: Future) -> None:
        if done.exception() is None:
            with contextlib.suppress(RuntimeError):  # the process has ended
                loop.call_soon_threadsafe(services.database.answered)

    work.add_done_callback(answered)


def unavailable(retry_after: float | None = None) -> ChatError:
    """What somebody is told when the database does not answer."""
    sentence = "The server cannot reach its database; try again in a moment."
    return ChatError(ErrorCode.UNAVAILABLE, sentence, retry_after)


def late() -> ChatError:
    """The same for an answer that has not come in time; the log tells of slow ones now and then."""
    global _slow_told_at
    now = time.monotonic()
    if not services.database.is_away and now - _slow_told_at > SLOW_INTERVAL:
        _slow_told_at = now
        logger.warning(
            "The database is slow: somebody was refused, as an answer has not come in time",
            extra=about("database.slow"),
        )
    return unavailable()


async def serve(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` returns, run in a thread from which `async_to_sync` leads back to this event loop.

    Raises `ChatError` (`unavailable`) at once while the database is away.
    """
    if services.database.is_away:
        raise unavailable()
    in_thread = sync_to_async(_run, thread_sensitive=False, executor=_http_threads)
    # Of a database that hangs nobody else may take notice: what this does has no time-out.
    late = asyncio.get_running_loop().call_later(settings.PROBE_TIMEOUT, services.database.suspect)
    try:
        return await in_thread(HTTP, function, *args, **kwargs)
    finally:
        late.cancel()


async def _asked(work: Callable[[], T], threads: ThreadPoolExecutor = _threads) -> T:
    if services.database.is_away:
        raise unavailable()
    try:
        async with _limit(settings.DATABASE_TIMEOUT):
            return await asyncio.get_running_loop().run_in_executor(threads, work)
    except TimeoutError:
        raise late() from None
    except Error as error:
        if not failures.is_passing(error):
            raise
        raise _as_told(error) from error


def _as_told(error: Error) -> ChatError:
    match failures.trouble(error):
        case Trouble.AWAY:
            services.database.suspect()
        case Trouble.REFUSED:
            return unavailable(settings.REFUSED_RETRY)
    return unavailable()


@contextlib.asynccontextmanager
async def _limit(seconds: float) -> AsyncIterator[None]:
    """Raise `TimeoutError` after so many seconds, and when the database goes."""
    async with asyncio.timeout(seconds) as limit:
        _limits.add(limit)
        try:
            yield
        finally:
            _limits.discard(limit)


def _gone() -> None:
    now = asyncio.get_running_loop().time()
    for limit in _limits:
        if not limit.expired():
            limit.reschedule(now)
    # What these do has no time-out: their connections fail them.
    _cut(HTTP)


def _back() -> None:
    _renew_connections()
    asyncio.get_running_loop().call_later(LATE, _cut, "", time.monotonic())


def _renew_connections() -> None:
    global _returned_at
    _returned_at = time.monotonic()


def stop() -> None:
    """Nobody waits for answers any more: end what still does, which would keep the process from ending."""
    global _is_ending
    _is_ending = True
    _cut("")


services.database.on_loss(_gone)
services.database.on_return(_back)
services.storage.on_return(_renew_connections)


def _cut(kind: str, before: float = math.inf) -> None:
    """End the connections of threads of a kind, or of all, that wait for an answer since before a moment.

    Where a network drops what is sent, the answer never comes, and a thread waits for it for ever.
    """
    for at_work, began, wrapper in list(_at_work.values()):
        driver = wrapper.connection
        if wrapper.vendor != "postgresql" or driver is None or began >= before or (kind and kind != at_work):
            continue
        with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(driver.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)


def _run(kind: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    thread, began = threading.get_ident(), time.monotonic()
    _at_work[thread] = kind, began, connections[DEFAULT_DB_ALIAS]
    try:
        if kind != AHEAD:
            # For what comes as often as a probe, this would double what is asked of the database.
            _renew_connection()
        return function(*args, **kwargs)
    except Error as error:
        measures.database_errors.add(failures.trouble(error).name.lower())
        raise
    finally:
        del _at_work[thread]
        measures.database[kind].observe(time.monotonic() - began)


def _run_again(kind: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return _run(kind, function, *args, **kwargs)
    except Error as error:
        was_connected = connection.connection is not None
        close_old_connections()
        if failures.trouble(error) is not Trouble.AWAY or not was_connected or _is_ending:
            raise
        return _run(kind, function, *args, **kwargs)


def _renew_connection() -> None:
    """Drop this thread's connection where it broke or is too old: outside of a request nobody else does.

    Whether it works, Django finds out with a statement of its own; so it is not asked each time, but when a moment has
    passed, after an error, and when the server has closed the connection.
    """
    now = time.monotonic()
    looked = getattr(_this_thread, "looked", -math.inf)
    if looked < _returned_at:
        # It may be dead without a sign, and then not even that is to be asked there; or not know what holds by now.
        connection.close()
        _this_thread.looked = now
    elif now - looked >= LOOK_INTERVAL or connection.errors_occurred or _is_told():
        _this_thread.looked = now
        close_old_connections()


def _is_told() -> bool:
    """Whether the server has sent something that nobody asked for: mostly, that it ends the connection."""
    if (driver := connection.connection) is None or connection.vendor != "postgresql":
        return False
    if driver.closed:
        return True
    poll = select.poll()
    poll.register(driver.fileno(), select.POLLIN)
    return bool(poll.poll(0))
