"""`asyncapi`: the AsyncAPI document of the WebSocket, for generators of code and pages."""

import json

from django.core.management.base import BaseCommand

from chat import asyncapi


class Command(BaseCommand):
    help = "Print the AsyncAPI document of the WebSocket, which is served at /docs/asyncapi.json too."

    def handle(self, **_options: object) -> None:
        self.stdout.write(json.dumps(asyncapi.document(), indent=2, ensure_ascii=False))
