"""The command line."""

import argparse
import sys
import time
from contextlib import ExitStack

from load.bench import Bench, Options, Result
from load.contenders.node import SocketIO, Ws
from load.contenders.salon import Salon, SalonOnDaphne
from load.contenders.tutorial import Tutorial
from load.crew import Crew
from load.generator import prepare
from load.scenarios import capacity, handshakes, idle, processes, rooms, soak, tls
from load.stage import Stage

CONTENDERS = {each.letter: each for each in (Salon, SalonOnDaphne, Tutorial, SocketIO, Ws)}
SCENARIOS = {
    "rooms-of-100": rooms.rooms_of_100,
    "rooms-of-4": rooms.rooms_of_4,
    "room-of-5000": rooms.room_of_5000,
    "handshakes": handshakes.handshakes,
    "idle": idle.idle,
    "capacity": capacity.capacity,
    "two-processes": processes.two_processes,
    "nginx": tls.nginx_tls,
    "soak": soak.soak,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests/load", description="Measure Salon beside others.")
    parser.add_argument("--full", action="store_true", help="longer rounds, more of everything")
    parser.add_argument("--only", help="scenarios, comma-separated: " + ", ".join(SCENARIOS))
    parser.add_argument("--contenders", help="letters, comma-separated: " + ", ".join(CONTENDERS))
    parser.add_argument("--rounds", type=int, help="how often each contender is measured (5)")
    parser.add_argument("--seconds", type=float, help="the length of one round of load")
    parser.add_argument("--rate", type=float, help="messages a second, instead of the scenario's own")
    parser.add_argument("--connections", type=int, help="connections, instead of the scenario's own")
    return parser


def _chosen(text: str | None, known: dict, parser: argparse.ArgumentParser) -> list[str]:
    names = [name.strip() for name in text.split(",")] if text else list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"{unknown[0]!r} is not one of {', '.join(known)}")
    return names


def say(line: str) -> None:
    """Tell how far it is."""
    sys.stderr.write(line + "\n")


def main() -> int:
    """Measure; the exit status."""
    parser = _parser()
    arguments = parser.parse_args()
    scenarios = _chosen(arguments.only, SCENARIOS, parser)
    contenders = {}
    for letter in _chosen(arguments.contenders, CONTENDERS, parser):
        if reason := CONTENDERS[letter].missing():
            say(f"{letter} ({CONTENDERS[letter].name}) is skipped: {reason}")
        else:
            contenders[letter] = CONTENDERS[letter]
    options = Options(
        arguments.full,
        arguments.rounds or 5,
        arguments.seconds or (4.0 if arguments.full else 1.2),
        arguments.rate,
        arguments.connections,
    )
    prepare()
    results: dict[str, Result] = {}
    with ExitStack() as stack:
        stage = stack.enter_context(Stage())
        crew = stack.enter_context(Crew(stage.certificate))
        bench = stack.enter_context(Bench(stage, crew, contenders, options, say))
        for name in scenarios:
            began = time.monotonic()
            say(name)
            results[name] = SCENARIOS[name](bench)
            say(f"  took {time.monotonic() - began:.0f} s")
            for who, figures in results[name].figures.items():
                say(f"  {who} " + "  ".join(f"{key} {figure}" for key, figure in figures.items()))
        say(str(bench.totals))
    return 0
