"""A WebSocket client that knows no rules: it sends what it is told to, byte for byte."""

import base64
import http.client
import json
import socket

KEY = base64.b64encode(b"sixteen bytes ..").decode()
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def request(path="/", *, line=None, drop=(), **changes):
    """A handshake; a name in `changes` replaces or adds a header, with `_` for `-`."""
    headers = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [line or f"GET {path} HTTP/1.1", *(f"{name}: {headers[name]}" for name in headers if name not in drop)]
    return "\r\n".join([*lines, "", ""]).encode("latin1")


def frame(opcode, payload=b"", *, fin=True, masked=True, rsv=0, length=None, key=b"\x37\xfa\x21\x3d"):
    """One frame; `length`: the bytes of its length field, when it is not to be the right one."""
    if isinstance(payload, str):
        payload = payload.encode()
    size = len(payload)
    if length is None:
        length = (
            bytes([size])
            if size < 126
            else b"\x7e" + size.to_bytes(2, "big")
            if size < 65536
            else b"\x7f" + size.to_bytes(8, "big")
        )
    length = bytes([length[0] | (0x80 if masked else 0)]) + length[1:]
    if masked:
        mask = (key * (size // 4 + 1))[:size]
        payload = key + (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
    return bytes([(0x80 if fin else 0) | rsv << 4 | opcode]) + length + payload


def fragments(opcode, pieces):
    """One message in so many frames."""
    last = len(pieces) - 1
    return [frame(opcode if not n else 0, piece, fin=n == last) for n, piece in enumerate(pieces)]


def close(code=None, reason=b""):
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


class Raw:
    """One TCP connection."""

    def __init__(self, port, *, buffer=None, family=socket.AF_INET, address=None):
        self.socket = socket.socket(family)
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(20)
        self.socket.connect(address or ("127.0.0.1", port))
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.read = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *chunks):
        for chunk in chunks:
            self.socket.sendall(chunk)

    def _more(self):
        if not (data := self.socket.recv(65536)):
            raise EOFError
        self.read += data

    def _take(self, size):
        while len(self.read) < size:
            self._more()
        taken, self.read = self.read[:size], self.read[size:]
        return taken

    def head(self):
        """The status and the headers of the answer."""
        while b"\r\n\r\n" not in self.read:
            self._more()
        head, _, self.read = self.read.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        headers = dict(text.split(": ", 1) for text in lines)
        return int(line.split()[1]), {name.lower(): value for name, value in headers.items()}

    def open(self, path="/", **headers):
        self.send(request(path, **headers))
        status, _ = self.head()
        assert status == 101
        return self

    def frame(self):
        """The next frame as `(opcode, payload)`; servers neither mask nor fragment here."""
        first, second = self._take(2)
        assert first & 0xF0 == 0x80
        assert second < 128
        size = second
        if second > 125:
            size = int.from_bytes(self._take(2 if second == 126 else 8), "big")
        return first & 0x0F, self._take(size)

    def rest(self):
        """All frames until the server ends the connection."""
        found = []
        while True:
            try:
                found.append(self.frame())
            except EOFError:
                assert not self.read
                return found

    def until_end(self):
        """All bytes until the server ends the connection."""
        try:
            while True:
                self._more()
        except EOFError:
            return self.read


def code_of(frames):
    """The code of a close frame that is the last of these, 1005 for an empty one; 1006 without one."""
    if not frames or frames[-1][0] != CLOSE:
        return 1006
    payload = frames[-1][1]
    return int.from_bytes(payload[:2], "big") if payload else 1005


def get(port, path="/"):
    """What the application says of itself."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()
