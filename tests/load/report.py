"""What a run tells: a table for a person, and JSON for everything else."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from load.bench import GREATEST_BUSY, Bench, Result
from load.criteria import Criterion
from load.figures import Figure, short

WIDTH = 100
SHOWN = {
    "app_us_per_delivery": "application, CPU µs per delivery",
    "redis_us_per_delivery": "Redis, CPU µs per delivery",
    "postgresql_us_per_delivery": "PostgreSQL, CPU µs per delivery",
    "nginx_us_per_delivery": "nginx, CPU µs per delivery",
    "all_us_per_delivery": "all of them, CPU µs per delivery",
    "all_us_per_message": "all of them, CPU µs per message",
    "p50_ms": "half of the messages came within ms",
    "p99_ms": "99 % within ms",
    "p99.9_ms": "99.9 % within ms",
    "p50_quiet_ms": "without the unruly ones: half within ms",
    "p99_quiet_ms": "without them: 99 % within ms",
    "p99_ratio": "99 %: beside them / without them",
    "lost": "lost",
    "doubled": "doubled",
    "dropped": "connections dropped",
    "closed_as_slow": "closed as slow readers, beyond what it carries",
    "per_cpu_second": "handshakes per CPU second of all",
    "per_app_cpu_second": "handshakes per CPU second of the application",
    "all_us": "CPU µs of all, a handshake",
    "app_us": "CPU µs of the application, a handshake",
    "redis_us": "CPU µs of Redis, a handshake",
    "postgresql_us": "CPU µs of PostgreSQL, a handshake",
    "kib_per_connection": "KiB of memory per connection",
    "app_percent_of_a_core": "application, % of a core",
    "redis_percent_of_a_core": "Redis, % of a core",
    "postgresql_percent_of_a_core": "PostgreSQL, % of a core",
    "deliveries_per_second": "deliveries a second that it carries",
    "messages_per_second": "messages a second that it carries",
    "carries_messages_per_second": "messages a second that it carries",
    "mib_after_warm_up": "MiB of memory after warm-up",
    "mib_at_the_end": "MiB of memory at the end",
    "greatest_mib": "MiB of memory at its greatest (RSS)",
    "log_lines": "lines in its log",
    "calm_after_s": "seconds until it is quiet again",
    "generator_us_per_delivery": "load generator, CPU µs per delivery",
    "generator_busy": "load generator, share of a core",
    "unruly_busy": "the unruly ones, share of a core",
}
"""The figures that the table has, and what they are called there; those with a `:` are shown as they are named."""


def as_json(bench: Bench, results: dict[str, Result], judged: list[Criterion], about: dict[str, Any]) -> dict[str, Any]:
    """All of a run."""
    return {
        **about,
        "contenders": {letter: kind.name for letter, kind in bench.classes.items()},
        "scenarios": {name: asdict(result) for name, result in results.items()},
        "criteria": [asdict(each) for each in judged],
        "totals": bench.totals,
        "generator": {"busiest": bench.busiest, "is_reliable": bench.busiest <= GREATEST_BUSY},
    }


def write(path: Path, content: dict[str, Any]) -> None:
    """To a file of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def table(result: Result) -> list[str]:
    """The lines of one scenario; the median of the rounds, and the least and the greatest in parentheses."""
    lines = ["", f"{result.title}: {result.how}"]
    unreliable = False
    for who, figures in result.figures.items():
        lines.append(f"  {who}")
        for name, figure in figures.items():
            if title := SHOWN.get(name) or (name if ": " in name else ""):
                lines.append(f"    {title:<48}{_shown(figure)}")
            if name.endswith("generator_busy") and figure.greatest > GREATEST_BUSY:
                unreliable = True
    if unreliable:
        lines.append(f"  NOT RELIABLE: the load generator was more than {GREATEST_BUSY:.0%} busy.")
    return lines + [f"  {note}" for note in result.notes]


def _shown(figure: Figure) -> str:
    return str(figure) if figure.rounds > 1 else short(figure.median)


def verdict(judged: list[Criterion]) -> list[str]:
    """The lines that say what holds."""
    if not judged:
        return []
    lines = ["", "What it is meant to be"]
    for each in sorted(judged, key=lambda criterion: criterion.number or 99):
        word = "" if each.holds is None else ("holds" if each.holds else "DOES NOT HOLD")
        bound = "" if each.bound is None else f"(bound {short(each.bound)})"
        number = f"{each.number}." if each.number else " *"
        lines.append(f"  {number:<3} {each.sentence:<88} {short(each.value):>8} {bound:<13} {word}")
    return lines
