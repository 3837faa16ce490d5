"""Compares what people noted with each other and with the database, and finds what should not be.

The rules, for each person and each of her rooms:

- what was acknowledged to her is in the database, once, under the sequence number and the uuid that she was told;
- what was not acknowledged may be there or not, but once;
- what she has seen is in the database;
- she has seen, in order, everything that the database has after the place where her diary begins;
- nothing came to her twice, but for a message of her own that she sent again: she asked for that answer;
- the sequence numbers of a room have no gap, and the moments that a frontend sorts by rise with them;
- at the end she is connected and in the room, and nobody owes her an answer.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from faults.events import Acknowledged, AnyEvent, Diary, Seen, Sent, Stored, Told, content


class Kind(StrEnum):
    """What can be wrong."""

    LOST = "lost"
    DOUBLED = "doubled"
    DISORDERED = "out of order"
    GAP = "a gap in the numbers"
    INVENTED = "not in the database"
    CHANGED = "changed"
    UNANSWERED = "not answered"
    REFUSED = "refused"
    ABSENT = "not back at the end"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; `person` is 0 where it concerns the database alone."""

    kind: Kind
    room: int
    person: int
    sentence: str

    def __str__(self) -> str:
        who = f"person {self.person}, " if self.person else ""
        where = f"room {self.room}" if self.room else "no room"
        return f"{self.kind.upper()}: {who}{where}: {self.sentence}"


def check(diaries: Iterable[Diary], stored: Iterable[Stored]) -> list[Finding]:
    """Everything that is wrong; `stored` are the messages of the diaries' rooms."""
    rooms: dict[int, list[Stored]] = defaultdict(list)
    for message in sorted(stored, key=lambda each: (each.room, each.seq)):
        rooms[message.room].append(message)
    diaries = list(diaries)
    found = list(_database(rooms, diaries))
    by_uuid = {message.uuid: message for messages in rooms.values() for message in messages}
    for diary in diaries:
        found += _own_messages(diary, by_uuid)
        for room in diary.began:
            seen = [event for event in diary.events if isinstance(event, Seen) and event.room == room]
            found += _arrivals(diary, room, seen, by_uuid)
            found += _missing(diary, room, seen, rooms[room])
    return found


def counted(findings: Iterable[Finding]) -> Counter[Kind]:
    """How many there are of each kind."""
    return Counter(finding.kind for finding in findings)


def _database(rooms: dict[int, list[Stored]], diaries: Sequence[Diary]) -> Iterator[Finding]:
    for room, everything in rooms.items():
        first = min((diary.began[room] for diary in diaries if room in diary.began), default=everything[0].seq - 1)
        expected = first + 1
        messages = [message for message in everything if message.seq > first]
        for message in messages:
            if message.seq > expected:
                yield Finding(Kind.GAP, room, 0, f"after {expected - 1} comes {message.seq}")
            elif message.seq < expected:
                yield Finding(Kind.DOUBLED, room, 0, f"two messages have the number {message.seq}")
            expected = message.seq + 1
        for one, other in pairwise(messages):
            if other.created_at <= one.created_at:
                sentence = f"{other.seq} is dated {other.created_at}, and {one.seq} before it {one.created_at}"
                yield Finding(Kind.DISORDERED, room, 0, sentence)
        names = Counter((message.sender, message.client_id) for message in messages if message.client_id)
        for (sender, name), times in names.items():
            if times > 1:
                yield Finding(Kind.DOUBLED, room, sender, f"{name} is stored {times} times")
        for message in messages:
            if message.client_id and message.content != content(message.client_id):
                yield Finding(Kind.CHANGED, room, message.sender, f"{message.client_id} says {message.content!r}")


def _own_messages(diary: Diary, by_uuid: dict[str, Stored]) -> Iterator[Finding]:
    waiting: dict[str, int] = {}
    for event in diary.events:
        match event:
            case Sent():
                waiting.setdefault(event.client_id, event.room)
            case Told(final=True):
                name = event.client_id or "what she asked for"
                room = waiting.pop(event.client_id, 0) if event.client_id else 0
                yield Finding(Kind.REFUSED, room, diary.person, f"{name} was refused with {event.code}")
            case Acknowledged():
                waiting.pop(event.client_id, None)
                yield from _acknowledged(diary.person, event, by_uuid.get(event.uuid))
    for name, room in waiting.items():
        yield Finding(Kind.UNANSWERED, room, diary.person, f"{name} was sent, and nobody has said what became of it")


