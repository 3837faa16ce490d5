"""The page at `/`, the health checks, and what describes the WebSocket."""

import asyncio
import functools

from django.contrib.auth.decorators import login_required
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from chat import asyncapi, database, overview, services
from chat.hub import hub
from chat.protocol import ChatError
from chat.services import Service
from salon.pages import PAGE_POLICY

TALK_POLICY = f"{PAGE_POLICY}; media-src 'self'"
"""Where people talk, they play voice notes too; and they may record them, which no other page may."""


@login_required
def index(request: HttpRequest) -> HttpResponse:
    """My rooms and what was said in them last; what follows comes over the WebSocket."""
    modules = ("dom.js", "bubble.js", "timeline.js", "composer.js", "dialogs.js", "salon-client.js")
    answer = render(
        request,
        "chat/index.html",
        {"start": overview.start(request), "role": request.user.get_role_display(), "modules": modules},
    )
    answer["Content-Security-Policy"] = TALK_POLICY
    answer["Permissions-Policy"] = "camera=(), geolocation=(), microphone=(self)"
    # Of the browser's own memory, it would show what was said to whoever uses the machine next.
    answer["Cache-Control"] = "no-store"
    return answer


async def healthz(request: HttpRequest) -> HttpResponse:
    """The process lives."""
    return HttpResponse("ok\n", content_type="text/plain")


async def readyz(request: HttpRequest) -> JsonResponse:
    """200 when the database and the channel layer answer, else 503 that names which does not, and for how long.

    A database that answers and stores no messages, as with a full disk, is named `storage`.
    """
    checks = (
        (services.database, "database", database.probe(_ask_database)),
        (services.channel_layer, "channel_layer", hub.check()),
    )
    outcomes = await asyncio.gather(*(check for _, _, check in checks), return_exceptions=True)
    state = {
        name: _why(outcome, service) if isinstance(outcome, Exception) else "ok"
        for (service, name, _), outcome in zip(checks, outcomes, strict=True)
    }
    if services.storage.is_away:
        state["storage"] = f"No message could be stored for {services.storage.away_for:.0f} seconds."
    status = 200 if all(value == "ok" for value in state.values()) else 503
    return JsonResponse(state, status=status)


async def websocket_document(request: HttpRequest) -> JsonResponse:
    """The AsyncAPI document of the WebSocket, for everybody: it holds nothing of anybody."""
    return JsonResponse(_document())


@functools.cache
def _document() -> dict:
    return asyncapi.document()


def _ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _why(error: Exception, service: Service) -> str:
    sentence = error.sentence if isinstance(error, ChatError) else f"{type(error).__name__}."
    return f"{sentence} It has not answered for {service.away_for:.0f} seconds." if service.is_away else sentence
