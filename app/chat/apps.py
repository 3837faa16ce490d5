from django.apps import AppConfig


class ChatConfig(AppConfig):
    name = "chat"

    def ready(self) -> None:
        from chat import announcements  # noqa: F401 (connects its receivers; models must be loaded first)
