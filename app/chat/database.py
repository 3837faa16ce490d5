"""The way from the event loop to the database: a few threads, each with its own connection.

Channels' `database_sync_to_async` runs everything in one thread of the process, so that one slow query delays
everybody; these are several, and what waits for them has a time-out.
"""

import asyncio
import functools
import logging
import math
import select
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, connection

from chat.protocol import ChatError, ErrorCode

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

PACE = 0.02
"""Seconds from one batch of people who come to the next: each of their statements is then for several."""

LONGEST_PACE = 0.2
"""The same when everybody comes at once, as after a restart: the database is asked as often for a thousand as for a
hundred, and nobody notices a fifth of a second more."""

LOOK_INTERVAL = 1.0
"""Seconds after which a thread looks whether its connection still works, and is not too old, before it uses it."""

_threads = ThreadPoolExecutor(settings.DATABASE_THREADS, thread_name_prefix="database")
# Threads of their own for the HTTP API: a call there may wait for the journal, which needs one of the others.
_http_threads = ThreadPoolExecutor(settings.HTTP_THREADS, thread_name_prefix="http")
_thread_ahead = ThreadPoolExecutor(1, thread_name_prefix="database-ahead")
_this_thread = threading.local()


async def query(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` returns, run in a database thread.

    Raises `ChatError` (`unavailable`) when the database is away or has not answered after `DATABASE_TIMEOUT` seconds.
    """
    return await in_time(finish(function, *args, **kwargs))


async def in_time(answer: Awaitable[T]) -> T:
    """The answer, which comes from the database by whatever way.

    Raises `ChatError` (`unavailable`) when it has not come after `DATABASE_TIMEOUT` seconds.
    """
    try:
        async with asyncio.timeout(settings.DATABASE_TIMEOUT):
            return await answer
    except TimeoutError:
        raise unavailable("timed out") from None


async def finish(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same, however long it takes: for what must not be left without knowing how it ended."""
    work = functools.partial(_run, function, *args, **kwargs)
    try:
        return await asyncio.get_running_loop().run_in_executor(_threads, work)
    except (OperationalError, InterfaceError) as error:
        raise unavailable(str(error).strip()) from error


async def query_ahead(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same as `query`, in a thread of its own: for what comes often, is short, and must not wait for the others."""
    work = functools.partial(_run_often, function, *args, **kwargs)
    try:
        async with asyncio.timeout(settings.DATABASE_TIMEOUT):
            return await asyncio.get_running_loop().run_in_executor(_thread_ahead, work)
    except TimeoutError:
        raise unavailable("timed out") from None
    except (OperationalError, InterfaceError) as error:
        raise unavailable(str(error).strip()) from error


def unavailable(reason: str) -> ChatError:
    """What somebody is told when the database does not answer; the reason is logged."""
    logger.error("The database does not answer: %s", reason)
    return ChatError(ErrorCode.UNAVAILABLE, "The server cannot reach its database; try again in a moment.")


async def serve(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` returns, run in a thread from which `async_to_sync` leads back to this event loop."""
    in_thread = sync_to_async(_run, thread_sensitive=False, executor=_http_threads)
    return await in_thread(function, *args, **kwargs)


def _run(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    _renew_connection()
    return function(*args, **kwargs)


def _run_often(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return function(*args, **kwargs)
    except (OperationalError, InterfaceError):
        # To ask before each use whether the connection lives would double what is asked of the database.
        close_old_connections()
        raise


def _renew_connection() -> None:
    """Drop this thread's connection where it broke or is too old: outside of a request nobody else does.

    Whether it works, Django finds out with a statement of its own; so it is not asked each time, but when a moment has
    passed, after an error, and when the server has closed the connection.
    """
    now = time.monotonic()
    if now - getattr(_this_thread, "looked", -math.inf) >= LOOK_INTERVAL or connection.errors_occurred or _is_told():
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
