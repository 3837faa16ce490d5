"""docs/operations.md asks the log and Prometheus for what there is."""

import logging
import re
from pathlib import Path

import pytest

from chat.metrics import Collector
from salon.logs import JSONFormatter, about

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/operations.md").read_text()
PATTERNS = re.findall(r"^    journalctl .*--grep '([^']+)'", PAGE, re.MULTILINE)
SUFFIXES = {"counter": "_total", "info": "_info"}

LINES = {
    '"event":"service.(lost|found)"': about("service.lost", service="database"),
    '"event":"connection.refused"': about("connection.refused", outcome="invalid_token"),
    '"user":7[,}]': about("connection.opened", user=7, outcome="ok"),
    '"room":3[,}]': about("event.received", room=3, type="message"),
    '"event":"request.answered".*"outcome":"5': about("request.answered", outcome="503"),
    '"event":"(login|logout|admin)': about("login.failed", outcome="refused"),
    '"followed":true': about("event.delivered", followed=True, room=4),
}
"""What each line of the page is to find; the others look for what systemd and Python say."""


def test_every_line_is_known():
    of_others = [pattern for pattern in PATTERNS if '"' not in pattern]
    assert sorted({*PATTERNS} - {*of_others}) == sorted(LINES)
    assert len(of_others) == 1


@pytest.mark.parametrize("pattern", sorted(LINES))
def test_a_line_finds_what_it_looks_for(pattern):
    found = {}
    for looked_for, extra in LINES.items():
        record = logging.makeLogRecord({"name": "chat.x", "levelname": "INFO", "msg": "It is so", **extra})
        found[looked_for] = bool(re.search(pattern, JSONFormatter().format(record)))
    assert [looked_for for looked_for, is_found in found.items() if is_found] == [pattern]


def test_the_events_that_it_names_are_logged():
    program = "\n".join(path.read_text() for path in (ROOT / "app").rglob("*.py"))
    named = set(re.findall(r"`([a-z]+\.[a-z_]+)`", PAGE))
    assert len(named) >= 5
    assert [name for name in named if f'"{name}"' not in program] == []


def test_every_metric_stands_there_as_it_is():
    rows = re.findall(r"^\| `((?:salon|process)_\w+)` \| ?(.*?) \| (.*) \|$", PAGE, re.MULTILINE)
    told = []
    for family in Collector().collect():
        labels = {label: None for sample in family.samples for label in sample.labels if label != "le"}
        kind = " (histogram)" if family.type == "histogram" else ""
        name = f"{family.name}{SUFFIXES.get(family.type, '')}"
        told.append((name, ", ".join(f"`{label}`" for label in labels), f"{family.documentation}{kind}"))
    assert rows == told


def test_the_settings_that_it_names_are_there():
    settings = (ROOT / "app/salon/settings.py").read_text()
    for name in re.findall(r"`((?:SALON|SENTRY)_\w+)", PAGE):
        assert f'"{name}"' in settings, name
