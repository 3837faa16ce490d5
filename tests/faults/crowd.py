"""Everybody together: they write at a steady rate, and say when all of them are well."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from faults.events import Diary
from faults.person import Door, Person
from faults.population import Seat

RATE = 1.0
"""Messages a second of each person: about five a second in each room."""

OVER_HTTP = 0.04
"""The share of them that go through the HTTP API."""

FRESH = 1.5
"""Seconds within which something new comes to each person of each of her rooms when all is well."""

CALLERS = 16


class NotInTimeError(Exception):
    """What was waited for has not come; the message says for whom."""


class Crowd:
    """The people, connected until the crowd is left."""

    def __init__(self, seats: Sequence[Seat], door: Door, seed: int) -> None:
        began = time.monotonic()
        self._callers = ThreadPoolExecutor(CALLERS, thread_name_prefix="http")
        self._dice = random.Random(seed)
        self._writing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.people = [
            Person(
                seat.id,
                seat.token,
                tuple(seat.rooms),
                door,
                lambda: time.monotonic() - began,
                self._callers,
                random.Random(self._dice.random()),
            )
            for seat in seats
        ]
        self.rooms = sorted({room for seat in seats for room in seat.rooms})

    @property
    def now(self) -> float:
        """The moment, as the diaries have it."""
        return self.people[0].now()

    async def __aenter__(self) -> "Crowd":
        for person in self.people:
            person.begin_diary()
            self._tasks += asyncio.create_task(person.live()), asyncio.create_task(self._write(person))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._callers.shutdown(wait=False, cancel_futures=True)

    def begin_diaries(self) -> None:
        """What comes from now on stands in new diaries."""
        for person in self.people:
            person.begin_diary()

    def end_diaries(self) -> list[Diary]:
        """The diaries, with who is where now."""
        return [person.end_diary() for person in self.people]

    def start_writing(self) -> None:
        """Let everybody write."""
        self._writing.set()

    def stop_writing(self) -> None:
        """Let nobody write anything new."""
        self._writing.clear()

    def forget(self, highest: dict[int, int]) -> None:
        """Let everybody come anew and go on from these places."""
        for person in self.people:
            person.forget(highest)

    async def all_here(self, seconds: float) -> None:
        """Wait until everybody is in her rooms. Raises `NotInTimeError`."""
        await self._until(lambda person: person.is_here, "back in her rooms", seconds)

    async def all_lively(self, seconds: float) -> None:
        """Wait until everybody sees something new of each of her rooms again and again. Raises `NotInTimeError`."""

        def is_lively(person: Person) -> bool:
            oldest = self.now - FRESH
            return person.is_here and all(person.news.get(room, 0.0) > oldest for room in person.rooms)

        await self._until(is_lively, "seeing new messages", seconds)

    async def all_answered(self, seconds: float) -> None:
        """Wait until everybody knows what became of what she wrote. Raises `NotInTimeError`."""
        await self._until(lambda person: person.is_here and not person.unanswered, "answered", seconds)

    async def all_caught_up(self, highest: dict[int, int], seconds: float) -> None:
        """Wait until everybody has seen what the database has. Raises `NotInTimeError`."""

        def is_caught_up(person: Person) -> bool:
            return all(person.highest.get(room, 0) >= highest[room] for room in person.rooms)

        await self._until(is_caught_up, "caught up", seconds)

    async def _until(self, condition: Callable[[Person], bool], what: str, seconds: float) -> None:
        deadline = self.now + seconds
        while missing := [person.id for person in self.people if not condition(person)]:
            self._see_mistakes()
            if self.now > deadline:
                raise NotInTimeError(f"{len(missing)} of {len(self.people)} people are not {what} after {seconds:g} s")
            await asyncio.sleep(0.05)

    def _see_mistakes(self) -> None:
        for person in self.people:
            if person.mistake:
                raise person.mistake
        for task in self._tasks:
            if task.done():
                task.result()

    async def _write(self, person: Person) -> None:
        while True:
            await self._writing.wait()
            # Not all at once: a room is to have something new all the time.
            due = self.now + self._dice.uniform(0, 1 / RATE)
            while self._writing.is_set():
                await asyncio.sleep(max(0.0, due - self.now))
                if self._writing.is_set():
                    person.write(self._dice.choice(person.rooms), over_http=self._dice.random() < OVER_HTTP)
                # Who was kept from writing does not make up for it.
                due = max(due + 1 / RATE, self.now)
