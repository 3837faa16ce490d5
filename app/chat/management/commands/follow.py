"""`follow --user alice`, `follow --room 7 --for 10m`: have the events of a person or a room told in the log."""

import re
import time
from argparse import ArgumentParser, ArgumentTypeError

from django.core.management.base import BaseCommand, CommandError

from chat import changes, follow
from chat.management.users import user_named
from chat.models import ChatRoom

UNITS = {"s": 1, "m": 60, "h": 3600}
LONGEST = 24 * 3600


def duration(text: str) -> int:
    """Seconds, from a text such as 90s, 10m or 1h."""
    if not (found := re.fullmatch(r"(\d{1,6})([smh])", text)) or not 0 < int(found[1]) * UNITS[found[2]] <= LONGEST:
        raise ArgumentTypeError(f"{text!r} is not like 90s, 10m or 1h; a day at most")
    return int(found[1]) * UNITS[found[2]]


class Command(BaseCommand):
    help = (
        "Have every process tell in its log what a person does and gets, or what happens in a room: which event, when, "
        "with which outcome; never what is said. It ends when this command does."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        whom = parser.add_mutually_exclusive_group(required=True)
        whom.add_argument("--user", metavar="USERNAME", help="a user name, or the id of a person")
        whom.add_argument("--room", type=int, metavar="ID")
        parser.add_argument("--for", type=duration, default="10m", dest="seconds", metavar="TIME", help="90s, 10m, 1h")

    def handle(self, *, user: str | None, room: int | None, seconds: int, **_options: object) -> None:
        if user is not None:
            kind, number = "user", int(user) if user.isdecimal() else user_named(user).pk
        else:
            kind, number = "room", room
            if not ChatRoom.objects.filter(pk=room).exists():
                raise CommandError(f"There is no room {room}.")
        self.stdout.write(
            f"The log tells of {kind} {number} for {seconds} s, or until Ctrl-C. To read it:\n"
            f"journalctl --follow --output cat --unit 'daphne@*' --grep '\"followed\":true'"
        )
        self.stdout.flush()
        end = time.time() + seconds
        try:
            while (left := end - time.time()) > 0:
                changes.write_mark(follow.mark(kind, number, min(end, time.time() + follow.LEASE)))
                time.sleep(min(left, follow.RENEWAL))
        except KeyboardInterrupt:
            self.stdout.write("")
        finally:
            changes.write_mark(follow.mark(kind, number, 0))
