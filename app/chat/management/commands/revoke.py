"""`revoke USERNAME`, `revoke --token-stdin`: tokens that count no more."""

import sys
from argparse import ArgumentParser
from getpass import getpass

from django.core.management.base import BaseCommand, CommandError

from chat import auth
from chat.management.users import user_named
from chat.protocol import ChatError


class Command(BaseCommand):
    help = "Refuse all tokens that a person has been given so far, or one token. A login on the page stays."

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("username", nargs="?")
        # On the command line every user of the machine could read it.
        what.add_argument(
            "--token-stdin", action="store_true", help="read the token from standard input; at a terminal, ask for it"
        )

    def handle(self, *, username: str | None, token_stdin: bool, **_options: object) -> None:
        if token_stdin:
            try:
                auth.revoke_token(getpass("Token: ") if sys.stdin.isatty() else sys.stdin.readline())
            except ChatError as error:
                raise CommandError(error.sentence) from None
            self.stdout.write("The token is revoked.")
        else:
            auth.revoke_all(user_named(username))
            self.stdout.write(f"The tokens that {username} has been given so far are revoked.")
