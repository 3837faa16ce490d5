"""The way from the event loop to the database: a few threads, each with its own connection.

Channels' `database_sync_to_async` runs everything in one thread of the process, so that one slow query delays
everybody; these are several, and what waits for them has a time-out.
"""

import asyncio
import functools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections

from chat.protocol import ChatError, ErrorCode

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_threads = ThreadPoolExecutor(settings.DATABASE_THREADS, thread_name_prefix="database")
# Threads of their own for the HTTP API: a call there may wait for the journal, which needs one of the others.
_http_threads = ThreadPoolExecutor(settings.HTTP_THREADS, thread_name_prefix="http")
_thread_ahead = ThreadPoolExecutor(1, thread_name_prefix="database-ahead")


async def query(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` returns, run in a database thread.

    Raises `ChatError` (`unavailable`) when the database is away or has not answered after `DATABASE_TIMEOUT` seconds.
    """
    try:
        async with asyncio.timeout(settings.DATABASE_TIMEOUT):
            return await finish(function, *args, **kwargs)
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
    # Outside of a request nobody else drops a connection that broke or is too old.
    close_old_connections()
    return function(*args, **kwargs)


def _run_often(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return function(*args, **kwargs)
    except (OperationalError, InterfaceError):
        # To ask before each use whether the connection lives would double what is asked of the database.
        close_old_connections()
        raise
