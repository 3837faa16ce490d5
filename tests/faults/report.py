"""The page `docs/faults.md`, and the table in it."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from faults.checker import Kind
from faults.population import PEOPLE, ROOMS
from faults.rounds import AFTERWARDS, LOST, SETTLE, Round

PAGE = """\
# What dies, and what becomes of the messages

Written by `make faults`; do not change it by hand.

A message whose sender has got its broadcast reaches every member of the room exactly once and in the room's order,
whatever process, service or network link dies in between, as soon as the member is connected again. This is how that
was tried: {people} people in {rooms} rooms, each of whom writes a message a second, most over her WebSocket and some
over HTTP, and reconnects as a browser does; below them, one fault after the other, each {times} times, under that load.

{table}

{verdict}

What the columns say:

- **lasted**: seconds between the first command of the fault and the end of the last; for a reboot, until the host has
  started all that it starts by itself.
- **acknowledged**: messages that a sender was told to be stored, by their own broadcast or by HTTP's 201, around the
  fault.
- **lost**: messages that somebody has not seen who was back in the room at the end, acknowledged or only stored; and
  numbers of the database's own count that are missing.
- **doubled**: messages that came to somebody twice, but for her own that she had sent again and was told about again;
  and messages that are stored twice.
- **disordered**: messages that came after one with a higher number, or are dated before one with a lower number.
- **other**: whatever else should not be: a sender who is owed an answer, a message refused or changed, somebody who is
  not back within {settle:g} s.
- **silence**: for each person and each of her rooms, the longest time between two moments at which she saw something
  new there, from the beginning of the fault until all have been well again for {afterwards:g} s. People write all that
  time, about five messages a second in each room, as far as they are let. The table has the longest of anybody, in
  seconds, beside the longest there may be.

Where a fault was tried several times, the table has the sums of what was counted, and the round that came nearest to
what it may last.

Made on {machine}, with {versions}, on {when}.
"""

HEAD = "| fault | times | lasted | acknowledged | lost | doubled | disordered | other | silence | at most |"


def _row(rounds: Sequence[Round]) -> str:
    worst = max(rounds, key=lambda each: each.silence.seconds - each.allowed)
    lost, doubled, disordered = (
        sum(each.count(*kinds) for each in rounds) for kinds in (LOST, (Kind.DOUBLED,), (Kind.DISORDERED,))
    )
    other = sum(len(each.findings) + len(each.trouble) for each in rounds) - lost - doubled - disordered
    silence, acknowledged = f"{worst.silence.seconds:.1f}", sum(each.acknowledged for each in rounds)
    return (
        f"| {rounds[0].fault.title.format(rounds[0].lasts)} | {len(rounds)} | {worst.lasted:.1f} | {acknowledged:,}"
        f" | {lost} | {doubled} | {disordered} | {other}"
        f" | {f'**{silence}**' if worst.is_silent_too_long else silence} | {worst.allowed:.1f} |"
    )


def table(rounds: Sequence[Round]) -> str:
    """One row for each fault."""
    rows = [_row(list(of_one)) for _, of_one in groupby(rounds, lambda each: each.fault.name)]
    return "\n".join([HEAD, "| --- |" + " ---: |" * (HEAD.count("|") - 2), *rows])


def verdict(rounds: Sequence[Round]) -> str:
    """What came of all of them, in one sentence."""
    bad = sorted({each.fault.name for each in rounds if not each.is_good})
    if not bad:
        return f"All {len(rounds)} rounds went as they should."
    failed = sum(not each.is_good for each in rounds)
    return f"**{failed} of {len(rounds)} rounds did not go as they should**: {', '.join(bad)}."


def page(rounds: Sequence[Round], times: int, machine: Mapping[str, str | int], versions: Sequence[str]) -> str:
    """The whole page."""
    return PAGE.format(
        people=PEOPLE,
        rooms=ROOMS,
        times=times,
        table=table(rounds),
        verdict=verdict(rounds),
        settle=SETTLE,
        afterwards=AFTERWARDS,
        machine=f"{machine['processor']}, {machine['cores']} cores, Linux {machine['kernel']}",
        versions=", ".join(versions),
        when=machine["when"],
    )
