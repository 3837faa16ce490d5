from django.apps import AppConfig

from chat import keys


class ChatConfig(AppConfig):
    name = "chat"

    def ready(self) -> None:
        from chat import announcements  # noqa: F401 (connects its receivers; models must be loaded first)

        # A key that cannot be used is the operator's to know now, and not the first person's who connects.
        keys.ring()
