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


async def query(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` returns, run in a database thread.

    Raises `ChatError` (`unavailable`) when the database is away or has not answered after `DATABASE_TIMEOUT` seconds.
    """
    work = functools.partial(_run, function, *args, **kwargs)
    try:
        async with asyncio.timeout(settings.DATABASE_TIMEOUT):
            return await asyncio.get_running_loop().run_in_executor(_threads, work)
    except (OperationalError, InterfaceError, TimeoutError) as error:
        logger.error("The database does not answer: %s", str(error).strip() or "timed out")
        raise ChatError(
            ErrorCode.UNAVAILABLE, "The server cannot reach its database; try again in a moment."
        ) from error


async def serve(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` returns, run in a thread from which `async_to_sync` leads back to this event loop."""
    in_thread = sync_to_async(_run, thread_sensitive=False, executor=_http_threads)
    return await in_thread(function, *args, **kwargs)


def _run(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    # Outside of a request nobody else drops a connection that broke or is too old.
    close_old_connections()
    return function(*args, **kwargs)
