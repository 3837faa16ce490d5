"""Finds out whether an address of Redis would be refused by the Redis that the bundle runs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

STANDARD_PORT = 6379
APPLICATION = "salon:PASSWORD"
LOOPBACK = re.compile(r"localhost|127(\.\d+){3}|::1|")


def salon_redis_mistake(url: str, socket: str, port: int, names: Iterable[str]) -> str:
    """A sentence if this address leads to our own Redis and gives it no name; "" otherwise.

    `socket` and `port` are our Redis's (0: it has none), `names` are those and the addresses of its host.
    """
    try:
        parts = urlsplit(url)
        user, host, given = unquote(parts.username or ""), parts.hostname or "", parts.port
    except ValueError:
        # The application says what it cannot read.
        return ""
    if user not in ("", "default") or not _is_ours(parts.scheme, parts.path, host, given, socket, port, names):
        return ""
    return (
        f"daphne_redis_url gives {repr(user) if user else 'no name'}, and this host's Redis lets in nobody but salon:"
        f" write {parts.scheme}://{APPLICATION}@{parts.netloc.rpartition('@')[2]}{parts.path}, with redis_password for"
        " PASSWORD (nothing, if there is none)."
    )


def _is_ours(
    scheme: str, path: str, host: str, given: int | None, socket: str, port: int, names: Iterable[str]
) -> bool:
    if scheme == "unix":
        return path == socket
    is_here = LOOPBACK.fullmatch(host) or host in {name.lower() for name in names}
    return scheme in ("redis", "rediss") and bool(is_here) and port == (given or STANDARD_PORT)


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        return {"salon_redis_mistake": salon_redis_mistake}
