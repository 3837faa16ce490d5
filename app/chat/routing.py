"""Where WebSockets lead."""

from django.urls import re_path

from chat.consumers import ChatConsumer
from chat.origins import refuse

websocket_urlpatterns = [
    re_path(r"^ws/chat/$", ChatConsumer.as_asgi()),
    re_path(r"", refuse),
]
