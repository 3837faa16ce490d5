"""Which sites may open a WebSocket (RFC 6455, 10.2) and call the HTTP API (CORS).

Without this, any page could talk with its visitor's cookie.

Those in `SALON_ALLOWED_ORIGINS`, and the server's own page; embedded, any port of this machine and of the host that the
server was reached as, for that is where a frontend under development is.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.http.request import split_domain_port, validate_host

from salon import measures
from salon.logs import about

logger = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[dict]]
Send = Callable[[dict], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
DEFAULT_PORTS = {"http": 80, "https": 443}


def allowed(origin: str, host: str) -> bool:
    """Whether a page of `origin` may connect to this server, which it reached as `host` (the `Host` header)."""
    if origin in settings.ALLOWED_ORIGINS:
        return True
    try:
        page, own = urlsplit(origin), urlsplit(f"{urlsplit(origin).scheme}://{host}")
        if page.scheme not in DEFAULT_PORTS or not page.hostname:
            return False
        same_host = page.hostname == own.hostname and _answers_to(host)
        if settings.EMBEDDED:
            return same_host or page.hostname in LOOPBACK
        # A page that came over http could have been changed on its way: it is not the page of an https server.
        return same_host and _port(page) == _port(own) and (page.scheme == "https") == settings.HTTPS
    except ValueError:
        return False


def _port(url: object) -> int:
    return url.port or DEFAULT_PORTS[url.scheme]


def _answers_to(host: str) -> bool:
    domain, _ = split_domain_port(host)
    return validate_host(domain, settings.ALLOWED_HOSTS)


def may_call(sender: object, request: HttpRequest, **_kwargs: object) -> bool:
    """Whether a page of the request's `Origin` may call the HTTP API (a receiver of django-cors-headers' signal)."""
    origin = request.headers.get("origin", "")
    return allowed(origin, request.headers.get("host", ""))


class OriginCheck:
    """ASGI middleware: a handshake from a foreign site is refused with 403.

    A client that is not a browser sends no `Origin` and has no visitor whose cookie could be abused: it is let in.
    """

    def __init__(self, application: Callable[[dict, Receive, Send], Awaitable[None]]) -> None:
        self.application = application

    def __call__(self, scope: dict, receive: Receive, send: Send) -> Awaitable[None]:
        # Nothing of this one is left while the connection is open.
        application = refuse if _is_refused(scope["headers"]) else self.application
        return application(scope, receive, send)


def _is_refused(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    found = dict(headers)
    origin = found.get(b"origin")
    if origin is None or allowed(origin.decode("latin1"), found.get(b"host", b"").decode("latin1")):
        return False
    measures.handshakes["origin"] += 1
    logger.warning(
        "Refused a WebSocket from the origin %r; SALON_ALLOWED_ORIGINS lists who may",
        origin,
        extra=about("origin.refused"),
    )
    return True


async def refuse(scope: dict, receive: Receive, send: Send) -> None:
    """Refuse a handshake; the server answers it with 403."""
    await receive()
    await send({"type": "websocket.close"})