def _acknowledged(person: int, event: Acknowledged, message: Stored | None) -> Iterator[Finding]:
    if message is None:
        sentence = f"{event.client_id} was acknowledged as {event.seq}, and is not in the database"
        yield Finding(Kind.LOST, event.room, person, sentence)
    elif (message.room, message.seq, message.sender, message.client_id) != (
        event.room,
        event.seq,
        person,
        event.client_id,
    ):
        sentence = f"{event.client_id} was acknowledged as {event.seq}, where the database has {message}"
        yield Finding(Kind.CHANGED, event.room, person, sentence)


def _arrivals(diary: Diary, room: int, seen: Sequence[Seen], by_uuid: dict[str, Stored]) -> Iterator[Finding]:
    """What is wrong with what came, in the order in which it came."""
    known: dict[str, Seen] = {}
    highest = diary.began[room]
    asked_again = _asked_again(diary.events)
    for event in seen:
        message = by_uuid.get(event.uuid)
        if event.uuid in known:
            if event.uuid not in asked_again:
                before = known[event.uuid]
                where = (
                    f"on connection {event.connection}"
                    if event.connection == before.connection
                    else f"on connection {before.connection} and on {event.connection}"
                )
                yield Finding(Kind.DOUBLED, room, diary.person, f"{event.seq} came twice, {where}")
            continue
        known[event.uuid] = event
        if event.seq <= diary.began[room]:
            sentence = f"{event.seq} came again, which she had before this began"
            yield Finding(Kind.DOUBLED, room, diary.person, sentence)
            continue
        if message is None:
            yield Finding(Kind.INVENTED, room, diary.person, f"{event.seq} came as {event.uuid}")
        elif (message.room, message.seq) != (room, event.seq):
            yield Finding(Kind.CHANGED, room, diary.person, f"{event.seq} came, where the database has {message}")
        if event.seq < highest:
            sentence = f"{event.seq} came after {highest}, on connection {event.connection}"
            yield Finding(Kind.DISORDERED, room, diary.person, sentence)
        highest = max(highest, event.seq)


def _asked_again(events: Iterable[AnyEvent]) -> set[str]:
    """The uuids of the messages that she has sent more than once: each time she is told what became of it."""
    times = Counter(event.client_id for event in events if isinstance(event, Sent))
    return {
        event.uuid
        for event in events
        if isinstance(event, Seen | Acknowledged) and event.client_id and times[event.client_id] > 1
    }


def _missing(diary: Diary, room: int, seen: Iterable[Seen], messages: Sequence[Stored]) -> Iterator[Finding]:
    if room not in diary.joined:
        yield Finding(Kind.ABSENT, room, diary.person, "she is not in the room at the end")
        return
    numbers = {event.seq for event in seen}
    gone = [message.seq for message in messages if message.seq > diary.began[room] and message.seq not in numbers]
    for first, last in _spans(gone):
        what = f"{first}" if first == last else f"{first} to {last}"
        yield from [Finding(Kind.LOST, room, diary.person, f"{what} never came")] * (last - first + 1)


def _spans(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of each stretch of numbers without a gap."""
    first = None
    for one, following in pairwise([*numbers, None]):
        first = one if first is None else first
        if following != one + 1:
            yield first, one
            first = None


@dataclass(frozen=True)
class Silence:
    """The longest time for which somebody saw nothing new of a room."""

    seconds: float
    person: int = 0
    room: int = 0
    since: float = 0.0


def longest_silence(diaries: Iterable[Diary], since: float, until: float) -> Silence:
    """The longest silence of anybody between two moments at which all people write."""
    longest = Silence(0.0)
    for diary in diaries:
        moments: dict[int, list[float]] = {room: [since] for room in diary.began}
        known: set[str] = set()
        for event in diary.events:
            if isinstance(event, Seen) and event.uuid not in known:
                known.add(event.uuid)
                if since <= event.at <= until and event.room in moments:
                    moments[event.room].append(event.at)
        for room, times in moments.items():
            for one, following in pairwise([*times, until]):
                if following - one > longest.seconds:
                    longest = Silence(following - one, diary.person, room, one)
    return longest
