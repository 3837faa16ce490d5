"""Where a run was made: the machine, and the versions of all that took part."""

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from services import _program
from target import PROJECT

from load import proxy
from load.contenders.node import DIRECTORY

PACKAGES = ("daphne", "twisted", "autobahn", "channels", "channels-redis", "django", "redis", "psycopg", "uvloop")
NODE_PACKAGES = ("socket.io", "@socket.io/redis-adapter", "ws", "pg", "redis")


def machine() -> dict[str, str | int]:
    """The processor, its cores, the memory and the kernel."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    return {
        "processor": found[1] if found else platform.machine(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(int(memory[1]) / 2**20),
        "kernel": platform.release(),
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def versions() -> dict[str, str]:
    """The version of each program and package."""
    found = {"Python": platform.python_version()}
    found |= {name: version(name) for name in PACKAGES}
    found["PostgreSQL"] = _said([_program("postgres"), "--version"])
    found["Redis"] = _said([_program("redis-server"), "--version"])
    if shutil.which("node"):
        found["Node"] = _said(["node", "--version"])
        for name in NODE_PACKAGES:
            text = DIRECTORY / "node_modules" / name / "package.json"
            if text.exists():
                found[f"{name} (Node)"] = re.search(r'"version": "([^"]+)"', text.read_text())[1]
    if proxy.program():
        found["nginx"] = _said([proxy.program(), "-v"])
    found["Salon"] = _said(["git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=12"], r"\S+")
    return found


def _said(command: list[str], pattern: str = r"\d+(\.\d+)+") -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(pattern, done.stdout + done.stderr)
    return found[0] if found and not done.returncode else "unknown"
