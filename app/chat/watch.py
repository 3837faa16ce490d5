"""Makes sure that nobody stays in a room whose member she no longer is.

A removal is told to every process at once (`chat.announcements`). But the channel layer delivers at most once, and a
membership can be changed by something that sends no signal; so what is told is also looked up, every few seconds.
"""

import asyncio
import contextlib
import logging

from django.conf import settings

from chat import database, rooms
from chat.hub import hub
from chat.protocol import ChatError

logger = logging.getLogger(__name__)


class Watch:
    """Looks every `MEMBERSHIP_CHECK_INTERVAL` seconds, with one query, whoever is connected; one a process."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(settings.MEMBERSHIP_CHECK_INTERVAL)
            try:
                if joined := hub.joined():
                    for room_id, user_id in await database.query(rooms.strangers, joined):
                        hub.expel(room_id, user_id)
            except ChatError:
                continue
            except Exception:
                logger.exception("The memberships could not be looked up")


watch = Watch()
