"""Who is there: fifty people in ten rooms, made on the host by one command."""

from collections.abc import Sequence

import msgspec

PEOPLE, ROOMS = 50, 10


class Seat(msgspec.Struct, frozen=True):
    """A person, as she can connect."""

    id: int
    token: str
    rooms: list[int]


def rooms_of(person: int) -> list[int]:
    """The rooms of a person, by their places in the list: two, or for every other person three."""
    apart = 1 + person // ROOMS
    count = 2 + person % 2
    return sorted({(person + step * apart) % ROOMS for step in range(count)})


SCRIPT = """
import json, uuid
from datetime import timedelta
from chat import auth
from chat.models import ChatRoom, Membership, User

run = uuid.uuid4().hex[:8]
places = json.loads('''{places}''')
people = User.objects.bulk_create(
    [User(username=f"fault-{{run}}-{{number}}", first_name=f"Person {{number}}") for number in range(len(places))]
)
rooms = ChatRoom.objects.bulk_create([ChatRoom(name=f"Faults {{run}} {{number}}") for number in range({rooms})])
Membership.objects.bulk_create(
    [Membership(room=rooms[at], user=person) for person, mine in zip(people, places) for at in mine]
)
seats = [
    dict(id=person.pk, token=auth.create_token(person, timedelta(days=2)), rooms=[rooms[at].pk for at in mine])
    for person, mine in zip(people, places)
]
print(json.dumps(seats))
"""


def script() -> str:
    """What Salon's own shell is to run; its last line says who there is."""
    places: Sequence[list[int]] = [rooms_of(person) for person in range(PEOPLE)]
    return SCRIPT.format(places=msgspec.json.encode(places).decode(), rooms=ROOMS)


def seats(said: str) -> list[Seat]:
    """The people, as the script has told of them."""
    return msgspec.json.decode(said.splitlines()[-1], type=list[Seat])
