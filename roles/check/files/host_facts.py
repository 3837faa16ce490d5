"""What a host says about itself, as JSON: read, never changed. It needs nothing but Python and what Salon has there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess  # nosec B404 # what a host has to say comes from its programs
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

LONGEST = 60
"""Seconds that one question may take."""

PLACES = ("/", "/var", "/var/lib/postgresql", "/var/lib/salon", "/var/log", "/opt/salon")
PACKAGES = ("nginx", "redis-server", "python3", "openssl", "systemd")
Facts = dict[str, Any]
Config = dict[str, str]

SYSTEMD = Path("/etc/systemd/system")
PROBE = Path("/opt/salon/current/app/salon/probe.py")


def said(*command: str, **options: Any) -> str:
    """What a program says, or nothing where there is none or it takes too long."""
    try:
        done = subprocess.run(  # nosec B603 # noqa: S603 (no shell, our own words)
            command, capture_output=True, text=True, timeout=LONGEST, check=False, **options
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def loaded(text: str, otherwise: Any) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return otherwise


def clock(_config: Config) -> Facts:
    """Its own moment comes with each answer: see `main`."""
    return {
        "synchronized": said("timedatectl", "show", "--property=NTPSynchronized", "--value").strip() == "yes",
        "is_container": bool(said("systemd-detect-virt", "--container").strip() not in ("", "none")),
    }


def disks(config: Config) -> list[Facts]:
    found = {}
    for place in (*PLACES, config["backups"]):
        if not Path(place).exists():
            continue
        device, seen = Path(place).stat().st_dev, os.statvfs(place)
        usage = shutil.disk_usage(place)
        found.setdefault(
            device,
            {
                "place": place,
                "total": usage.total,
                "free": usage.free,
                "inodes": seen.f_files,
                "free_inodes": seen.f_favail,
            },
        )
    return list(found.values())


def memory(_config: Config) -> Facts:
    lines = Path("/proc/meminfo").read_text().splitlines()
    values = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    return {name: values[name] for name in ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree")}


def units(_config: Config) -> Facts:
    """Those that have failed, and those of ours with the state that each is in."""
    failed = [
        line.split()[0] for line in said("systemctl", "list-units", "--failed", "--plain", "--no-legend").splitlines()
    ]
    enabled = [path.name for path in SYSTEMD.glob("*.target.wants/daphne@*")]
    clusters = [f"postgresql@{path.parent.name}-main.service" for path in Path("/etc/postgresql").glob("*/main")]
    ours = sorted(
        {*enabled, *clusters, "nginx.service", "redis-server.service", "nftables.service", "salon-backup.timer"}
        | {"salon-certificate.timer"}
    )
    states = said("systemctl", "is-active", *ours).split()
    return {"failed": failed, "ours": dict(zip(ours, states, strict=False))}


def updates(_config: Config) -> Facts:
    """What Debian's security updates would install, and whether one waits for a reboot."""
    lines = said("apt-get", "--simulate", "-o", "Debug::NoLocking=true", "dist-upgrade").splitlines()
    waiting = [line.split()[1] for line in lines if line.startswith("Inst ") and "-security" in line.lower()]
    stamps = [
        *Path("/var/lib/apt/lists").glob("*InRelease"),
        *Path("/var/lib/apt/periodic").glob("update-success-stamp"),
    ]
    looked = max((path.stat().st_mtime for path in stamps), default=0)
    return {
        "security": sorted(set(waiting)),
        "looked_at": looked,
        "reboot": Path("/run/reboot-required").exists(),
    }


def backup(_config: Config) -> Facts:
    state = Path("/var/lib/salon-backup/state.json")
    settings = Path("/etc/salon/backup.json")
    known = loaded(settings.read_text(), {}) if settings.exists() else None
    return {
        "state": loaded(state.read_text(), {}) if state.exists() else {},
        "running": said("systemctl", "is-active", "salon-backup.service").strip() == "activating",
        "warn_hours": known["warn_hours"] if known else None,
        "elsewhere": bool(known and known["restic"]["repository"]),
    }


def certificate(_config: Config) -> Facts | None:
    return loaded(said("salon-certificate", "check", "--json"), None)


def conversation(_config: Config) -> Facts:
    """Two people talk on each process; who they are is for the front door too."""
    people = said("salon", "probe_people")
    sockets = sorted(Path("/run/salon").glob("daphne-*.sock"), key=lambda path: int(re.findall(r"\d+", path.name)[0]))
    options = [word for path in sockets for word in ("--socket", str(path))]
    # As nginx comes there, and as nobody: what is read from a socket is not for root.
    who = ("setpriv", "--reuid=nobody", "--regid=www-data", "--clear-groups")
    told = said(*who, "python3", "-I", "-S", str(PROBE), "--timeout", "5", *options, input=people) if people else ""
    return {
        "people": loaded(people, None),
        "processes": [loaded(line, {}) for line in told.splitlines()],
        "sockets": len(sockets),
    }


def versions(_config: Config) -> Facts:
    shown = said(
        "dpkg-query", "--show", "--showformat=${Package} ${source:Upstream-Version}\n", *PACKAGES, "postgresql-1*"
    )
    current = os.path.realpath("/opt/salon/current")
    running = {}
    for unit in (path.name for path in SYSTEMD.glob("*.target.wants/daphne@*.service")):
        process = said("systemctl", "show", "--property=MainPID", "--value", unit).strip()
        if process not in ("", "0"):
            running[unit] = os.path.realpath(f"/proc/{process}/cwd").removesuffix("/app")
    return {
        "debian": Path("/etc/debian_version").read_text().strip(),
        "kernel": os.uname().release,
        "packages": dict(line.split() for line in shown.splitlines() if len(line.split()) == 2),
        "release": Path(current).name,
        "others": sorted(unit for unit, release in running.items() if release != current),
    }


def addresses(_config: Config) -> list[str]:
    found = loaded(said("ip", "-json", "address", "show", "scope", "global"), [])
    return [address["local"] for link in found for address in link.get("addr_info", []) if "local" in address]


QUESTIONS = (clock, disks, memory, units, updates, backup, certificate, conversation, versions, addresses)


def main() -> None:
    config = json.loads(sys.argv[1])
    # The longest, the conversation and apt, wait rather than work.
    with ThreadPoolExecutor(len(QUESTIONS)) as pool:
        asked = {question.__name__: pool.submit(question, config) for question in QUESTIONS}
        answers = {}
        for name, answer in asked.items():
            try:
                answers[name] = answer.result()
            except Exception as error:  # noqa: BLE001 (what one question meets with must not hide the others)
                answers[name] = {"error": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(answers | {"now": time.time()}))


if __name__ == "__main__":
    main()
