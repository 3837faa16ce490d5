"""`create_room NAME --member USERNAME … --type TYPE`: a new room; prints its id."""

from argparse import ArgumentParser

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from chat import rooms
from chat.management.users import user_named
from chat.models import RoomType


class Command(BaseCommand):
    help = "Create a room with its members and print its id."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument(
            "--member", action="extend", nargs="+", default=[], metavar="USERNAME", help="can be repeated"
        )
        groups = [value for value in RoomType.values if value != RoomType.PRIVATE]
        parser.add_argument("--type", choices=groups, default=RoomType.GROUP.value, dest="room_type")

    def handle(self, *, name: str, member: list[str], room_type: str, **_options: object) -> None:
        members = [user_named(username) for username in member]
        try:
            room = rooms.create_room(name, members, room_type=room_type)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        self.stdout.write(str(room.pk))
