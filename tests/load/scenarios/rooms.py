"""What a delivered message costs: in rooms of 100, in rooms of 4, in one large room."""

from collections.abc import Callable
from contextlib import ExitStack

from load.bench import Bench, Result, Sample
from load.contenders.base import Contender
from load.figures import Figure
from load.population import FOURS, HUNDREDS, LARGE, Family
from load.scenarios.send_loop import SendLoop
from load.wires import Seat

CONNECTIONS = 500
"""In all rooms together."""

RATE = 400.0
"""Messages a second in rooms of 100: about a third of what (d) carries."""

FOURS_RATE = 1000.0
"""Messages a second in rooms of 4, by the same measure."""

WARM_UP = 0.5
"""Seconds of load before the first round: caches, prepared statements and what compiles itself."""


def _by_room(seats: list[Seat]) -> dict[int, list[Seat]]:
    rooms: dict[int, list[Seat]] = {}
    for seat in seats:
        rooms.setdefault(seat.room_id, []).append(seat)
    return rooms


def one_writer_each(seats: list[Seat]) -> list[Seat]:
    """One writer of each room, in turn."""
    return [members[0] for members in _by_room(seats).values()]


def everyone(seats: list[Seat]) -> list[Seat]:
    """Everyone writes, room after room."""
    members = _by_room(seats).values()
    return [each[turn] for turn in range(max(map(len, members))) for each in members if turn < len(each)]


def rooms_of_100(bench: Bench) -> Result:
    """One writer a room; and a bare loop of send(2), which takes its turn too."""
    rate = bench.options.rate or RATE
    loop = SendLoop(bench, bench.options.connections or CONNECTIONS, rate)
    letters = "abcde" if bench.options.is_full or bench.options.is_chosen else "acd"
    return _measure(bench, "Rooms of 100", letters, HUNDREDS, rate, one_writer_each, loop)


def rooms_of_4(bench: Bench) -> Result:
    """Everyone writes."""
    rate = bench.options.rate or FOURS_RATE
    letters = "abcde" if bench.options.is_full or bench.options.is_chosen else "acd"
    return _measure(bench, "Rooms of 4, everyone writes", letters, FOURS, rate, everyone)


def _measure(
    bench: Bench,
    title: str,
    letters: str,
    family: Family,
    rate: float,
    choose: Callable[[list[Seat]], list[Seat]],
    loop: SendLoop | None = None,
) -> Result:
    count = bench.options.connections or CONNECTIONS
    contenders = bench.among(letters)
    with ExitStack() as stack:
        writers: dict[str, list[Seat]] = {}
        for each in contenders:
            writers[each.letter] = choose(stack.enter_context(bench.connected(each, family, count)))
            bench.run(each, rate * each.share_of_rate, writers[each.letter], WARM_UP)

        def measure(each: Contender | SendLoop) -> Sample:
            if isinstance(each, SendLoop):
                return each.measure()
            return bench.run(each, rate * each.share_of_rate, writers[each.letter])[1]

        figures = bench.rounds([*contenders, *([loop] if loop else [])], measure)
    slower = [f"{each.letter} at {each.share_of_rate:.0%}" for each in contenders if each.share_of_rate != 1]
    at = f" ({', '.join(slower)} of it)" if slower else ""
    return Result(title, f"{count} connections, {rate:g} messages a second{at}", figures)


def large_room(bench: Bench) -> Result:
    """The same number of deliveries a second, in one large room and in rooms of 100, in turn."""
    count = bench.options.connections or (5000 if bench.options.is_full else 1000)
    deliveries = 100 * (bench.options.rate or RATE)
    figures = {}
    letters = "a" if not bench.options.is_full else "abde" if bench.options.is_chosen else "ad"
    for contender in bench.among(letters):
        figures |= _large_and_small(bench, contender, count, deliveries)
    how = f"{count:,} connections in one room, 500 in rooms of 100; {deliveries:,.0f} deliveries a second"
    return Result("One large room, and rooms of 100", how, figures)


def _large_and_small(bench: Bench, contender: Contender, count: int, deliveries: float) -> dict[str, dict[str, Figure]]:
    small_group = f"{contender.group} beside"
    with (
        bench.connected(contender, LARGE, count) as large,
        bench.connected(contender, HUNDREDS, 500, small_group) as small,
    ):
        rooms = {
            "one room": (contender.group, deliveries / count, one_writer_each(large)),
            "rooms of 100": (small_group, deliveries / 100, one_writer_each(small)),
        }

        def measure(name: str, seconds: float | None = None) -> Sample:
            group, rate, writers = rooms[name]
            return bench.run(contender, rate, writers, seconds, group=group)[1]

        for name in rooms:
            measure(name, 2 * WARM_UP)
        return bench.rounds(list(rooms), measure, key=lambda name: f"{contender.letter}, {name}")
