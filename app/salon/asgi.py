"""The ASGI application: Django for HTTP, the chat for WebSockets."""

import os
from typing import IO, Any

import django
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.http import HttpResponseBase

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "salon.settings")
django.setup(set_prefix=False)

from chat.api.errors import unreadable  # noqa: E402 (models can be imported only once Django is set up)
from chat.lifespan import lifespan  # noqa: E402 (models can be imported only once Django is set up)
from chat.origins import OriginCheck  # noqa: E402 (models can be imported only once Django is set up)
from chat.routing import websocket_urlpatterns  # noqa: E402


class Request(ASGIRequest):
    """A request whose `Content-Type` may be anything: Django raises for a parameter in an encoding that it lacks."""

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            super()._set_content_type_params(meta)
        except ValueError:
            meta["CONTENT_TYPE"] = ""
            super()._set_content_type_params(meta)


class Handler(ASGIHandler):
    """Django, which answers JSON to what it cannot read of a call of the API: to others, an empty 400 is as good."""

    request_class = Request

    def create_request(
        self, scope: dict[str, Any], body_file: IO[bytes]
    ) -> tuple[ASGIRequest | None, HttpResponseBase | None]:
        request, refusal = super().create_request(scope, body_file)
        if refusal is not None and scope["path"].startswith("/chats/"):
            refusal = unreadable()
        return request, refusal


django_application = Handler()
application = ProtocolTypeRouter(
    {
        "lifespan": lifespan,
        "http": django_application if settings.STATIC_ROOT else ASGIStaticFilesHandler(django_application),
        "websocket": OriginCheck(URLRouter(websocket_urlpatterns)),
    }
)
