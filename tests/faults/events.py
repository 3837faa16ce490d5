"""What a person notes in her diary, one JSON object a line: what she sent, what she was told, what she saw.

`at` is always seconds since the run began; `connection` counts her connections from 1, and 0 stands for HTTP.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec


class Event(msgspec.Struct, frozen=True, tag_field="what", kw_only=True):
    """What every line has."""

    at: float
    connection: int


class Connected(Event, tag="connected", frozen=True):
    """The handshake is done."""


class Joined(Event, tag="joined", frozen=True):
    """All that was missed since `since` has come; live events follow."""

    room: int
    since: int


class Sent(Event, tag="sent", frozen=True):
    """A message was sent, or sent again, under the same `client_id`."""

    room: int
    client_id: str


class Acknowledged(Event, tag="acknowledged", frozen=True):
    """The server has said that the message is stored: by its own broadcast, in a history, or with HTTP's 201."""

    room: int
    client_id: str
    seq: int
    uuid: str


class Seen(Event, tag="seen", frozen=True):
    """A message came, whether for the first time or again; `live`, or in a history."""

    room: int
    seq: int
    uuid: str
    sender: int
    client_id: str | None
    live: bool


class Told(Event, tag="told", frozen=True):
    """An `error` event, or an answer of HTTP that is no success; `final`: trying again would not help."""

    code: str
    client_id: str | None
    final: bool


class Closed(Event, tag="closed", frozen=True):
    """The connection is over, or none came about: its close code, 0 without one; `why`, as the library says it."""

    code: int
    why: str


AnyEvent = Connected | Joined | Sent | Acknowledged | Seen | Told | Closed


class Diary(msgspec.Struct):
    """All that one person notes from a moment on.

    `began` is the highest sequence number of each of her rooms that she had seen by then; `joined` are the rooms that
    she was in at the end, connected.
    """

    person: int
    began: dict[int, int]
    events: list[AnyEvent] = []
    joined: set[int] = set()


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A message as the database has it."""

    room: int
    seq: int
    uuid: str
    sender: int
    client_id: str | None
    content: str
    created_at: str


def content(client_id: str) -> str:
    """The text of a message: it says which one it is."""
    return f"This is message {client_id}, as it was written."


def keep(path: Path, diaries: Iterable[Diary], stored: Iterable[Stored]) -> None:
    """Write all of it down, for whoever looks for what went wrong."""
    encode = msgspec.json.Encoder().encode
    with path.open("wb") as file:
        for message in stored:
            file.write(encode({"stored": message}) + b"\n")
        for diary in diaries:
            head = {"diary": diary.person, "began": diary.began, "joined": sorted(diary.joined)}
            file.write(encode(head) + b"\n")
            for event in diary.events:
                file.write(encode({"of": diary.person, "event": event}) + b"\n")


def read(path: Path) -> tuple[list[Diary], list[Stored]]:
    """The diaries and the messages that `keep` has written."""

    class Line(msgspec.Struct):
        stored: Stored | None = None
        diary: int | None = None
        began: dict[int, int] = {}
        joined: set[int] = set()
        of: int | None = None
        event: AnyEvent | None = None

    diaries: dict[int, Diary] = {}
    stored: list[Stored] = []
    decode = msgspec.json.Decoder(Line).decode
    for text in path.read_bytes().splitlines():
        line = decode(text)
        if line.stored:
            stored.append(line.stored)
        elif line.diary is not None:
            diaries[line.diary] = Diary(line.diary, line.began, [], line.joined)
        else:
            diaries[line.of].events.append(line.event)
    return list(diaries.values()), stored
