"""One person with a client as careful as the browser's: she reconnects, asks for what she missed, sends again.

A message is hers to keep until its own broadcast, or the answer to its being sent again, says that it is stored. A link
over which nothing comes is asked with `ping`, and given up.
"""

import asyncio
import contextlib
import http.client
import json
import random
import socket
import ssl
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from faults.events import Acknowledged, AnyEvent, Closed, Connected, Diary, Joined, Seen, Sent, Told, content

QUIET = 4.0
"""Seconds without a word after which a link is asked for one."""

DEAD = 9.0
"""Seconds without a word after which a link is given up."""

OPENING = 5.0
"""Seconds that a handshake may take."""

CALLING = 10.0
"""Seconds that a call over HTTP may take."""

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
"""Between two tries to connect: any time up to this, which doubles each time."""

RESTART_PAUSE = 0.5
"""The same after a close that says that the server restarts: it is there already, and not everybody comes at once."""

SERVICE_RESTART = 1012

ANSWERED_SOON = 0.5
"""Seconds after which what was refused for the moment is tried again, where the server has not said when."""

PASSING = {"unavailable", "rate_limited", "internal", "not_joined", "too_many_connections", "token_expiring"}
"""Errors after which another try may work."""

MOST_WAITING = 20
"""Messages that a person writes before she waits until one of them is acknowledged."""


@dataclass(frozen=True)
class Door:
    """Where the server is: the address, the name that its certificate is for, and who vouches for it."""

    address: str
    domain: str
    trust: ssl.SSLContext

    def post(self, path: str, body: object, token: str) -> tuple[int, bytes]:
        """One call of the HTTP API over a connection of its own: status and body."""
        connection = http.client.HTTPConnection(self.domain, timeout=CALLING)
        plain = socket.create_connection((self.address, 443), timeout=CALLING)
        try:
            connection.sock = self.trust.wrap_socket(plain, server_hostname=self.domain)
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
            plain.close()


@dataclass
class Draft:
    """A message that nobody has acknowledged yet."""

    room: int
    client_id: str


