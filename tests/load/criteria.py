"""What the figures must be for Salon to be as fast as it is meant to be: mostly ratios within one run."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from load.bench import Result
from load.ledger import COUNTED

Results = dict[str, Result]


@dataclass(frozen=True)
class Criterion:
    """`holds` is None where there is only something to see."""

    number: int
    sentence: str
    value: float
    bound: float | None
    holds: bool | None


class _NotMeasured(Exception):  # noqa: N818 (it is no error)
    """A scenario or a contender was left out."""


def _median(results: Results, scenario: str, who: str, figure: str) -> float:
    try:
        return results[scenario].figures[who][figure].median
    except KeyError:
        raise _NotMeasured from None


def judge(results: Results, totals: dict[str, dict[str, float]]) -> list[Criterion]:
    """All of those that this run has measured what they need for."""
    judged = []

    def at_most(number: int, sentence: str, value: Callable[[], float], bound: float) -> None:
        with suppress(_NotMeasured):
            judged.append(Criterion(number, sentence, found := value(), bound, found <= bound))

    def at_least(number: int, sentence: str, value: Callable[[], float], bound: float) -> None:
        with suppress(_NotMeasured):
            judged.append(Criterion(number, sentence, found := value(), bound, found >= bound))

    def get(scenario: str, who: str, figure: str) -> float:
        return _median(results, scenario, who, figure)

    def ratio(scenario: str, figure: str, above: str, below: str) -> Callable[[], float]:
        return lambda: get(scenario, above, figure) / get(scenario, below, figure)

    each, every = "app_us_per_delivery", "all_us_per_message"
    hundred, four = "rooms-of-100", "rooms-of-4"
    at_most(1, "rooms of 100: application CPU per delivery, (a) / bare send", ratio(hundred, each, "a", "send"), 3)
    at_least(1, "rooms of 100: application CPU per delivery, (c) / (a)", ratio(hundred, each, "c", "a"), 13)
    at_most(1, "rooms of 100: application CPU per delivery, (a) / (d)", ratio(hundred, each, "a", "d"), 0.6)
    at_most(2, "rooms of 4: CPU of all processes per message, (a) / (d)", ratio(four, every, "a", "d"), 0.65)
    at_least(2, "rooms of 4: CPU of all processes per message, (c) / (a)", ratio(four, every, "c", "a"), 8)
    at_most(
        3,
        "one large room / rooms of 100: application CPU per delivery of (a)",
        lambda: get("large-room", "a, one room", each) / get("large-room", "a, rooms of 100", each),
        1.3,
    )
    at_most(4, "idle: memory of a connection, (a) / (d)", ratio("idle", "kib_per_connection", "a", "d"), 1)
    _idle(judged, get)
    at_least(5, "handshakes per CPU second, (a) / (d)", ratio("handshakes", "per_cpu_second", "a", "d"), 1)
    at_most(6, "p99 at half of what (d) carries, (a) / (d)", ratio("capacity", "50 % of d: p99_ms", "a", "d"), 1)
    _added_by_nginx(judged, get)
    one, two = "a, 1 process", "a, 2 processes"
    at_most(8, "CPU of the application per delivery, two processes / one", ratio("two-processes", each, two, one), 1.1)
    at_least(8, "what two processes carry / one", ratio("two-processes", "carries_messages_per_second", two, one), 1.8)
    at_most(
        9,
        "soak: memory at the end / after warm-up",
        lambda: get("soak", "a", "mib_at_the_end") / get("soak", "a", "mib_after_warm_up"),
        1.05,
    )
    _beside_unruly(judged, results)
    if total := totals.get("a"):
        wrong = sum(total.get(name, 0) for name in COUNTED)
        sentence = "(a): messages lost, doubled, out of order or not to be sent, and connections dropped"
        judged.append(Criterion(0, sentence, wrong, 0, not wrong))
    return judged


def _idle(judged: list[Criterion], get: Callable[[str, str, str], float]) -> None:
    try:
        count, share = get("idle", "a", "connections"), get("idle", "a", "app_percent_of_a_core")
    except _NotMeasured:
        return
    # Part of it is there without any connection: of fewer it says nothing.
    is_judged = count >= 10_000
    sentence = f"idle: % of a core for {count:,.0f} connections of (a)"
    judged.append(Criterion(4, sentence, share, 3 if is_judged else None, share <= 3 if is_judged else None))


def _added_by_nginx(judged: list[Criterion], get: Callable[[str, str, str], float]) -> None:
    try:
        directly = get("nginx", "directly", "all_us_per_delivery")
        through = get("nginx", "as deployed", "all_us_per_delivery")
        alone = get("nginx", "as deployed", "nginx_us_per_delivery")
    except _NotMeasured:
        return
    sentences = {
        "nginx with TLS, as deployed: its own CPU µs per delivery": alone,
        "the same: all processes, beside clients that come directly": through - directly,
    }
    judged += [Criterion(7, sentence, value, None, None) for sentence, value in sentences.items()]


MEMORY_MAX = 1024
"""MiB that one process may take before systemd ends it: `daphne_memory_max` of the role."""


def _beside_unruly(judged: list[Criterion], results: Results) -> None:
    if "unruly" not in results:
        return
    beside = results["unruly"].figures
    for who, figures in beside.items():
        value = figures["p99_ratio"].median
        judged.append(Criterion(10, f"{who}: p99 of the others / without", value, 3, value < 3))
    if beside:
        most = max(figures["greatest_mib"].greatest for figures in beside.values())
        sentence = "MiB of memory of (a) beside them, at its greatest"
        judged.append(Criterion(10, sentence, most, MEMORY_MAX, most < MEMORY_MAX))
        wrong = sum(figures[name].greatest for figures in beside.values() for name in ("lost", "doubled"))
        judged.append(Criterion(10, "messages of the others lost or doubled beside them", wrong, 0, not wrong))
