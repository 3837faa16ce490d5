"""WebSocket frames (RFC 6455, section 5): those that a server sends, and a parser for those that come to it."""

import codecs
import math

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

NORMAL, PROTOCOL_ERROR, NO_CODE, ABNORMAL, NOT_UTF8, TOO_BIG, INTERNAL = 1000, 1002, 1005, 1006, 1007, 1009, 1011
"""Close codes of section 7.4.1; `NO_CODE` and `ABNORMAL` are never on the wire."""

MAX_CONTROL_PAYLOAD = 125
"""Bytes (section 5.5)."""

_FIN = 0x80
_MASKED = 0x80
_SMALL_TEXT = [bytes((_FIN | TEXT, size)) for size in range(126)]
_SMALL_BINARY = [bytes((_FIN | BINARY, size)) for size in range(126)]


class ProtocolError(Exception):
    """The peer has broken the protocol: the connection is to be closed with this `code` (section 7.4.1)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def text(payload: bytes) -> bytes:
    """An unmasked text frame, whole; `payload` is UTF-8."""
    return _SMALL_TEXT[len(payload)] + payload if len(payload) < 126 else _long(TEXT, payload)


def binary(payload: bytes) -> bytes:
    """An unmasked binary frame, whole."""
    return _SMALL_BINARY[len(payload)] + payload if len(payload) < 126 else _long(BINARY, payload)


def _long(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 1 << 16:
        return b"%c\x7e%b%b" % (_FIN | opcode, size.to_bytes(2, "big"), payload)
    return b"%c\x7f%b%b" % (_FIN | opcode, size.to_bytes(8, "big"), payload)


def ping(payload: bytes = b"") -> bytes:
    return bytes((_FIN | PING, len(payload))) + payload


def pong(payload: bytes) -> bytes:
    return bytes((_FIN | PONG, len(payload))) + payload


def close(code: int, reason: str = "") -> bytes:
    """A close frame; `NO_CODE` makes an empty one. A reason of more than 123 bytes is cut between two characters.

    Raises `ValueError` for a code that may not be sent (section 7.4).
    """
    if code == NO_CODE:
        return bytes((_FIN | CLOSE, 0))
    if not may_be_sent(code):
        raise ValueError(f"{code} is not a close code that may be sent (RFC 6455, 7.4)")
    payload = code.to_bytes(2, "big") + reason.encode()
    if len(payload) > MAX_CONTROL_PAYLOAD:
        payload = payload[:2] + payload[2:MAX_CONTROL_PAYLOAD].decode(errors="ignore").encode()
    return bytes((_FIN | CLOSE, len(payload))) + payload


def may_be_sent(code: int) -> bool:
    """Whether a close frame may carry this code (section 7.4; 1012 to 1014 are in IANA's registry)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def read_close(payload: bytes) -> tuple[int, str]:
    """The code and the reason in a close frame, or a `ProtocolError` (section 5.5.1)."""
    if not payload:
        return NO_CODE, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not may_be_sent(code):
        raise ProtocolError(PROTOCOL_ERROR, "invalid close code")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise ProtocolError(NOT_UTF8, "a close reason that is not UTF-8") from None


def unmask(payload: bytes, key: bytes) -> bytes:
    """The payload, masked or unmasked with a key of four bytes (section 5.3)."""
    size = len(payload)
    # One exclusive or of two long integers: Python has no quicker one of bytes.
    mask = int.from_bytes((key * ((size >> 2) + 1))[:size], "little")
    return (int.from_bytes(payload, "little") ^ mask).to_bytes(size, "little")


def whole_text(data: bytes, greatest: int) -> bytes | None:
    """The payload, when these bytes are one masked text frame, whole, with a payload of at most `greatest` bytes.

    None is no error: the bytes are then for a `Parser`. `greatest` is at most 65,535.
    """
    size = len(data)
    if size < 6 or data[0] != _FIN | TEXT:
        return None
    length, start = data[1] & ~_MASKED, 6
    if length == 126 and size >= 8 + 126:
        length, start = data[2] << 8 | data[3], 8
    elif length > 125:
        return None
    if data[1] < _MASKED or size - start != length or length > greatest:
        return None
    return unmask(data[start:], data[start - 4 : start])


class Parser:
    """Turns the bytes of a client, however they are cut, into messages and control frames.

    `feed` it, then call `next` until that returns None. Limits are in bytes, 0 for none. What is kept between two calls
    of `feed` is at most one message under the limit, and a frame's header or a control frame.
    """

    __slots__ = (
        "_at",
        "_data",
        "_decoder",
        "_is_last",
        "_is_skipping",
        "_key",
        "_left",
        "_max_frame",
        "_max_message",
        "_message",
        "_opcode",
    )

    def __init__(self, max_message: int = 0, max_frame: int = 0) -> None:
        self._max_message = max_message or math.inf
        self._max_frame = max_frame or math.inf
        self._data = b""
        self._at = 0
        """How much of `_data` is done with."""
        self._opcode = 0
        """Of the message that has begun and not ended; 0 between two."""
        self._message = bytearray()
        self._decoder: codecs.IncrementalDecoder | None = None
        self._left = 0
        """Bytes of the current data frame's payload that are still to come."""
        self._key = b""
        self._is_last = False
        self._is_skipping = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing has begun that has not ended."""
        return not self._opcode and self._at == len(self._data)

    @property
    def waiting(self) -> int:
        """Bytes that were fed and not looked at."""
        return len(self._data) - self._at

    def skip(self) -> None:
        """From now on give out control frames only: data is neither kept nor looked at, of whatever size."""
        self._is_skipping = True
        self._message.clear()

    def feed(self, data: bytes) -> None:
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0

    def next(self) -> tuple[int, str | bytes] | None:
        """The next message or control frame as `(opcode, payload)`, the payload of `TEXT` as a string.

        Raises `ProtocolError` as soon as what has come cannot be right; only after `skip` may the parser go on then,
        and only for codes other than `PROTOCOL_ERROR`.
        """
        while True:
            if self._left:
                if self._at == len(self._data):
                    return None
                message = self._take_payload()
            else:
                data, at = self._data, self._at
                if (size := len(data)) < at + 2:
                    if size > at:
                        self._check_first(data[at])
                    return None
                first, second = data[at], data[at + 1]
                self._check_first(first)
                start = at + 2
                length = self._check_second(first, second)
                if length > 125:
                    start += 2 if length == 126 else 8
                    if size < start:
                        return None
                    length = self._check_length(length, int.from_bytes(data[at + 2 : start], "big"))
                if first & 0x08:
                    end = start + 4 + length
                    if size < end:
                        return None
                    self._at = end
                    return first & 0x0F, unmask(data[start + 4 : end], data[start : start + 4])
                if not self._is_skipping and (
                    length > self._max_frame or len(self._message) + length > self._max_message
                ):
                    raise ProtocolError(TOO_BIG, "message too big")
                if size < start + 4:
                    return None
                self._at = start + 4
                message = self._begin_frame(first, data[start : start + 4], length)
            if message:
                return message

    def _check_first(self, first: int) -> None:
        opcode = first & 0x0F
        if first & 0x70:
            raise ProtocolError(PROTOCOL_ERROR, "reserved bits are set")
        if opcode & 0x08:
            if opcode > PONG:
                raise ProtocolError(PROTOCOL_ERROR, "reserved opcode")
            if not first & _FIN:
                raise ProtocolError(PROTOCOL_ERROR, "a control frame in fragments")
        elif opcode > BINARY:
            raise ProtocolError(PROTOCOL_ERROR, "reserved opcode")
        elif opcode and self._opcode:
            raise ProtocolError(PROTOCOL_ERROR, "a new message within another")
        elif not opcode and not self._opcode:
            raise ProtocolError(PROTOCOL_ERROR, "nothing to continue")

    def _check_second(self, first: int, second: int) -> int:
        if not second & _MASKED:
            raise ProtocolError(PROTOCOL_ERROR, "a frame without a mask")
        length = second & 0x7F
        if length > MAX_CONTROL_PAYLOAD and first & 0x08:
            raise ProtocolError(PROTOCOL_ERROR, "a control frame over 125 bytes")
        return length

    def _check_length(self, form: int, length: int) -> int:
        if length < (126 if form == 126 else 1 << 16) or length >> 63:
            raise ProtocolError(PROTOCOL_ERROR, "a length that is not in its shortest form")
        return length

    def _begin_frame(self, first: int, key: bytes, length: int) -> tuple[int, str | bytes] | None:
        is_whole = False
        if opcode := first & 0x0F:
            self._opcode = opcode
            is_whole = bool(first & _FIN) and length <= len(self._data) - self._at
            if opcode == TEXT and not is_whole and not self._is_skipping:
                self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._is_last = bool(first & _FIN)
        self._key = key
        self._left = length
        if is_whole and not self._is_skipping:
            return self._take_whole()
        return None if length else self._take_payload()

    def _take_whole(self) -> tuple[int, str | bytes]:
        """A message in one frame that has come as a whole, without a copy for later."""
        end = self._at + self._left
        payload = unmask(self._data[self._at : end], self._key)
        opcode, self._opcode, self._left, self._at = self._opcode, 0, 0, end
        if opcode == BINARY:
            return BINARY, payload
        try:
            return TEXT, payload.decode()
        except UnicodeDecodeError:
            raise ProtocolError(NOT_UTF8, "text that is not UTF-8") from None

    def _take_payload(self) -> tuple[int, str | bytes] | None:
        """What has come of the current frame; a message, where it is its end."""
        chunk = self._data[self._at : self._at + self._left]
        size = len(chunk)
        self._at += size
        self._left -= size
        is_end = self._is_last and not self._left
        opcode = self._opcode
        if is_end:
            self._opcode = 0
        if self._is_skipping:
            return None
        if size:
            chunk = unmask(chunk, self._key)
            self._key = self._key[size & 3 :] + self._key[: size & 3]
            self._message += chunk
        if self._decoder:
            try:
                self._decoder.decode(chunk, is_end)
            except UnicodeDecodeError:
                raise ProtocolError(NOT_UTF8, "text that is not UTF-8") from None
        if not is_end:
            return None
        payload, self._decoder = bytes(self._message), None
        self._message.clear()
        return (BINARY, payload) if opcode == BINARY else (TEXT, payload.decode())