@dataclass
class Person:
    """Who she is, what she has seen, and what she waits for."""

    id: int
    token: str
    rooms: tuple[int, ...]
    door: Door
    now: Callable[[], float]
    callers: Executor
    """Threads for calls over HTTP."""
    dice: random.Random
    highest: dict[int, int] = field(default_factory=dict)
    """The highest sequence number of each room that she has seen."""
    news: dict[int, float] = field(default_factory=dict)
    """When each room last had something new for her."""
    waiting: dict[str, Draft] = field(default_factory=dict)
    posting: dict[str, Draft] = field(default_factory=dict)
    """The same for messages that go over HTTP."""
    joined: set[int] = field(default_factory=set)
    mistake: BaseException | None = None
    """What went wrong in this program, not in the server."""

    def __post_init__(self) -> None:
        self.diary = Diary(self.id, {})
        self._known: set[str] = set()
        self._connection = 0
        self._socket: ClientConnection | None = None
        self._written = 0
        self._since: dict[int, int] = {}
        self._asking: list[int] = []
        """The rooms that she has asked for; they are answered in this order."""
        self._not_before = 0.0
        self._heard = 0.0
        self._asked = False
        self._was_here = False
        self._tasks: set[asyncio.Task[None]] = set()

    def begin_diary(self) -> None:
        """Begin a new one, where the last has ended."""
        self.diary = Diary(self.id, {room: self.highest.get(room, 0) for room in self.rooms}, [])
        self._known.clear()

    def end_diary(self) -> Diary:
        """The diary, with the rooms that she is in now."""
        self.diary.joined = set(self.joined)
        return self.diary

    @property
    def is_here(self) -> bool:
        """Whether she is connected and in all of her rooms."""
        return len(self.joined) == len(self.rooms)

    @property
    def unanswered(self) -> int:
        """How many of her messages nobody has acknowledged yet."""
        return len(self.waiting) + len(self.posting)

    def write(self, room: int, *, over_http: bool = False) -> None:
        """Write a message, unless too many wait already."""
        if self.unanswered >= MOST_WAITING:
            return
        self._written += 1
        draft = Draft(room, f"{self.id}-{self._written}")
        if over_http:
            self.posting[draft.client_id] = draft
            self._start(self._post(draft))
        else:
            self.waiting[draft.client_id] = draft
            self._send_waiting([draft])

    def forget(self, highest: dict[int, int]) -> None:
        """Go on from these places, over a new connection, as if nothing had been before."""
        self.waiting.clear()
        self.posting.clear()
        self.highest = {room: highest.get(room, 0) for room in self.rooms}
        if self._socket:
            self._socket.transport.abort()

    async def live(self) -> None:
        """Be connected, again and again, until cancelled."""
        tries = 0
        try:
            while True:
                code = await self._visit()
                tries = 0 if self._was_here else tries + 1
                if code == SERVICE_RESTART:
                    pause = self.dice.uniform(0, RESTART_PAUSE)
                else:
                    pause = self.dice.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**tries))
                await asyncio.sleep(max(pause, self._not_before - self.now()))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _visit(self) -> int:
        """One connection, from its handshake to its end; the code that it was closed with."""
        self._connection += 1
        self._since, self._asking = {}, []
        self._not_before, self._asked, self._was_here = 0.0, False, False
        code, why = 0, ""
        try:
            async with connect(
                f"wss://{self.door.domain}/ws/chat/?token={self.token}",
                host=self.door.address,
                ssl=self.door.trust,
                server_hostname=self.door.domain,
                open_timeout=OPENING,
                close_timeout=0.5,
                ping_interval=None,
                compression=None,
                proxy=None,
                max_queue=None,
            ) as self._socket:
                self._note(Connected)
                self._heard = self.now()
                watch = asyncio.create_task(self._watch(self._socket))
                try:
                    for room in self.rooms:
                        self._join(room)
                    async for frame in self._socket:
                        self._heard, self._asked = self.now(), False
                        self._receive(json.loads(frame))
                finally:
                    watch.cancel()
                    await asyncio.gather(watch, return_exceptions=True)
                code, why = self._socket.close_code or 0, self._socket.close_reason or ""
        except ConnectionClosed as end:
            code, why = end.rcvd.code if end.rcvd else 1006, str(end)
        except (OSError, TimeoutError, WebSocketException) as error:
            why = f"{type(error).__name__}: {error}"
        finally:
            self._socket = None
            self.joined.clear()
        self._note(Closed, code=code, why=why)
        return code

    async def _watch(self, link: ClientConnection) -> None:
        """Ask a link over which nothing comes, and give it up when nothing comes of that either."""
        while True:
            await asyncio.sleep(0.5)
            quiet = self.now() - self._heard
            if quiet > DEAD:
                link.transport.abort()
            elif quiet > QUIET and not self._asked:
                self._asked = True
                self._say("ping", {})

    def _receive(self, event: dict) -> None:
        kind, data = event["type"], event["data"]
        if kind == "message":
            self._see(data, live=True)
        elif kind == "history":
            for message in data["messages"]:
                self._see(message, live=False)
            if data["complete"]:
                self._enter(data["room_id"])
        elif kind == "error":
            self._hear_of(data)

    def _see(self, message: dict, *, live: bool) -> None:
        room, seq, uuid, name = message["chat"], message["seq"], message["uuid"], message["client_id"]
        self._note(Seen, room=room, seq=seq, uuid=uuid, sender=message["sender"], client_id=name, live=live)
        if uuid not in self._known:
            self._known.add(uuid)
            self.news[room] = self.now()
        self.highest[room] = max(seq, self.highest.get(room, 0))
        if message["sender"] == self.id and self.waiting.pop(name, None):
            self._note(Acknowledged, room=room, client_id=name, seq=seq, uuid=uuid)

    def _enter(self, room: int) -> None:
        self._asking.remove(room)
        self.joined.add(room)
        self._was_here = self._was_here or self.is_here
        self._note(Joined, room=room, since=self._since[room])
        # All that was stored of hers has come by now: the rest is not, or nobody knows.
        self._send_waiting([draft for draft in self.waiting.values() if draft.room == room])

    def _hear_of(self, error: dict) -> None:
        code, name = error["code"], error.get("client_id")
        self._note(Told, code=code, client_id=name, final=code not in PASSING)
        pause = error.get("retry_after", self.dice.uniform(ANSWERED_SOON / 2, ANSWERED_SOON))
        if code == "token_expiring":
            return
        self._not_before = self.now() + error.get("retry_after", 0)
        if code not in PASSING:
            self.waiting.pop(name, None)
        elif name is None and self._asking:
            self._start(self._join_later(self._asking.pop(0), pause, self._connection))
        elif draft := self.waiting.get(name):
            self._start(self._send_later(draft, pause, self._connection))

    def _join(self, room: int) -> None:
        """Ask for a room, after what she has seen of it."""
        self._asking.append(room)
        self._since[room] = self.highest.get(room, 0)
        self._say("join_room", {"room_id": room, "since": self._since[room]})

    async def _join_later(self, room: int, pause: float, connection: int) -> None:
        await asyncio.sleep(pause)
        if connection == self._connection and self._socket:
            self._join(room)

    async def _send_later(self, draft: Draft, pause: float, connection: int) -> None:
        await asyncio.sleep(pause)
        if connection == self._connection and draft.client_id in self.waiting:
            self._send_waiting([draft])

    def _send_waiting(self, drafts: Iterable[Draft]) -> None:
        for draft in drafts:
            if self._socket and draft.room in self.joined:
                self._note(Sent, room=draft.room, client_id=draft.client_id)
                self._say(
                    "message",
                    {"room_id": draft.room, "content": content(draft.client_id), "client_id": draft.client_id},
                )

    def _say(self, kind: str, data: dict) -> None:
        self._start(self._put(self._socket, json.dumps({"type": kind, "data": data})))

    async def _put(self, link: ClientConnection, text: str) -> None:
        # Who is closed finds out where it reads.
        with contextlib.suppress(ConnectionClosed):
            await link.send(text)

    async def _post(self, draft: Draft) -> None:
        """Send a message over HTTP until it is answered for good."""
        body = {"chat": draft.room, "content": content(draft.client_id), "client_id": draft.client_id}
        tries = 0
        while draft.client_id in self.posting:
            self._note(Sent, room=draft.room, client_id=draft.client_id, connection=0)
            status, answer = await self._call(body)
            if draft.client_id not in self.posting:
                return
            if status in (200, 201):
                stored = json.loads(answer)
                del self.posting[draft.client_id]
                self._note(
                    Acknowledged,
                    room=draft.room,
                    client_id=draft.client_id,
                    seq=stored["seq"],
                    uuid=stored["uuid"],
                    connection=0,
                )
                return
            final = 400 <= status < 500 and status != 429
            self._note(Told, code=str(status), client_id=draft.client_id, final=final, connection=0)
            if final:
                del self.posting[draft.client_id]
                return
            tries += 1
            await asyncio.sleep(self.dice.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**tries)))

    async def _call(self, body: dict) -> tuple[int, bytes]:
        """Status and body; 0 where no answer came."""
        call = self.door.post, "/chats/messages/create/", body, self.token
        try:
            return await asyncio.get_running_loop().run_in_executor(self.callers, *call)
        except (OSError, http.client.HTTPException):
            return 0, b""

    def _note(self, what: type[AnyEvent], **fields: object) -> None:
        self.diary.events.append(what(**{"at": self.now(), "connection": self._connection, **fields}))

    def _start(self, work: object) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self.mistake = task.exception() or self.mistake
