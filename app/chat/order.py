"""The order of a room's messages in one process, whatever way and in whatever order they come.

The database counts the messages of a room without a gap. So a process that has passed on everything up to some number
knows, for each message that comes, whether it is the next, was passed on already, or comes too early; and that
something is missing as soon as it hears of a greater number.
"""

from typing import Generic, TypeVar

Item = TypeVar("Item")


MAX_EARLY = 1000
"""Messages of a room that may wait for their turn; the others are read from the database when it is theirs. It may be
away from here for long, and not from those who write."""


class Order(Generic[Item]):
    """What of a room was passed on, and what waits for its turn.

    `position`: the sequence number up to which everything was passed on, or lies before the first who joined here; None
    until that is known. `newest`: the greatest number that was heard of.
    """

    __slots__ = ("_early", "newest", "position")

    def __init__(self) -> None:
        self.position: int | None = None
        self.newest = 0
        self._early: dict[int, Item] = {}

    @property
    def is_behind(self) -> bool:
        """Whether there is something that was not passed on."""
        return self.position is not None and self.newest > self.position

    def take(self, seq: int, item: Item) -> list[tuple[int, Item]]:
        """A message has come; what may be passed on now, in order. One that was passed on before is forgotten."""
        position = self.position
        if position is not None and seq <= position:
            return []
        self.expect(seq)
        if position is not None and seq == position + 1 and not self._early:
            # Nearly always.
            self.position = seq
            return [(seq, item)]
        if len(self._early) < MAX_EARLY or seq - 1 == position:
            self._early[seq] = item
        return self._turns()

    def begin(self, position: int) -> tuple[list[tuple[int, Item]], list[tuple[int, Item]]]:
        """Everything up to `position` is known to who asked for it: what came before that was known.

        Returns what has come of it, as far as nothing is missing up to `position`, and what may be passed on now; both
        in order.
        """
        old = {seq: self._early.pop(seq) for seq in list(self._early) if seq <= position}
        first = position
        while first in old:
            first -= 1
        before = [(seq, old[seq]) for seq in range(first + 1, position + 1)]
        self.position = position
        self.expect(position)
        return before, self._turns()

    def fill(self, found: list[tuple[int, Item]], up_to: int) -> list[tuple[int, Item]]:
        """What the database has after `position` and up to `up_to`; what may be passed on now, in order.

        A number that is not among what was found has no message any more.
        """
        for seq, item in found:
            if seq > self.position:
                self._early[seq] = item
        ready = []
        if up_to > self.position:
            ready = [(seq, self._early.pop(seq)) for seq in sorted(self._early) if seq <= up_to]
            self.position = up_to
            self.expect(up_to)
        return ready + self._turns()

    def expect(self, seq: int) -> None:
        """There is a message of this number."""
        self.newest = max(self.newest, seq)

    def go_back(self, position: int) -> None:
        """The database has less than was passed on, as after a restore: what comes next has a number once more."""
        self.position = self.newest = position
        self._early.clear()

    def _turns(self) -> list[tuple[int, Item]]:
        ready = []
        while self.position is not None and (self.position + 1) in self._early:
            self.position += 1
            ready.append((self.position, self._early.pop(self.position)))
        return ready
