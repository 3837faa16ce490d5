"""`probe_people`: the two people who talk to see that a server works (`salon.probe`), and their room; prints JSON."""

import json
from argparse import ArgumentParser
from datetime import timedelta

from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError, connection
from django.utils import timezone

from chat import auth, rooms
from chat.claims import GREATEST_ID
from chat.models import ChatMessage, User

KEPT = timedelta(days=30)
"""For how long what they have said is kept: nobody reads it."""

PEOPLE = {"salon-probe-1": GREATEST_ID - 1, "salon-probe-2": GREATEST_ID}
"""What they are called, and ids that no frontend gives. Later people do not get ids after these."""


class Command(BaseCommand):
    help = "Print the two people, with a token each, and the room in which they see whether a server works."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--minutes", type=float, default=10, help="for how long the tokens count (10)")

    def handle(self, *, minutes: float, **_options: object) -> None:
        if not 0 < minutes <= 24 * 60:
            raise CommandError("--minutes must be more than 0 and at most a day (1440).")
        people = [_person(name, user_id) for name, user_id in PEOPLE.items()]
        room = rooms.private_room(people)
        ChatMessage.objects.filter(room=room, created_at__lt=timezone.now() - KEPT).delete()
        lifetime = timedelta(minutes=minutes)
        seats = [{"id": person.pk, "token": auth.create_token(person, lifetime)} for person in people]
        self.stdout.write(json.dumps({"room": room.pk, "people": seats}))


def _person(name: str, user_id: int) -> User:
    if person := User.objects.filter(subject=name).first():
        if not person.is_active:
            raise CommandError(f"{person.username} is deactivated; activate her in the admin, or no check can work.")
        return person
    # SQLite would give everybody after her an id after hers.
    person = User(pk=user_id if connection.vendor == "postgresql" else None, username=name, subject=name)
    person.first_name = "Probe"
    person.set_unusable_password()
    try:
        person.save(force_insert=True)
    except IntegrityError:
        # Another one makes her at the same moment; or somebody else has taken the name.
        if found := User.objects.filter(subject=name).first():
            return found
        raise CommandError(f"Somebody else is called {name}; rename her in the admin.") from None
    return person
