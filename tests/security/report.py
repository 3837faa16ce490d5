"""docs/security-host.md: what nmap and lynis have found, and why what is left is left."""

from pathlib import Path

REASONS: dict[str, str] = {}
"""Why a test of lynis' is not satisfied, by its name."""

HEAD = """# The host, as others see it

`make security-host` writes this page: a finished host, whose Redis and PostgreSQL have ports in this run, is looked at
from two other hosts and by an auditor on it. nmap {nmap}, lynis {lynis}, Debian {debian}.

## From outside

| who | open TCP ports, of all |
| --- | --- |
| a stranger | {stranger} |
| a host of the inventory | {peer} |

## lynis

Hardening index **{index}** of 100, from {tests} tests. What it would like besides:

| test | what it says | why it is so |
| --- | --- | --- |
"""


def ports(found: dict[int, str]) -> str:
    return ", ".join(f"{port} ({name})" for port, name in sorted(found.items()))


def write(path: Path, found: dict) -> None:
    """Write the page."""
    found = found | {name: ports(found[name]) for name in ("stranger", "peer")} | {"tests": "".join(found["tests"])}
    lines = sorted({(test, text) for _, test, text in found["left"]})
    rows = "".join(f"| {test} | {text} | {REASONS.get(test, '')} |\n" for test, text in lines)
    path.write_text(HEAD.format(**found) + rows)
