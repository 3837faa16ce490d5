"""`frontend_env [USERNAME]`: the four lines for a frontend's `.env.local`."""

from argparse import ArgumentParser
from datetime import timedelta

from django.conf import settings
from django.core.management.base import BaseCommand

from chat import auth, frontend
from chat.management.users import user_named


class Command(BaseCommand):
    help = "Print the four lines for a frontend's .env.local; with a user name, with a token of hers for 12 hours."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username", nargs="?")

    def handle(self, *, username: str | None, **_options: object) -> None:
        token = auth.create_token(user_named(username), timedelta(hours=12)) if username else ""
        for line in frontend.environment(settings.PUBLIC_URL, token):
            self.stdout.write(line)
