"""What every answer of Django's tells a browser that it may not do; and from where the admin is there at all."""

import ipaddress
import logging
from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from salon.logs import about

logger = logging.getLogger(__name__)

Answer = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""For HTML: all that it needs comes from here, nothing of it stands in the page itself, and nobody frames it. `self`
covers the WebSocket. Swagger UI has small pictures in its style sheet."""

DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""For everything else, should a browser take it for a page."""

PERMISSIONS_POLICY = "camera=(), geolocation=(), microphone=()"


@sync_and_async_middleware
def headers(get_response: Answer) -> Answer:
    """Middleware: what an answer does not say itself."""

    def complete(response: HttpResponseBase) -> HttpResponseBase:
        is_page = response.get("Content-Type", "").startswith("text/html")
        response.headers.setdefault("Content-Security-Policy", PAGE_POLICY if is_page else DATA_POLICY)
        response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
        # What is somebody's own is in no cache; what may be kept says so itself.
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    if iscoroutinefunction(get_response):

        async def answer_later(request: HttpRequest) -> HttpResponseBase:
            return complete(await get_response(request))

        return answer_later

    def answer(request: HttpRequest) -> HttpResponseBase:
        return complete(get_response(request))

    return answer


@sync_and_async_middleware
def admin_networks(get_response: Answer) -> Answer:
    """Middleware: outside of `SALON_ADMIN_NETWORKS` there is no admin."""

    def check(request: HttpRequest) -> None:
        if f"{request.path_info}/".startswith("/admin/") and not _may_see_admin(address := client_address(request)):
            logger.warning(
                "Refused the admin to %s; SALON_ADMIN_NETWORKS says from where it is there",
                address,
                extra=about("admin.refused", outcome="refused"),
            )
            raise Http404

    if iscoroutinefunction(get_response):

        async def answer_later(request: HttpRequest) -> HttpResponseBase:
            check(request)
            return await get_response(request)

        return answer_later

    def answer(request: HttpRequest) -> HttpResponseBase:
        check(request)
        return get_response(request)

    return answer


def client_address(request: HttpRequest) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Whence a request comes: what nginx says, the only one that is believed; or the other end of the connection."""
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _may_see_admin(address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    networks = settings.ADMIN_NETWORKS
    return not networks or (address is not None and any(address in network for network in networks))
