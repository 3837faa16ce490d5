"""`create_user USERNAME`: a new person; prints her id."""

import sys
from argparse import ArgumentParser
from getpass import getpass

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from chat import auth
from chat.claims import GREATEST_ID
from chat.models import Role, User


class Command(BaseCommand):
    help = "Create a person and print her id. Without --password-stdin she logs in by token only."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--role", choices=Role.values, default=Role.STUDENT.value)
        parser.add_argument("--name", default="", help='the full name, e.g. "Alice Martin"')
        parser.add_argument("--email", default="")
        parser.add_argument(
            "--id", type=int, dest="user_id", help="the id that she has elsewhere; without it, the next free one"
        )
        parser.add_argument(
            "--password-stdin",
            action="store_true",
            help="read her password from standard input; at a terminal, ask for it",
        )
        parser.add_argument("--superuser", action="store_true", help="she may do everything in the admin")

    def handle(self, *, username: str, role: str, name: str, email: str, user_id: int | None, **options: bool) -> None:
        if user_id is not None and not 1 <= user_id <= GREATEST_ID:
            raise CommandError(f"--id must be a number from 1 to {GREATEST_ID}.")
        first_name, _, last_name = name.partition(" ")
        user = User(
            pk=user_id,
            username=username,
            first_name=first_name,
            last_name=last_name,
            email=email,
            role=role,
            is_staff=options["superuser"],
            is_superuser=options["superuser"],
        )
        try:
            if options["password_stdin"]:
                asks = sys.stdin.isatty()
                password = getpass(f"Password of {username}: ") if asks else sys.stdin.readline().rstrip("\n")
                validate_password(password, user)
                user.set_password(password)
            else:
                user.set_unusable_password()
            user.full_clean()
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        with transaction.atomic():
            if user_id is not None:
                auth.move_ids_beyond(user_id)
            user.save(force_insert=True)
        self.stdout.write(str(user.pk))
