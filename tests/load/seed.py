"""Makes the tables of a Django project, and the people and rooms of the benchmark in them.

Run with `DJANGO_SETTINGS_MODULE`, and for each family `FIRST_USER:PEOPLE:FIRST_ROOM:ROOM_SIZE`.
"""

import sys

import django
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import call_command

MODELS = {"chat": ("ChatRoom", "Membership"), "room": ("Room", "Membership")}
"""The models of a room and of who is in it, in each application that has them."""


def fill(first_user: int, people: int, first_room: int, room_size: int) -> None:
    """One family."""
    label = next(label for label in MODELS if apps.is_installed(label))
    room, membership = (apps.get_model(label, name) for name in MODELS[label])
    user = get_user_model()
    ids = range(first_user, first_user + people)
    user.objects.bulk_create(
        [user(pk=pk, username=f"person{pk}", first_name="Person", last_name=str(pk)) for pk in ids], 1000
    )
    rooms = sorted({first_room + (pk - first_user) // room_size for pk in ids})
    room.objects.bulk_create([room(pk=pk, name=f"Room {pk}") for pk in rooms], 1000)
    membership.objects.bulk_create(
        [membership(room_id=first_room + (pk - first_user) // room_size, user_id=pk) for pk in ids], 1000
    )


if __name__ == "__main__":
    django.setup()
    call_command("migrate", verbosity=0)
    # The plain project has no migrations of its own.
    call_command("migrate", "--run-syncdb", verbosity=0)
    for family in sys.argv[1:]:
        fill(*(int(part) for part in family.split(":")))
