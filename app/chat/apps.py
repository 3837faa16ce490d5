from corsheaders.signals import check_request_enabled
from django.apps import AppConfig

from chat import keys


class ChatConfig(AppConfig):
    name = "chat"

    def ready(self) -> None:
        # Models must be loaded first; the import connects the receivers.
        from chat import announcements, files, logins  # noqa: F401
        from chat.origins import may_call

        check_request_enabled.connect(may_call)
        # A key that cannot be used is the operator's to know now, and not the first person's who connects.
        keys.ring()
