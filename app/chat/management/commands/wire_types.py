"""`wire_types`: the TypeScript declarations of the wire, for `salon-client`."""

from django.core.management.base import BaseCommand

from chat import asyncapi, client, typescript


class Command(BaseCommand):
    help = "Write the TypeScript declarations of the WebSocket's events, which salon-client comes with."

    def handle(self, **_options: object) -> None:
        path = client.PACKAGE / "wire.d.ts"
        path.write_text(typescript.declarations(asyncapi.document()))
        self.stdout.write(f"Wrote {path}")
