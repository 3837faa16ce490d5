"""Who was to receive which message, and what became of it."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

STAMP_SIZE = 35
"""Bytes of `~sender:number:nanoseconds~`: each field has a fixed width, so its end needs no search."""

CONTENT_SIZE = 80
"""Characters of a message: about what a person types."""


def stamp(sender: int, number: int, moment: int) -> bytes:
    """What a message carries: the seat of its sender, its number there from 1 on, and when it was due, monotonic ns."""
    return b"~%06d:%08d:%017d~" % (sender, number, moment)


def content(mark: bytes) -> bytes:
    """The text of a message with this stamp."""
    return mark + b"." * (CONTENT_SIZE - len(mark))


def read_stamp(mark: bytes) -> tuple[int, int, int]:
    """The sender, the number and the moment in a stamp. Raises `ValueError` for anything else."""
    if len(mark) != STAMP_SIZE or mark[0] != 126 or mark[-1] != 126:
        raise ValueError(f"{mark!r} is no stamp.")
    sender, number, moment = mark[1:-1].split(b":")
    return int(sender), int(number), int(moment)


class Received:
    """What one connection has received: from each sender the numbers 1, 2, 3, … once each and in this order."""

    __slots__ = ("disordered", "doubled", "last", "missing")

    def __init__(self) -> None:
        self.last: dict[int, int] = {}
        self.missing: dict[int, set[int]] = {}
        self.doubled = 0
        self.disordered = 0

    def take(self, sender: int, number: int) -> None:
        """One message has come."""
        last = self.last.get(sender, 0)
        if number == last + 1:
            self.last[sender] = number
        elif number > last:
            self.missing.setdefault(sender, set()).update(range(last + 1, number))
            self.last[sender] = number
        elif number in self.missing.get(sender, ()):
            self.missing[sender].discard(number)
            self.disordered += 1
        else:
            self.doubled += 1

    def lost(self, sent: dict[int, int], senders: Iterable[int]) -> int:
        """How many have not come of those that each of the senders has sent by now."""
        gaps = sum(len(numbers) for numbers in self.missing.values())
        return gaps + sum(sent.get(sender, 0) - self.last.get(sender, 0) for sender in senders)

    def begin(self, sent: dict[int, int], senders: Iterable[int]) -> None:
        """All until now is done with: what was lost or doubled counts once."""
        self.missing.clear()
        self.doubled = self.disordered = 0
        self.last.update((sender, sent[sender]) for sender in senders)


COUNTED = ("lost", "doubled", "disordered", "dropped", "unsent")
"""What a server should not do, or what comes of it."""


@dataclass
class Tally:
    """What a run of load came to. Times are nanoseconds; `late`: how much later than due each message was sent.

    `busy` is the share of a core that the busiest generator used; `dropped`: connections that a server closed, `slow`
    of them because they did not read; `unsent`: messages that were due from a writer who is gone.
    """

    sent: int = 0
    expected: int = 0
    delivered: int = 0
    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    dropped: int = 0
    slow: int = 0
    unsent: int = 0
    busy: float = 0.0
    generator_seconds: float = 0.0
    seconds: float = 0.0
    frame_size: int = 0
    latencies: array = field(default_factory=lambda: array("q"))
    late: array = field(default_factory=lambda: array("q"))

    @property
    def is_whole(self) -> bool:
        """Everybody is still there, and has got each message once; in whatever order, for not every server keeps it."""
        return not (self.lost or self.doubled or self.dropped or self.unsent)

    def __iadd__(self, other: "Tally") -> "Tally":
        for name in (*COUNTED, "sent", "expected", "delivered", "slow", "generator_seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.busy = max(self.busy, other.busy)
        self.seconds = max(self.seconds, other.seconds)
        self.frame_size = max(self.frame_size, other.frame_size)
        self.latencies.extend(other.latencies)
        self.late.extend(other.late)
        return self
