from django.apps import AppConfig


class ChatConfig(AppConfig):
    name = "chat"

    def ready(self) -> None:
        from chat import announcements, files  # noqa: F401 (connects their receivers; models must be loaded first)
