"""What Django's own pages say while the database is away.

The HTTP API and the WebSocket see to that themselves, each in its own form (`chat.api.errors`, `chat.consumers`).
"""

import math
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.cache import add_never_cache_headers

from chat import database, failures, services
from chat.protocol import ChatError

View = Callable[..., HttpResponse]

FREE = "/docs/"
"""Pages below this ask the database for nothing."""


class Availability:
    """Middleware that runs pages in the threads of the HTTP API, and answers 503 where they cannot reach the database.

    Whoever gets a 503, of a page or of the API, has the database looked at.
    """

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponse]]) -> None:
        self._get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        response = await self._get_response(request)
        if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            services.database.suspect()
        return response

    async def process_view(
        self, request: HttpRequest, view: View, arguments: list[Any], named: dict[str, Any]
    ) -> HttpResponse | None:
        """The answer of a page; None for what is none."""
        if iscoroutinefunction(view) or request.path_info.startswith(FREE):
            return None
        try:
            return await database.serve(_rendered, view, request, *arguments, **named)
        except ChatError:
            return page()
        except Error as error:
            if not failures.is_passing(error):
                raise
            return page()


def page() -> HttpResponse:
    """Says that the database is away."""
    response = HttpResponse(render_to_string("chat/unavailable.html"), status=HTTPStatus.SERVICE_UNAVAILABLE)
    response["Retry-After"] = str(math.ceil(database.unavailable().retry_after))
    add_never_cache_headers(response)
    return response


def _rendered(view: View, request: HttpRequest, *arguments: object, **named: object) -> HttpResponse:
    """The answer of a view; a template asks the database for some of it, and that too in this thread."""
    response = view(request, *arguments, **named)
    return response.render() if hasattr(response, "render") else response
