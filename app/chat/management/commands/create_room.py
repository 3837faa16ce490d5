"""`create_room NAME --member USERNAME …`: a new room; prints its id."""

from argparse import ArgumentParser

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from chat import rooms
from chat.management.users import user_named


class Command(BaseCommand):
    help = "Create a room with its members and print its id."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument(
            "--member", action="extend", nargs="+", default=[], metavar="USERNAME", help="can be repeated"
        )

    def handle(self, *, name: str, member: list[str], **_options: object) -> None:
        members = [user_named(username) for username in member]
        try:
            room = rooms.create_room(name, members)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        self.stdout.write(str(room.pk))
