"""The command line."""

import argparse
import gc
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop
from target import PROJECT

from faults import population, report
from faults.catalogue import FAULTS, RESTORE, Fault
from faults.crowd import Crowd
from faults.rounds import WELL, Ring, Round
from faults.testhost import Host, run
from load.machine import machine

LOGS = PROJECT / "build" / "faults"
PAGE = PROJECT / "docs" / "faults.md"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests/faults", description="Try what becomes of messages when things die.")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--short", action="store_true", help="six faults, once each, and shorter")
    form.add_argument("--only", metavar="NAMES", help="these faults only: " + ", ".join(each.name for each in FAULTS))
    parser.add_argument("--times", type=int, help="how often each is tried (3; of --short and --only: 1)")
    parser.add_argument("--page", type=Path, help="where the page is written (where all are tried: docs/faults.md)")
    return parser


def chosen(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> list[tuple[Fault, float]]:
    """The faults, and how long each lasts."""
    if arguments.short:
        return [(fault, fault.short) for fault in FAULTS if fault.short is not None]
    if not arguments.only:
        return [(fault, fault.lasts) for fault in FAULTS]
    known = {fault.name: fault for fault in FAULTS}
    names = arguments.only.replace(",", " ").split()
    for name in names:
        if name not in known:
            parser.error(f"{name!r} is not one of {', '.join(known)}")
    return [(known[name], known[name].lasts) for name in names]


def say(line: str) -> None:
    """Tell how far it is."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def hold(faults: Sequence[tuple[Fault, float]], times: int, host: Host) -> list[Round]:
    """All rounds, one after the other, under one load."""
    await host.shell(RESTORE)
    await host.prepare()
    seats = population.seats(await host.shell("salon shell --verbosity 0", population.script()))
    rounds = []
    async with Crowd(seats, await host.door(), random.randrange(2**32)) as crowd:
        await crowd.all_here(WELL)
        ring = Ring(host, crowd, LOGS)
        for fault, lasts in faults:
            for number in range(1, times + 1):
                rounds.append(result := await ring.hold(fault, number, lasts))
                say(result.line())
                for line in result.details():
                    say(f"    {line}")
    return rounds


async def page(rounds: list[Round], times: int, host: Host) -> str:
    """The page, with where it was made."""
    salon = (await run("git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=12")).strip()
    versions = [*await host.versions(), f"Salon {salon}"]
    return report.page(rounds, times, machine(), versions)


async def work(faults: Sequence[tuple[Fault, float]], times: int) -> tuple[list[Round], str]:
    """All rounds, and the page about them."""
    host = Host()
    rounds = await hold(faults, times, host)
    return rounds, await page(rounds, times, host)


def main() -> int:
    """Try them; the exit status: 1 when anything is not as it should be."""
    parser = _parser()
    arguments = parser.parse_args()
    faults = chosen(arguments, parser)
    is_whole = len(faults) == len(FAULTS) and not arguments.short
    times = arguments.times or (3 if is_whole else 1)
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    # What is noted lives on to the end of its round: to look through it again and again only delays everybody.
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    rounds, text = uvloop.run(work(faults, times))
    path = arguments.page or (PAGE if is_whole else LOGS / "faults.md")
    path.write_text(text)
    say(f"\n{report.table(rounds)}\n\n{report.verdict(rounds)}\nWritten: {path}")
    return 0 if all(each.is_good for each in rounds) else 1
