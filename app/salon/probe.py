"""Two people talk: does a server let them connect, hear each other, and say that it is ready?

    salon probe_people | python probe.py --socket /run/salon/daphne-1.sock
    python probe.py --url https://chat.example.org --authority ca.pem --address 192.0.2.7 <people.json
    python probe.py --only-ready --socket /run/salon/daphne-1.sock

Standard input says who they are, as `salon probe_people` prints it; with `--only-ready` nobody talks. For each server a
line of JSON says what came of it; the exit status is 1 where anything did not. It talks as any client does, over the
socket of one process or through the front door, and needs nothing but Python's own library, so that it runs on an
operator's machine too.
"""

import argparse
import base64
import contextlib
import hashlib
import http.client
import json
import secrets
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG, CONTINUATION, FINAL = 0x1, 0x8, 0x9, 0xA, 0x0, 0x80
PAUSE = 0.1
"""Seconds between two questions whether a server is ready."""

Event = dict[str, Any]


class ProbeError(Exception):
    """Something did not come as it should; the message says what."""


class RefusedError(ProbeError):
    """The server has answered a handshake with another status than 101."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"the handshake was answered with {status} {reason}".rstrip())
        self.status = status


@dataclass(frozen=True)
class Server:
    """Where a server is: a unix socket, or a URL, perhaps at an address that no name server knows."""

    path: str = ""
    url: str = ""
    address: str = ""
    authority: str = ""
    origin: str = ""

    @property
    def name(self) -> str:
        return self.path or self.url

    @property
    def host(self) -> str:
        """What it is asked as."""
        return "localhost" if self.path else urlsplit(self.url).netloc

    def connect(self, timeout: float) -> socket.socket:
        """A new connection to it, over TLS where the URL says so."""
        if self.path:
            link = socket.socket(socket.AF_UNIX)
            link.settimeout(timeout)
            link.connect(self.path)
            return link
        parts = urlsplit(self.url)
        is_secure = parts.scheme in ("https", "wss")
        port = parts.port or (443 if is_secure else 80)
        link = socket.create_connection((self.address or parts.hostname, port), timeout)
        if not is_secure:
            return link
        trust = ssl.create_default_context(cafile=self.authority or None)
        try:
            return trust.wrap_socket(link, server_hostname=parts.hostname)
        except BaseException:
            link.close()
            raise


class WebSocket:
    """A client's side of a WebSocket (RFC 6455), as much of it as two people need."""

    def __init__(self, server: Server, token: str, timeout: float) -> None:
        """Raises `RefusedError`."""
        self._link = server.connect(timeout)
        try:
            self._input = self._link.makefile("rb")
            self._shake_hands(server, token)
        except BaseException:
            self._link.close()
            raise

    def _shake_hands(self, server: Server, token: str) -> None:
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        head = [
            "GET /ws/chat/ HTTP/1.1",
            f"Host: {server.host}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
            f"Authorization: Bearer {token}",
        ]
        if server.origin:
            head.append(f"Origin: {server.origin}")
        self._link.sendall("\r\n".join([*head, "", ""]).encode())
        status = self._input.readline(1024).decode("latin1").split(maxsplit=2)
        if len(status) < 2 or not status[1].isdecimal():
            raise ProbeError("the connection ended in the handshake")
        headers = http.client.parse_headers(self._input)
        if status[1] != "101":
            raise RefusedError(int(status[1]), status[2].strip() if len(status) > 2 else "")
        proof = hashlib.sha1(f"{key}{GUID}".encode(), usedforsecurity=False).digest()
        if headers.get("Sec-WebSocket-Accept") != base64.b64encode(proof).decode():
            raise ProbeError("who answered the handshake has not read it")

    def send(self, kind: str, data: Event) -> None:
        """Send an event."""
        self._put(TEXT, json.dumps({"type": kind, "data": data}).encode())

    def _put(self, opcode: int, payload: bytes) -> None:
        mask = secrets.token_bytes(4)
        if len(payload) < 126:
            head = struct.pack("!BB", FINAL | opcode, 0x80 | len(payload))
        else:
            head = struct.pack("!BBH", FINAL | opcode, 0x80 | 126, len(payload))
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
        self._link.sendall(head + mask + masked)

    def wait_for(self, what: str, deadline: float, is_it: Callable[[Event], bool]) -> Event:
        """The first event that is it. Raises `ProbeError`: it did not come in time, or something else ends the talk."""
        while True:
            event = self._next(what, deadline)
            if event["type"] == "error":
                raise ProbeError(f"{what} did not come, but the error {event['data'].get('code')}")
            if is_it(event):
                return event

    def _next(self, what: str, deadline: float) -> Event:
        text = b""
        while True:
            first, payload = self._frame(what, deadline)
            opcode = first & 0x0F
            if opcode == PING:
                self._put(PONG, payload)
            elif opcode == CLOSE:
                code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
                raise ProbeError(f"{what} did not come, the connection was closed with {code}")
            elif opcode in (TEXT, CONTINUATION):
                text += payload
                if first & FINAL:
                    return json.loads(text)

    def _frame(self, what: str, deadline: float) -> tuple[int, bytes]:
        first, length = self._read(2, what, deadline)
        length &= 0x7F
        if length == 126:
            [length] = struct.unpack("!H", self._read(2, what, deadline))
        elif length == 127:
            [length] = struct.unpack("!Q", self._read(8, what, deadline))
        return first, self._read(length, what, deadline)

    def _read(self, count: int, what: str, deadline: float) -> bytes:
        self._link.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            data = self._input.read(count)
        except TimeoutError:
            raise ProbeError(f"{what} did not come in time") from None
        if len(data) < count:
            raise ProbeError(f"{what} did not come, the connection ended")
        return data

    def close(self) -> None:
        """Say goodbye, and wait for nothing."""
        with contextlib.suppress(OSError):
            self._put(CLOSE, struct.pack("!H", 1000))
        self._input.close()
        self._link.close()


