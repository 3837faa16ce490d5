"""WebSocket frames (RFC 6455, 5.2), as a load generator needs them: as few instructions as possible for each."""

import struct
from typing import NamedTuple

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
_FINAL, _MASKED = 0x80, 0x80


class Span(NamedTuple):
    """Where the payload of a frame stands in what was received."""

    opcode: int
    start: int
    end: int


def masked(payload: bytes, mask: bytes, opcode: int = TEXT) -> bytes:
    """One final frame from a client, which masks what it sends with four bytes."""
    length = len(payload)
    if length < 126:
        head = bytes((_FINAL | opcode, _MASKED | length))
    elif length < 65536:
        head = struct.pack("!BBH", _FINAL | opcode, _MASKED | 126, length)
    else:
        head = struct.pack("!BBQ", _FINAL | opcode, _MASKED | 127, length)
    pad = (mask * (length // 4 + 1))[:length]
    hidden = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
    return head + mask + hidden.to_bytes(length, "big")


def walk(data: bytes) -> tuple[list[Span], int]:
    """The whole frames of a server in `data`, and where the first one begins that is not whole.

    A server does not mask, and no contender splits a message. Raises `ValueError` for whatever else is there.
    """
    size, position, found = len(data), 0, []
    while size - position >= 2:
        length, start = data[position + 1], position + 2
        if length == 126:
            start += 2
            if start > size:
                break
            length = data[position + 2] << 8 | data[position + 3]
        elif length == 127:
            start += 8
            if start > size:
                break
            length = int.from_bytes(data[position + 2 : start], "big")
        elif length > 127:
            raise ValueError("A server has masked a frame.")
        end = start + length
        if end > size:
            break
        first = data[position]
        if not first & _FINAL:
            raise ValueError("A server has split a message.")
        found.append(Span(first & 0x0F, start, end))
        position = end
    return found, position
