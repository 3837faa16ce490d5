"""A host that watches itself, and somebody on it who is told: see molecule/monitoring."""

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from instance import Instance
from waiting import wait_until

RECEIVER = Path(__file__).with_name("receiver.py")
BOOK = "/run/told.jsonl"


@dataclass(frozen=True)
class Watched:
    name: str

    def shell(self, commands: str, *, given: str | None = None) -> str:
        """What shell commands there say, as root; they must succeed."""
        done = subprocess.run(
            ["docker", "exec", "--interactive", self.name, "bash", "-ec", commands],
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def prometheus(self, path: str) -> dict:
        """An answer of its HTTP API."""
        return json.loads(self.shell(f"curl -sf 'http://127.0.0.1:9090/api/v1/{path}'"))["data"]

    def firing(self) -> set[tuple[str, ...]]:
        """The alerts that Prometheus sees, each by its name, its process, job, service or unit."""
        return {known(each["metric"]) for each in self.query('ALERTS{alertstate="firing"}')}

    def query(self, expression: str) -> list[dict]:
        return self.prometheus(f"query?query={quote(expression)}")["result"]

    def told(self, since: float, status: str) -> dict[tuple[str, ...], float]:
        """What the receiver was told, by when it was first told so since then."""
        found: dict[tuple[str, ...], float] = {}
        for line in self.shell(f"cat {BOOK}").splitlines():
            letter = json.loads(line)
            for alert in letter["alerts"]:
                if letter["at"] >= since and alert["status"] == status:
                    found.setdefault(known(alert["labels"]), letter["at"])
        return found


def known(labels: dict[str, str]) -> tuple[str, ...]:
    """An alert's name, and what it is about beyond its host."""
    about = [labels[name] for name in ("process", "service", "name") if name in labels]
    if labels["alertname"] == "ExporterDown":
        about.append(labels["job"])
    return labels["alertname"], *about


@pytest.fixture(scope="session")
def watched():
    found = Watched("salon-monitoring")
    found.shell("command -v curl || apt-get install --yes --no-install-recommends curl")
    found.shell("cat >/run/receiver.py", given=RECEIVER.read_text())
    found.shell(
        f"touch {BOOK}; systemctl is-active -q receiver || systemd-run --unit receiver python3 /run/receiver.py {BOOK}"
    )
    return found


@pytest.fixture(scope="session")
def place(watched) -> Instance:
    return Instance(watched.name, Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent)


@pytest.fixture(scope="session")
def well(watched):
    """Once Prometheus has seen everything, and nothing is wrong."""

    def wrong() -> set[tuple[str, ...]]:
        # The clock of a container is that of the machine below, which is somebody else's.
        return watched.firing() - {("Heartbeat",), ("ClockWrong",)}

    wait_until(lambda: not wrong() and watched.firing(), "a host that is well", 180)
    return time.time()
