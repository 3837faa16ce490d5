"""The ten pictures of how Salon is: what is asked of Prometheus for them, and how they are drawn.

They are the same in the admin, where they are drawn here as SVG, and in docs/grafana.json (`make docs`).
"""

import http.client
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import floor, isfinite, log10
from urllib.parse import urlencode, urlsplit
from xml.sax.saxutils import escape, quoteattr  # nosec B406 # it only writes

from django.utils import timezone

TIMEOUT = 3.0
"""Seconds that Prometheus may take for one picture."""

POINTS = 180
WIDTH, HEIGHT = 640, 190
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 10, 24
COLORS = ("#2f7ed8", "#d9730d", "#3a9d5d", "#c0392b", "#8e5bbf", "#8a8a2b", "#1f9aa8", "#b0567a")


class AwayError(Exception):
    """Prometheus has not answered, or not with numbers."""


@dataclass(frozen=True)
class Line:
    """One question to Prometheus; its answer is a line for each value of the label, if there is one."""

    expression: str
    name: str
    label: str = ""


@dataclass(frozen=True)
class Picture:
    title: str
    unit: str
    """`s`, `bytes`, `percent`, `per second` or nothing."""
    lines: tuple[Line, ...]


def _quantile(share: float, metric: str, by: str = "le") -> str:
    return f"histogram_quantile({share}, sum by ({by}) (rate({metric}_bucket[5m])))"


PICTURES = (
    Picture("Connections", "", (Line("sum by (process) (salon_connections)", "", "process"),)),
    Picture(
        "Messages",
        "per second",
        (
            Line('sum(rate(salon_events_received_total{type="message"}[5m]))', "sent"),
            Line('sum(rate(salon_deliveries_total{kind="message"}[5m]))', "delivered"),
        ),
    ),
    Picture(
        "From receipt to the last socket",
        "s",
        (
            Line(_quantile(0.5, "salon_message_delivery_seconds"), "half"),
            Line(_quantile(0.99, "salon_message_delivery_seconds"), "99 of 100"),
            Line(_quantile(0.99, "salon_message_commit_seconds"), "stored, 99 of 100"),
        ),
    ),
    Picture(
        "Lateness of the event loop",
        "s",
        (Line(_quantile(0.99, "salon_event_loop_lag_seconds", "process, le"), "", "process"),),
    ),
    Picture(
        "What fails",
        "per second",
        (
            Line('sum(rate(salon_http_requests_total{status=~"5.."}[5m]))', "requests"),
            Line('sum(rate(salon_errors_sent_total{code=~"internal|unavailable"}[5m]))', "events"),
            Line("sum(rate(salon_gaps_filled_total[5m]))", "gaps filled"),
            Line("sum(rate(salon_slow_readers_total[5m]))", "slow readers closed"),
        ),
    ),
    Picture(
        "Handshakes that are refused",
        "per second",
        (Line('sum by (outcome) (rate(salon_handshakes_total{outcome!="opened"}[5m])) > 0', "", "outcome"),),
    ),
    Picture(
        "Questions to the database",
        "s",
        (Line(_quantile(0.99, "salon_database_seconds", "by, le"), "", "by"),),
    ),
    Picture("Memory of the processes", "bytes", (Line('process_resident_memory_bytes{job="salon"}', "", "process"),)),
    Picture(
        "Processors",
        "percent",
        (
            Line('100 * (1 - avg by (host) (rate(node_cpu_seconds_total{mode="idle"}[5m])))', "", "host"),
            Line('100 * rate(process_cpu_seconds_total{job="salon"}[5m])', "", "process"),
        ),
    ),
    Picture(
        "What is left of disk and memory",
        "percent",
        (
            Line(
                '100 * node_filesystem_avail_bytes{mountpoint="/"} / node_filesystem_size_bytes{mountpoint="/"}', "disk"
            ),
            Line("100 * node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", "memory"),
        ),
    ),
)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


Point = tuple[float, float]
Drawn = tuple[str, list[Point]]
"""A line with its name, each point by its time and its value."""


