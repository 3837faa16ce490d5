"""Whose events are told in the log, whatever its level, for a while: a person's, or a room's.

`manage.py follow` says so in the database's log of changes, by which it comes to every process (`chat.changes`), again
and again as long as it runs. What it says holds for `LEASE` seconds: it ends by itself, too.
"""

import logging
import re
import time
from collections.abc import Iterable

from salon.logs import apart

logger = logging.getLogger(__name__)

LEASE = 60.0
"""Seconds for which a process believes what it was told last."""

RENEWAL = 20.0
"""Seconds after which it is told again: a process that has just started learns it too."""

_MARK = re.compile(r"follow (user|room) (\d+) (\d+)")
_EVENT_TYPE = re.compile(r'"type":"(\w{1,40})"')

following: dict[tuple[str, int], float] = {}
"""Who is followed, and until when (`time.time`). Empty nearly always: who looks has to look no further."""


def mark(kind: str, number: int, until: float) -> str:
    """What the log of changes says: follow the `user`, or the `room`, of this number until then."""
    return f"follow {kind} {number} {int(until)}"


def is_mark(text: str) -> bool:
    return text.startswith("follow ")


def heed(marks: Iterable[str]) -> None:
    """Do what the log of changes says."""
    now = time.time()
    for text in marks:
        if not (found := _MARK.fullmatch(text)):
            continue
        key, until = (found[1], int(found[2])), min(float(found[3]), now + LEASE + RENEWAL)
        if until > now:
            if key not in following:
                logger.info("Its events are told from now on", extra=apart("follow.began", **dict([key])))
            following[key] = until
        elif following.pop(key, None):
            logger.info("Its events are told no longer", extra=apart("follow.ended", **dict([key])))


def concerns(user_id: int | None, room_id: int | None) -> bool:
    """Whether what this person does, or what happens in this room, is followed."""
    now, found = time.time(), False
    for key in (("user", user_id), ("room", room_id)):
        if (until := following.get(key)) is not None:
            if until >= now:
                found = True
            else:
                del following[key]
                logger.info("Its events are told no longer", extra=apart("follow.ended", **dict([key])))
    return found


def event_type(text: str) -> str | None:
    """Of which type an encoded event is; nothing else of it is told."""
    return found[1] if (found := _EVENT_TYPE.search(text, 0, 200)) else None


def tell(event: str, **fields: object) -> None:
    """A line in the log about an event that is followed."""
    logger.info("An event of who is followed", extra=apart(event, followed=True, **fields))
