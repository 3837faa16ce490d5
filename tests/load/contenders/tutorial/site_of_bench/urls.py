"""No page: only the WebSocket."""

urlpatterns: list = []
