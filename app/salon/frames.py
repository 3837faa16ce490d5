"""Ready-made WebSocket frames (RFC 6455, 5.2), as a server sends them: unmasked."""


def text(payload: bytes) -> bytes:
    """The frame of a whole text message; `payload` is UTF-8."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2) + payload
    return b"\x81\x7f" + size.to_bytes(8) + payload
