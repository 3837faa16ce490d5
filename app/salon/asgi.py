"""The ASGI application: Django for HTTP, the chat for WebSockets."""

import os

import django
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "salon.settings")
django.setup(set_prefix=False)

from chat.database import limit_waiting  # noqa: E402 (models can be imported only once Django is set up)
from chat.lifespan import lifespan  # noqa: E402
from chat.origins import OriginCheck  # noqa: E402
from chat.routing import websocket_urlpatterns  # noqa: E402
from salon.requests import Handler  # noqa: E402

limit_waiting()
django_application = Handler()
application = ProtocolTypeRouter(
    {
        "lifespan": lifespan,
        "http": django_application if settings.STATIC_ROOT else ASGIStaticFilesHandler(django_application),
        "websocket": OriginCheck(URLRouter(websocket_urlpatterns)),
    }
)
