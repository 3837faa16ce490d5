"""The way to the other processes: this one is a channel of the channel layer, in as many groups as it needs.

What goes over it is an envelope: a dict that says for whom an event is, and its text. The channel layer may lose it,
and may be away: who uses this goes on without it.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from uuid import uuid4

from channels.layers import BaseChannelLayer, get_channel_layer
from django.conf import settings

from chat import protocol, services
from chat.protocol import ChatError, ErrorCode, Message, MessageData
from salon import measures
from salon.logs import nobodys

logger = logging.getLogger(__name__)

PEOPLE = "chat_people"
"""The group that every process is in: events for persons, wherever they are connected."""

CHANGED = {"changed": True}
"""The notice that messages were changed of which nobody else could be told."""

Envelope = dict
Addressed = tuple[str, Envelope]
"""A group, and what is sent to it."""


def room_group(room_id: int) -> str:
    return f"chat_{room_id}"


def message_envelope(message: MessageData, received_at: float) -> Envelope:
    """What a stored message is sent in; `received_at` (`time.time`) is when it came from her who has said it."""
    return {
        "room": message.chat,
        "text": protocol.encode(Message(message, message.chat)),
        "seq": message.seq,
        "sender": message.sender,
        "at": received_at,
    }


@contextlib.asynccontextmanager
async def _channel_layer(*, is_heard: bool = True) -> AsyncIterator[BaseChannelLayer]:
    """The channel layer, for one use of at most `CHANNEL_LAYER_TIMEOUT` seconds. That this works says that it is there,
    if it `is_heard` in it.

    Raises `ChatError` (`unavailable`) for whatever goes wrong with it: each kind of layer has its own errors.
    """
    try:
        async with asyncio.timeout(settings.CHANNEL_LAYER_TIMEOUT):
            yield get_channel_layer()
    except Exception as error:
        measures.channel_layer_errors.add("away")
        services.channel_layer.failed(str(error) or "timed out")
        raise ChatError(
            ErrorCode.UNAVAILABLE, "The server cannot reach its channel layer; try again in a moment."
        ) from error
    if is_heard:
        services.channel_layer.answered()


class Relay:
    """The part of this process in the channel layer; one a process.

    `receive` is called with the envelopes that come from other processes, `broke` when some of them may have been lost.
    """

    def __init__(self, receive: Callable[[Sequence[Envelope]], None], broke: Callable[[], None]) -> None:
        self._receive = receive
        self._broke = broke
        self._name = uuid4().hex
        self.loop: asyncio.AbstractEventLoop | None = None
        """The event loop of the sockets, once there is one."""
        self._channel = ""
        self._groups: set[str] = set()
        self._missing: set[str] = set()
        """Groups that this process is to be in as soon as the channel layer answers."""
        self._is_late = False
        """Whether some of them could not be entered when it was wanted."""
        self._has_lost_changes = False
        self._abandoned: set[str] = set()
        """Groups that nobody here needs any more."""
        self._changing = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self._tidier: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._echoes: dict[str, asyncio.Future[None]] = {}

    def is_in(self, group: str) -> bool:
        """Whether this process is in a group, or will be as soon as the channel layer answers."""
        return group in self._groups or group in self._missing

    async def enter(self, group: str) -> None:
        """Enter a group; with the channel layer away, when it is back."""
        self.keep(group)
        if self.is_in(group):
            return
        self.loop = asyncio.get_running_loop()
        self._missing.add(group)
        if not services.channel_layer.is_away:
            with contextlib.suppress(ChatError):
                await self._enter(group)
                return
        self._is_late = True

    async def enter_missing(self) -> None:
        """Enter the groups that could not be entered when it was wanted. Raises `ChatError` (`unavailable`)."""
        while self._missing:
            await self._enter(next(iter(self._missing)))
        if self._is_late:
            self._is_late = False
            # What was sent to them before did not come here.
            self._broke()

    def keep(self, group: str) -> None:
        """A group that was to be left is needed."""
        self._abandoned.discard(group)

    def leave(self, group: str) -> None:
        """Leave a group soon, unless it is needed again before."""
        if self.is_in(group):
            self._abandoned.add(group)
            if self._tidier is None:
                self._tidier = asyncio.create_task(self._leave_abandoned(), context=nobodys())

    def mark(self, envelopes: Sequence[Addressed]) -> None:
        """What is sent was delivered here already: when it comes back, it is dropped."""
        for _, envelope in envelopes:
            envelope["from"] = self._name

    async def send(self, envelopes: Sequence[Addressed]) -> None:
        """Send envelopes, each to its group. What cannot be sent is lost; of a change, see `tell_lost_changes`."""
        for _, envelope in envelopes:
            envelope["type"] = "hub"
        began = time.perf_counter()
        try:
            async with _channel_layer() as layer:
                if send_all := getattr(layer, "group_send_all", None):
                    await send_all(envelopes)
                else:
                    for group, envelope in envelopes:
                        await layer.group_send(group, envelope)
            measures.published.observe(time.perf_counter() - began)
        except ChatError:
            self._has_lost_changes |= any("anew" in envelope for _, envelope in envelopes)

    async def tell_lost_changes(self) -> None:
        """Have the others look for changes of messages that could not be sent, if there were any: they may have heard
        all the time, and then know of nothing that they have missed."""
        if self._has_lost_changes:
            self._has_lost_changes = False
            await self.send([(PEOPLE, {"notice": CHANGED, "anew": True, "from": self._name})])

    def send_soon(self, envelopes: Sequence[Addressed]) -> None:
        """The same, while whoever asks for it goes on."""
        task = asyncio.ensure_future(self.send(envelopes))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def finish(self) -> None:
        """Wait until all is sent."""
        while self._sending:
            await asyncio.wait(self._sending)

    async def check(self) -> None:
        """Raise `ChatError` unless what this process sends comes back to it within `CHANNEL_LAYER_TIMEOUT`."""
        echo = asyncio.get_running_loop().create_future()
        name = uuid4().hex
        self._echoes[name] = echo
        try:
            await self._enter(PEOPLE)
            async with _channel_layer() as layer:
                await layer.send(self._channel, {"type": "hub", "echo": name})
                await echo
        finally:
            del self._echoes[name]

    async def stop(self) -> None:
        """End what runs in the background; it is not used afterwards."""
        tasks: list[Awaitable[None]] = [task for task in (self._reader, self._tidier) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _enter(self, group: str) -> None:
        """Enter a group. Raises `ChatError` (`unavailable`)."""
        if group in self._groups:
            return
        self.loop = asyncio.get_running_loop()
        async with _channel_layer() as layer, self._changing:
            if not self._channel:
                if on_break := getattr(layer, "on_break", None):
                    on_break(self._on_break)
                self._channel = await layer.new_channel()
            if self._reader is None:
                self._reader = asyncio.create_task(self._read(), context=nobodys())
            await layer.group_add(group, self._channel)
            self._groups.add(group)
            self._missing.discard(group)

    async def _leave_abandoned(self) -> None:
        try:
            while self._abandoned:
                async with self._changing:
                    # Whoever needs it again has had the time until now to say so.
                    if self._abandoned:
                        await self._leave(self._abandoned.pop())
        finally:
            self._tidier = None

    async def _leave(self, group: str) -> None:
        self._missing.discard(group)
        if group in self._groups:
            self._groups.discard(group)
            with contextlib.suppress(ChatError):
                # Where there is no connection, there is nothing to leave.
                async with _channel_layer(is_heard=False) as layer:
                    await layer.group_discard(group, self._channel)

    def _on_break(self, reason: str) -> None:
        self._broke()

    async def _read(self) -> None:
        layer = get_channel_layer()
        while True:
            try:
                if receive_all := getattr(layer, "receive_all", None):
                    envelopes = await receive_all(self._channel)
                else:
                    envelopes = [await layer.receive(self._channel)]
            except Exception:
                logger.exception("Events cannot be received from the channel layer; trying again in a second")
                await asyncio.sleep(1)
            else:
                self._receive(self._for_here(envelopes))

    def _for_here(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        found = []
        for envelope in envelopes:
            try:
                if not self._is_own(envelope):
                    found.append(envelope)
            except Exception:
                # Somebody else writes to the channel layer too; what was sent from here goes on.
                logger.exception("What came from the channel layer is no envelope")
        return found

    def _is_own(self, envelope: Envelope) -> bool:
        """Whether it was sent from here, and asks for nothing more."""
        if (name := envelope.get("echo")) is not None:
            if (echo := self._echoes.get(name)) and not echo.done():
                echo.set_result(None)
            return True
        return envelope.get("from") == self._name
