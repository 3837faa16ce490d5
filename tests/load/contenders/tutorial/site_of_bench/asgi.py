"""The application, as the tutorial writes it."""

from django.core.asgi import get_asgi_application

http = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402 (as the tutorial: Django is set up first)
from django.urls import path  # noqa: E402
from room.consumers import ChatConsumer  # noqa: E402

application = ProtocolTypeRouter({"http": http, "websocket": URLRouter([path("ws/chat/", ChatConsumer.as_asgi())])})
