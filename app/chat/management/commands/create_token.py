"""`create_token USERNAME`: a token that a client connects with; prints it."""

from argparse import ArgumentParser
from datetime import timedelta

from django.core.management.base import BaseCommand, CommandError

from chat import auth
from chat.management.users import user_named


class Command(BaseCommand):
    help = "Print a token for a person, valid for --hours (12)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--hours", type=float, default=12)

    def handle(self, *, username: str, hours: float, **_options: object) -> None:
        if not 0 < hours <= 10 * 365 * 24:
            raise CommandError("--hours must be more than 0 and at most ten years (87600).")
        self.stdout.write(auth.create_token(user_named(username), timedelta(hours=hours)))
