"""Two people who talk while something else goes on: what they lose, and how long they wait."""

import json
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from websockets.sync.client import ClientConnection, connect

from scans.places import DOMAIN, Host
from waiting import wait_until

PAUSE = 0.3
"""Seconds between two messages of one person."""
PATIENCE = 30
"""Seconds that a message may be under way before it counts as lost."""


@dataclass
class Talk:
    """What became of the messages: when each was sent, and when the other had it."""

    sent: dict[str, float] = field(default_factory=dict)
    came: dict[str, float] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Messages that did not reach the other."""
        return len(self.sent.keys() - self.came.keys())

    @property
    def longest(self) -> float:
        """Seconds that the slowest message took."""
        return max((self.came[each] - self.sent[each] for each in self.sent if each in self.came), default=0.0)


class Pair:
    """Two people with a room of theirs."""

    def __init__(self, host: Host) -> None:
        self._host = host
        names = [f"{name}-{uuid.uuid4().hex[:8]}" for name in ("ada", "bo")]
        self._ids = [int(host.shell(f"salon create_user {name} --role student")) for name in names]
        members = " ".join(f"--member {name}" for name in names)
        self._room = int(host.shell(f"salon create_room Scanned {members}"))
        self._tokens = [host.shell(f"salon create_token {name}").strip() for name in names]

    def talking(self) -> "Conversation":
        """They talk as long as the block lasts."""
        clients = [self._come(token) for token in self._tokens]
        return Conversation(dict(zip(self._ids, clients, strict=True)), self._room)

    def _come(self, token: str) -> ClientConnection:
        plain = socket.create_connection((self._host.address, 443), timeout=10)
        address = f"wss://{DOMAIN}/ws/chat/?token={token}"
        client = connect(address, sock=plain, ssl=self._host.trust, server_hostname=DOMAIN, proxy=None)
        client.send(json.dumps({"type": "join_room", "data": {"room_id": self._room, "history": 0}}))
        while json.loads(client.recv(timeout=10))["type"] != "history":
            pass
        return client


class Conversation:
    """A context, whose `talk` is complete after it."""

    def __init__(self, clients: dict[int, ClientConnection], room: int) -> None:
        self.talk = Talk()
        self._clients = list(clients.values())
        self._room = room
        self._done = threading.Event()
        work = [(self._write, client) for client in clients.values()]
        work += [(self._read, client, own) for own, client in clients.items()]
        self._threads = [threading.Thread(target=self._guard, args=each) for each in work]

    def __enter__(self) -> Talk:
        for thread in self._threads:
            thread.start()
        return self.talk

    def __exit__(self, *_: object) -> None:
        self._done.set()
        with ExitStack() as stack:
            for client in self._clients:
                stack.callback(client.close)
            try:
                wait_until(lambda: not self.talk.lost, "the last messages", PATIENCE)
            except AssertionError as error:
                self.talk.trouble.append(str(error))
        for thread in self._threads:
            thread.join(PATIENCE)

    def _guard(self, work: Callable[..., None], *arguments: object) -> None:
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001 (a thread must not die unheard)
            if not self._done.is_set():
                self.talk.trouble.append(repr(error))

    def _write(self, client: ClientConnection) -> None:
        while not self._done.is_set():
            content = uuid.uuid4().hex
            self.talk.sent[content] = time.monotonic()
            data = {"room_id": self._room, "content": content, "client_id": content}
            client.send(json.dumps({"type": "message", "data": data}))
            self._done.wait(PAUSE)

    def _read(self, client: ClientConnection, own: int) -> None:
        for text in client:
            event = json.loads(text)
            if event["type"] == "error":
                self.talk.trouble.append(str(text))
            elif event["type"] == "message" and event["data"]["sender"] != own:
                self.talk.came.setdefault(event["data"]["content"], time.monotonic())
