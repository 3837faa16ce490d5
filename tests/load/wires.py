"""How each kind of server is spoken to: the opening of a connection, and a message."""

import json
from dataclasses import dataclass
from typing import Protocol

from load.frames import TEXT, masked

_MASK = b"\x37\xfa\x21\x3d"


@dataclass(frozen=True)
class Seat:
    """One connection to be: where, whose, in which room. `number` tells all of a run apart."""

    number: int
    port: int
    wire: str
    token: str
    user_id: int
    room_id: int
    source: str = "127.0.0.1"
    tls: bool = False


class Wire(Protocol):
    """A server's manner of speaking."""

    def path(self, seat: Seat) -> str:
        """The path to open, with its query string."""

    def first(self, seat: Seat) -> bytes:
        """The frames that are sent as soon as the WebSocket is open."""

    def answer(self, seat: Seat, text: bytes) -> bytes | None:
        """The frames that answer a text while the connection is being opened; `None`: it is open, and in its room."""

    def message(self, room_id: int, content: bytes) -> bytes:
        """The frame that says something in a room."""

    def ping(self) -> bytes:
        """The frame of the client's own ping."""

    def reply(self, text: bytes) -> bytes:
        """The frames that a text calls for, once the connection is open: mostly none."""


class Json:
    """Salon's own wire: an object with `type` and `data` in each frame.

    A ping is answered after all that was sent before it: the connection is in its room.
    """

    def __init__(self) -> None:
        self._ping = masked(b'{"type":"ping","data":{}}', _MASK)

    def path(self, seat: Seat) -> str:
        return f"/ws/chat/?token={seat.token}"

    def first(self, seat: Seat) -> bytes:
        return masked(b'{"type":"join_room","data":{"room_id":%d}}' % seat.room_id, _MASK) + self._ping

    def answer(self, seat: Seat, text: bytes) -> bytes | None:
        if b'"type":"error"' in text or b'"type": "error"' in text:
            raise ConnectionError(f"Refused: {text.decode()}")
        return None if b'"pong"' in text else b""

    def message(self, room_id: int, content: bytes) -> bytes:
        return masked(b'{"type":"message","data":{"room_id":%d,"content":"%b"}}' % (room_id, content), _MASK)

    def ping(self) -> bytes:
        return self._ping

    def reply(self, text: bytes) -> bytes:
        return b""


class SocketIO:
    """Engine.IO 4 over WebSocket, and Socket.IO 5 in it: `0{…}` open, `40` connect, `42` event, `43` its receipt."""

    def __init__(self) -> None:
        self._ping = masked(b'42["ping",{}]', _MASK)
        self._pong = masked(b"3", _MASK)

    def path(self, seat: Seat) -> str:
        return "/socket.io/?EIO=4&transport=websocket"

    def first(self, seat: Seat) -> bytes:
        return b""

    def answer(self, seat: Seat, text: bytes) -> bytes | None:
        if text.startswith(b"0{"):
            return masked(b"40" + json.dumps({"token": seat.token}).encode(), _MASK)
        if text.startswith(b"40"):
            return masked(b'421["join_room",{"room_id":%d}]' % seat.room_id, _MASK)
        if text == b"2":
            return self._pong
        if text.startswith(b"44") or b'"error"' in text:
            raise ConnectionError(f"Refused: {text.decode()}")
        return None if text.startswith(b"431") else b""

    def message(self, room_id: int, content: bytes) -> bytes:
        return masked(b'42["message",{"room_id":%d,"content":"%b"}]' % (room_id, content), _MASK)

    def ping(self) -> bytes:
        return self._ping

    def reply(self, text: bytes) -> bytes:
        return self._pong if text == b"2" else b""


WIRES: dict[str, Wire] = {"json": Json(), "socketio": SocketIO()}


def handshake(seat: Seat) -> bytes:
    """The request that opens the WebSocket. The key may be the same each time: nobody here checks the answer to it."""
    return (
        f"GET {WIRES[seat.wire].path(seat)} HTTP/1.1\r\nHost: localhost:{seat.port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def control(payload: bytes, opcode: int = TEXT) -> bytes:
    """A frame of a client's other than a message, such as the answer to a WebSocket ping."""
    return masked(payload, _MASK, opcode)
