"""The opening handshake of a WebSocket (RFC 6455, section 4.2): a request is read, and answered."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote

from daphne.utils import HEADER_NAME_RE, INVALID_HEADER_VALUE_BYTES

MAX_HEAD = 16 * 1024
"""Bytes of a request line and headers; Twisted takes no more either."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_REQUEST_LINE = re.compile(rb"GET (/[!-~]*) HTTP/1\.1")
_PRINTABLE = bytes(range(0x20, 0x7F))
_FRAMES_A_BODY = (b"content-length", b"transfer-encoding", b"expect")
_MAX_NAMES = 256

Headers = list[tuple[bytes, bytes]]


class Head(NamedTuple):
    """A request without its body; the names of `headers` are in lower case, and none is there twice."""

    method: bytes
    target: bytes
    version: bytes
    headers: Headers


class Handshake(NamedTuple):
    """A client's good request for a WebSocket."""

    accept: bytes
    """What proves to the client that its request was understood (`Sec-WebSocket-Accept`)."""
    path: bytes
    query_string: bytes
    subprotocols: list[str]
    headers: Headers
    """What the application is shown."""
    root_path: str | None
    """What a proxy says in `Daphne-Root-Path`."""


class Refusal(Exception):  # noqa: N818 (named for what the client gets)
    """The request is answered with this HTTP status and sentence instead of a WebSocket."""

    def __init__(self, status: int, sentence: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = list(headers)


_names: dict[bytes, bytes] = {}
"""Header names as clients spell them, in lower case: shared by all connections."""


def _lower(name: bytes) -> bytes | None:
    """A header's name in lower case, or None when it is not one."""
    if (known := _names.get(name)) is not None:
        return known
    if not HEADER_NAME_RE.fullmatch(name):
        return None
    lower = name.lower()
    # Whoever invents names shall not fill the memory with them.
    if len(_names) < _MAX_NAMES and len(name) < 64:
        lower = _names.setdefault(lower, lower)
        _names[name] = lower
    return lower


def parse(data: bytes) -> Head | None:
    """The head of a request for a WebSocket, when these bytes are exactly that and nothing in it is unusual.

    None is no error: the bytes are then for a parser that knows all of HTTP.
    """
    if not data.startswith(b"GET /") or not data.endswith(b"\r\n\r\n") or len(data) > MAX_HEAD:
        return None
    lines = data[:-4].split(b"\r\n")
    # Line ends where the split found them, and else what can be printed.
    if data.translate(None, _PRINTABLE) != b"\r\n" * (len(lines) + 1):
        return None
    if not (line := _REQUEST_LINE.fullmatch(lines[0])):
        return None
    headers = {}
    for text in lines[1:]:
        name, colon, value = text.partition(b":")
        if not colon or (name := _lower(name)) is None or name in headers:
            return None
        headers[name] = value.strip(b" ")
    if headers.get(b"upgrade", b"").lower() != b"websocket" or any(name in headers for name in _FRAMES_A_BODY):
        return None
    return Head(b"GET", line[1], b"HTTP/1.1", list(headers.items()))


def asks_for_websocket(upgrade: Iterable[bytes]) -> bool:
    """Whether the values of a request's `Upgrade` headers name this protocol."""
    return any(b"websocket" in _tokens(value) for value in upgrade)


def gather(raw_headers: Iterable[tuple[bytes, list[bytes]]]) -> Headers:
    """Headers that another parser has read, one of each name; a `Refusal` where they are not fit to be shown."""
    headers = []
    for name, values in raw_headers:
        if (lower := _lower(name)) is None:
            raise Refusal(400, "Invalid header name")
        if any(INVALID_HEADER_VALUE_BYTES.intersection(value) for value in values):
            raise Refusal(400, "Invalid header value")
        headers.append((lower, b",".join(values)))
    return headers


def read(head: Head) -> Handshake:
    """What a request asks for; a `Refusal` where it is not a good handshake (section 4.2.1)."""
    headers = dict(head.headers)
    if head.method != b"GET":
        raise Refusal(400, "A WebSocket is asked for with GET")
    if head.version != b"HTTP/1.1":
        raise Refusal(400, "A WebSocket is asked for with HTTP/1.1")
    if not head.target.startswith(b"/") or not head.target.isascii() or b"#" in head.target:
        raise Refusal(400, "Invalid characters in path")
    host = headers.get(b"host")
    if not host or b"," in host:
        raise Refusal(400, "One Host header is needed")
    if b"upgrade" not in _tokens(headers.get(b"connection", b"")):
        raise Refusal(400, "The Connection header does not say Upgrade")
    if headers.get(b"sec-websocket-version") != b"13":
        raise Refusal(426, "This server speaks version 13 of WebSocket", [(b"Sec-WebSocket-Version", b"13")])
    key = headers.get(b"sec-websocket-key", b"")
    if not _is_key(key):
        raise Refusal(400, "Sec-WebSocket-Key is not 16 bytes in base64")
    path, _, query_string = head.target.partition(b"?")
    shown, root_path = [], None
    for name, value in head.headers:
        if name == b"daphne-root-path":
            root_path = unquote(_ascii(value))
        # A name that WSGI would take for another one (CVE-2015-0219).
        elif b"_" not in name:
            shown.append((name, value))
    asked = headers.get(b"sec-websocket-protocol")
    subprotocols = [each.strip() for each in unquote(_ascii(asked)).split(",")] if asked is not None else []
    return Handshake(accept_key(key), path, query_string, subprotocols, shown, root_path)


def accept_key(key: bytes) -> bytes:
    """The answer to a `Sec-WebSocket-Key` (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def _is_key(key: bytes) -> bool:
    try:
        return len(key) == 24 and len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def _ascii(value: bytes) -> str:
    if not value.isascii():
        raise Refusal(400, "Invalid header value")
    return value.decode()


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip().lower() for token in value.split(b",")]


def response(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The head of an HTTP response; a `ValueError` for headers that would break it."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    lines = [b"HTTP/1.1 %d %b" % (status, phrase.encode())]
    for name, value in headers:
        if not HEADER_NAME_RE.fullmatch(name) or b"\r" in value or b"\n" in value or b"\0" in value:
            raise ValueError(f"{name!r}: {value!r} is not a header")
        lines.append(b"%b: %b" % (name, value.strip()))
    return b"\r\n".join([*lines, b"", b""])


def scope(request: Handshake, root_path: str) -> dict:
    """What an ASGI scope says of the request."""
    return {
        "path": unquote(request.path.decode()),
        "raw_path": request.path,
        "root_path": root_path if request.root_path is None else request.root_path,
        "headers": request.headers,
        "query_string": request.query_string,
        "subprotocols": request.subprotocols,
    }
