"""Who is there: people and rooms with ids that are known beforehand, the same for all contenders."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import jwt

from load.client import sources
from load.wires import Seat

LIFETIME = 86400


@dataclass(frozen=True)
class Family:
    """Rooms of one size. A person is in one room of one family: what happens there concerns nobody elsewhere."""

    name: str
    first_user: int
    first_room: int
    people: int
    room_size: int

    @property
    def users(self) -> range:
        return range(self.first_user, self.first_user + self.people)

    @property
    def rooms(self) -> range:
        return range(self.first_room, self.first_room - (-self.people // self.room_size))

    def room_of(self, user_id: int) -> int:
        """The one room that a person is in."""
        return self.first_room + (user_id - self.first_user) // self.room_size


FOURS = Family("fours", 1, 1, people=10_000, room_size=4)
HUNDREDS = Family("hundreds", 20_001, 10_001, people=1_000, room_size=100)
# A hundred connections of each person: who comes to a room of 5,000 people is told of 4,999 others, and they of her,
# which is presence and not the delivery that is measured.
LARGE = Family("large", 30_001, 20_001, people=50, room_size=50)
# In each room ten who behave, and others who do not: see `scenarios/unruly.py`.
CROWD = Family("crowd", 40_001, 30_001, people=320, room_size=32)
FAMILIES = (FOURS, HUNDREDS, LARGE, CROWD)


class Seats:
    """Hands out seats: the connections that a scenario opens."""

    def __init__(self, token_key: str) -> None:
        self._key = token_key
        self._numbers = itertools.count(1)
        self._tokens: dict[int, str] = {}
        self._come: dict[str, int] = {}

    def token(self, user_id: int) -> str:
        """What says who she is; the same as Salon's own tokens."""
        if user_id not in self._tokens:
            now = int(time.time())
            content = {"user_id": user_id, "sub": str(user_id), "iat": now - 1, "exp": now + LIFETIME}
            self._tokens[user_id] = jwt.encode(content, self._key, algorithm="HS256")
        return self._tokens[user_id]

    def of(
        self, family: Family, ports: list[int], wire: str, count: int, skip: int = 0, *, tls: bool = False
    ) -> list[Seat]:
        """`count` connections of the family's people, each in her room, dealt out to the ports in turn."""
        addresses = sources(count)
        return [
            Seat(number, port, wire, self.token(user), user, family.room_of(user), source, tls)
            for number, port, user, source in zip(
                itertools.islice(self._numbers, count),
                itertools.cycle(ports),
                itertools.islice(self._people(family, skip), count),
                itertools.cycle(addresses),
                strict=False,
            )
        ]

    def newcomers(self, family: Family, group: str, ports: list[int], wire: str, count: int, skip: int) -> list[Seat]:
        """`count` people whom the servers of this group have never seen, nor their tokens; the first `skip` are others.

        Raises `ValueError` when nobody is left who could be new.
        """
        first = self._come.get(group, skip)
        self._come[group] = first + count
        if first + count > family.people:
            raise ValueError(f"All {family.people:,} people have been at {group}: fewer rounds, or fewer connections.")
        return self.of(family, ports, wire, count, first)

    def _people(self, family: Family, skip: int) -> Iterator[int]:
        return itertools.islice(itertools.cycle(family.users), skip, None)
