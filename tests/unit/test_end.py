"""How long a process may take to end: the server's own bounds, what they are for, and what systemd is told."""

import os
from pathlib import Path

import pytest
import yaml
from django.conf import settings

from salon import server, websocket

DEFAULTS = yaml.safe_load((Path(__file__).resolve().parents[2] / "roles/daphne/defaults/main.yml").read_text())
MARGIN = 5
"""Seconds that a busy host may add."""


def seconds(name):
    """A span of time among the role's defaults."""
    return int(DEFAULTS[name].removesuffix("s"))


def test_a_process_ends_before_systemd_kills_it():
    steps = (
        websocket.DRAIN_TIMEOUT,
        server.APPLICATIONS_TIMEOUT,
        server.CANCEL_TIMEOUT,
        server.LIFESPAN_TIMEOUT,
    )
    assert sum(steps) < server.END_TIMEOUT <= seconds("daphne_stop_timeout") - MARGIN


def test_no_step_is_shorter_than_what_it_waits_for():
    assert server.APPLICATIONS_TIMEOUT > settings.DATABASE_TIMEOUT
    assert server.LIFESPAN_TIMEOUT > settings.DATABASE_TIMEOUT
    assert websocket.SPREAD < websocket.DRAIN_TIMEOUT
    assert server.LAST_MOMENT < server.ARRIVAL_TIMEOUT < websocket.DRAIN_TIMEOUT


@pytest.mark.parametrize(("count", "span"), [(1, 0.002), (50, 0.1), (500, 1), (1000, 2), (10_000, 2)])
def test_a_crowd_is_closed_over_a_time_that_fits_it(count, span):
    assert count / websocket.closing_rate(count) == pytest.approx(span)


@pytest.mark.parametrize(
    ("limit", "process", "pace"),
    [
        ("30000000", None, 10.0),
        ("30000000", "this", 10.0),
        ("30000000", "another", None),
        ("0", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
)
def test_whether_a_watchdog_waits(monkeypatch, limit, process, pace):
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if limit:
        monkeypatch.setenv("WATCHDOG_USEC", limit)
    if process:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if process == "this" else "1")
    assert server.watchdog_pace() == pace
