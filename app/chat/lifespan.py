"""The beginning and the end of a server process (the ASGI lifespan protocol)."""

import asyncio
from collections.abc import Awaitable, Callable

from chat import conversation, database
from chat.hub import hub
from chat.presence import keeper
from chat.watch import watch
from salon import measures


async def lifespan(
    scope: dict, receive: Callable[[], Awaitable[dict]], send: Callable[[dict], Awaitable[None]]
) -> None:
    """Nothing to begin but a look at how late the event loop is: everything else starts when it is first needed. At the
    end, what runs in the background is ended."""
    await receive()
    look = asyncio.create_task(measures.notice_lag())
    await send({"type": "lifespan.startup.complete"})
    await receive()
    look.cancel()
    await conversation.finish()
    await watch.stop()
    await keeper.stop()
    await hub.stop()
    database.stop()
    await send({"type": "lifespan.shutdown.complete"})