@dataclass(frozen=True)
class Prometheus:
    url: str
    """`http://host:port`, or `unix:/path`."""

    def range(self, expression: str, start: float, end: float) -> list[tuple[dict[str, str], list[Point]]]:
        """The lines that are the answer, each with its labels. Raises `AwayError`."""
        given = {"query": expression, "start": start, "end": end, "step": max((end - start) / POINTS, 1)}
        connection = self._connection()
        try:
            connection.request("GET", f"/api/v1/query_range?{urlencode(given)}")
            answer = connection.getresponse()
            told = json.loads(answer.read())
            if answer.status != http.client.OK:
                raise AwayError(str(told.get("error", answer.status)))
            return [
                (each["metric"], [(float(when), float(value)) for when, value in each["values"]])
                for each in told["data"]["result"]
            ]
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError) as error:
            raise AwayError(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self.url.startswith("unix:"):
            return _UnixConnection(self.url.removeprefix("unix:"))
        parts = urlsplit(self.url)
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT)


def drawn(picture: Picture, prometheus: Prometheus, start: float, end: float) -> str:
    """The picture of that time, as SVG. Raises `AwayError`."""
    lines: list[Drawn] = []
    for line in picture.lines:
        for labels, points in prometheus.range(line.expression, start, end):
            sound = [point for point in points if isfinite(point[1])]
            if sound:
                lines.append((line.name or labels.get(line.label, "?"), sound))
    return svg(picture, lines, start, end)


def amount(value: float, unit: str) -> str:
    """A number as a person reads it."""
    if unit == "bytes":
        return f"{value / 1_000_000:.0f} MB"
    if unit == "percent":
        return f"{value:.0f} %"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def top(greatest: float) -> float:
    """The end of the axis: the next of 1, 2, 5, 10, 20, …"""
    if greatest <= 0:
        return 1.0
    power = 10.0 ** floor(log10(greatest))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= greatest)


def svg(picture: Picture, lines: Sequence[Drawn], start: float, end: float) -> str:
    """Lines over time, and below them what each is called and where it ends."""
    highest = 100.0 if picture.unit == "percent" else 0.0
    ceiling = top(max([highest, *(value for _, points in lines for _, value in points)]))
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(point: Point) -> str:
        when, value = point
        return f"{LEFT + wide * (when - start) / (end - start):.1f},{TOP + high * (1 - value / ceiling):.1f}"

    rows = (len(lines) + 2) // 3
    said = "; ".join(f"{name} {amount(points[-1][1], picture.unit)}" for name, points in lines) or "nothing"
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + 18 * rows}" role="img"',
            ' font-family="sans-serif" font-size="12" fill="currentColor"',
            f" aria-label={quoteattr(f'{picture.title}: {said}')}>",
            *_grid(picture.unit, ceiling, start, end, wide, high),
            *_lines(lines, place),
            *_names(lines, picture.unit),
            "</svg>",
        ]
    )


def _grid(unit: str, ceiling: float, start: float, end: float, wide: int, high: int) -> Iterator[str]:
    for share in (0, 0.5, 1):
        y = TOP + high * (1 - share)
        yield f'<path d="M{LEFT} {y:.1f}h{wide}" stroke="currentColor" stroke-opacity="0.2"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{amount(ceiling * share, unit)}</text>'
    for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        when = datetime.fromtimestamp(start + (end - start) * share, timezone.get_current_timezone())
        yield f'<text x="{LEFT + wide * share:.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{when:%H:%M}</text>'


def _lines(lines: Sequence[Drawn], place: Callable[[Point], str]) -> Iterator[str]:
    for number, (_, points) in enumerate(lines):
        # One point alone would not be seen.
        path = " ".join(map(place, points if len(points) > 1 else [*points, (points[0][0] + 1, points[0][1])]))
        color = COLORS[number % len(COLORS)]
        yield f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>'


def _names(lines: Sequence[Drawn], unit: str) -> Iterator[str]:
    for number, (name, points) in enumerate(lines):
        x, y = LEFT + number % 3 * 188, HEIGHT + 10 + number // 3 * 18
        yield f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{COLORS[number % len(COLORS)]}"/>'
        yield f'<text x="{x + 14}" y="{y}">{escape(name)}: {amount(points[-1][1], unit)}</text>'