@contextlib.contextmanager
def connected(server: Server, token: str, room: int, who: str, deadline: float) -> Iterator[WebSocket]:
    """Somebody who has come and is in the room."""
    client = WebSocket(server, token, max(0.001, deadline - time.monotonic()))
    try:
        client.send("join_room", {"room_id": room, "history": 1})
        client.wait_for(f"the room of {who}", deadline, lambda event: is_joined(event, room))
        yield client
    finally:
        client.close()


def is_joined(event: Event, room: int) -> bool:
    return event["type"] == "history" and event["data"]["room_id"] == room and event["data"]["complete"]


def converse(server: Server, people: Event, deadline: float) -> None:
    """The first writes, both see it, the second answers, both see that. Raises `ProbeError`, `OSError`."""
    room, [one, other] = people["room"], people["people"]
    with (
        connected(server, one["token"], room, "the first", deadline) as first,
        connected(server, other["token"], room, "the second", deadline) as second,
    ):
        for who, writer in (("the first", first), ("the second", second)):
            name = secrets.token_hex(16)
            writer.send("message", {"room_id": room, "content": f"Message {name}", "client_id": name})
            for reader in (first, second):
                reader.wait_for(
                    f"the message of {who}",
                    deadline,
                    lambda event, name=name: event["type"] == "message" and event["data"]["client_id"] == name,
                )


def readiness(server: Server, timeout: float) -> tuple[int, str]:
    """What `/readyz` says: its status, and its text."""
    connection = http.client.HTTPConnection(server.host, timeout=timeout)
    connection.sock = server.connect(timeout)
    try:
        connection.request("GET", "/readyz", headers={"Host": server.host, "Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read(4096).decode("utf-8", "replace").strip()
    finally:
        connection.close()


def wait_until_ready(server: Server, deadline: float) -> None:
    """Wait until it says that it is ready. Raises `ProbeError` with what it says otherwise."""
    said = "it is not asked yet"
    while (left := deadline - time.monotonic()) > 0:
        try:
            status, text = readiness(server, left)
            if status == http.HTTPStatus.OK:
                return
            said = f"{status} {text}"
        except (OSError, http.client.HTTPException) as error:
            said = f"{type(error).__name__}: {error}"
        time.sleep(PAUSE)
    raise ProbeError(f"/readyz is not good: {said}")


def probe(server: Server, people: Event | None, seconds: float) -> Event:
    """What came of it: `ok`, `seconds`, and a `sentence` where it is not ok. Without people, nobody talks."""
    began = time.monotonic()
    sentence = ""
    try:
        wait_until_ready(server, began + seconds)
        if people is not None:
            converse(server, people, began + seconds)
    except (ProbeError, OSError, ValueError, LookupError, http.client.HTTPException) as error:
        sentence = str(error) if isinstance(error, ProbeError) else f"{type(error).__name__}: {error}"
    return {
        "server": server.name,
        "ok": not sentence,
        "seconds": round(time.monotonic() - began, 3),
        "sentence": sentence,
    }


def main(arguments: Sequence[str] | None = None, given: TextIO = sys.stdin) -> int:
    """The exit status: 1 where two people could not talk."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--socket", action="append", type=Path, default=[], help="of one process; can be repeated")
    where.add_argument("--url", default="", help="the front door, such as https://chat.example.org")
    parser.add_argument("--address", default="", help="where the name of the URL leads, without asking a name server")
    parser.add_argument("--authority", default="", help="a file with who vouches for the certificate")
    parser.add_argument("--origin", default="", help="the page that it comes from, as a browser says it")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for each server (10)")
    parser.add_argument("--only-ready", action="store_true", help="only ask whether it is ready")
    options = parser.parse_args(arguments)
    people = None if options.only_ready else json.load(given)
    servers = [Server(path=str(path)) for path in options.socket] or [
        Server(url=options.url, address=options.address, authority=options.authority, origin=options.origin)
    ]
    status = 0
    for server in servers:
        outcome = probe(server, people, options.timeout)
        status = status if outcome["ok"] else 1
        sys.stdout.write(json.dumps(outcome) + "\n")
        sys.stdout.flush()
    return status


if __name__ == "__main__":
    sys.exit(main())
