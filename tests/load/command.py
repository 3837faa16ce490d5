"""The command line."""

import argparse
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from target import PROJECT

from load import plot, report
from load.bench import Bench, Options, Result
from load.contenders.node import SocketIO, Ws
from load.contenders.salon import Salon, SalonOnDaphne
from load.contenders.tutorial import Tutorial
from load.crew import Crew
from load.criteria import judge
from load.generator import prepare
from load.machine import machine, versions
from load.scenarios import capacity, handshakes, idle, processes, rooms, soak, tls, unruly
from load.stage import Stage

CONTENDERS = {each.letter: each for each in (Salon, SalonOnDaphne, Tutorial, SocketIO, Ws)}
SCENARIOS = {
    "rooms-of-100": rooms.rooms_of_100,
    "rooms-of-4": rooms.rooms_of_4,
    "large-room": rooms.large_room,
    "handshakes": handshakes.handshakes,
    "idle": idle.idle,
    "capacity": capacity.capacity,
    "two-processes": processes.two_processes,
    "nginx": tls.nginx_tls,
    "soak": soak.soak,
    "unruly": unruly.unruly,
}
BY_NAME = ("soak", "unruly")
"""Those that run only when they are asked for."""

QUICK = [name for name in SCENARIOS if name not in ("two-processes", "nginx", *BY_NAME)]
FULL = [name for name in SCENARIOS if name not in BY_NAME]
BUILD = PROJECT / "build"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests/load", description="Measure Salon beside others.")
    parser.add_argument("--full", action="store_true", help="longer rounds, more of everything")
    parser.add_argument("--only", help="scenarios, comma-separated: " + ", ".join(SCENARIOS))
    parser.add_argument("--contenders", help="letters, comma-separated: " + ", ".join(CONTENDERS))
    parser.add_argument("--rounds", type=int, help="how often each contender is measured (4; full: 5)")
    parser.add_argument("--seconds", type=float, help="the length of one round of load")
    parser.add_argument("--rate", type=float, help="messages a second, instead of the scenario's own")
    parser.add_argument("--connections", type=int, help="connections, instead of the scenario's own")
    parser.add_argument("--json", type=Path, default=BUILD / "bench.json", help="where all figures are written")
    parser.add_argument("--svg", type=Path, default=BUILD / "bench.svg", help="where the plot is written")
    return parser


def _chosen(text: str | None, known: dict, parser: argparse.ArgumentParser) -> list[str]:
    names = [name.strip() for name in text.split(",")] if text else list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"{unknown[0]!r} is not one of {', '.join(known)}")
    return names


def say(line: str) -> None:
    """Tell how far it is."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main() -> int:
    """Measure; the exit status: 1 when Salon has lost or doubled a message."""
    parser = _parser()
    arguments = parser.parse_args()
    known = QUICK if not arguments.full else FULL
    names = _chosen(arguments.only, SCENARIOS, parser) if arguments.only else list(known)
    contenders = {}
    for letter in _chosen(arguments.contenders, CONTENDERS, parser):
        if reason := CONTENDERS[letter].missing() or CONTENDERS[letter].install():
            say(f"{letter} ({CONTENDERS[letter].name}) is skipped: {reason}")
        else:
            contenders[letter] = CONTENDERS[letter]
    options = Options(
        arguments.full,
        bool(arguments.contenders),
        arguments.rounds or (5 if arguments.full else 4),
        arguments.seconds or (3.0 if arguments.full else 0.8),
        arguments.rate,
        arguments.connections,
    )
    prepare()
    # Whoever ends the run ends what it has started too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended before it was done."))
    with ExitStack() as stack:
        stage = stack.enter_context(Stage())
        crew = stack.enter_context(Crew(stage.certificate))
        bench = stack.enter_context(Bench(stage, crew, contenders, options, say))
        return _run(bench, names, arguments)


def _run(bench: Bench, names: list[str], arguments: argparse.Namespace) -> int:
    results: dict[str, Result] = {}
    for name in names:
        began = time.monotonic()
        say(name)
        results[name] = SCENARIOS[name](bench)
        say(f"  took {time.monotonic() - began:.0f} s")
    judged = judge(results, bench.totals)
    about = {"form": "full" if arguments.full else "quick", "machine": machine(), "versions": versions()}
    content = report.as_json(bench, results, judged, about)
    report.write(arguments.json, content)
    arguments.svg.write_text(plot.svg(content))
    lines = [line for result in results.values() for line in report.table(result)] + report.verdict(judged)
    where = about["machine"]
    lines += ["", f"{where['processor']}, {where['cores']} cores, Linux {where['kernel']}"]
    lines += [", ".join(f"{name} {number}" for name, number in about["versions"].items())]
    lines += [f"The load generator was at most {bench.busiest:.0%} busy. Written: {arguments.json}, {arguments.svg}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(any(each.number == 0 and not each.holds for each in judged))
