"""Each request over HTTP: a line in the log, and what it is called in the lines that are written on its behalf."""

import logging
import secrets
import time

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from salon import measures
from salon.logs import Caller, about, caller, request_name
from salon.pages import Answer

logger = logging.getLogger(__name__)

SAFE = ("GET", "HEAD", "OPTIONS")
KNOWN_METHODS = (*SAFE, "POST", "PUT", "PATCH", "DELETE")


@sync_and_async_middleware
def access(get_response: Answer) -> Answer:
    """Middleware, the first one: say of a request what came of it, once it is answered.

    What only reads, and gets what it asked for, is told at DEBUG: nginx has a line for it.
    """
    if iscoroutinefunction(get_response):

        async def answer_later(request: HttpRequest) -> HttpResponseBase:
            began = _began(request)
            response = await get_response(request)
            _ended(request, response, began)
            return response

        return answer_later

    def answer(request: HttpRequest) -> HttpResponseBase:
        began = _began(request)
        response = get_response(request)
        _ended(request, response, began)
        return response

    return answer


def _began(request: HttpRequest) -> float:
    name = request_name(request.META.get("HTTP_X_REQUEST_ID", "")) or secrets.token_hex(16)
    caller.set(Caller("request", name))
    return time.perf_counter()


def _ended(request: HttpRequest, response: HttpResponseBase, began: float) -> None:
    status, duration = response.status_code, time.perf_counter() - began
    measures.requests.add(str(status))
    measures.answered.observe(duration)
    # The path itself may hold somebody's name, and whatever a stranger asks for.
    match = request.resolver_match
    method = request.method if request.method in KNOWN_METHODS else "other"
    route = f"/{match.route}" if match and match.route else None
    for tell in measures.on_done:
        tell("http.server", f"{method} {route}", duration, str(status))
    is_news = request.method not in SAFE or status >= 400
    level = logging.INFO if is_news else logging.DEBUG
    if not logger.isEnabledFor(level):
        return
    logger.log(
        level,
        "Answered a request",
        extra=about(
            "request.answered",
            method=method,
            route=route,
            room=_room(match.kwargs.get("key")) if match else None,
            outcome=str(status),
            duration=duration,
        ),
    )


def _room(key: object) -> int | None:
    return int(key) if isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) < 20 else None
