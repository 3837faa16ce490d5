"""What the roles say they write on a host: the one list that tests compare with templates/ and with the host."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "templates"


@dataclass(frozen=True)
class Managed:
    role: str
    path: str
    owner: str
    group: str
    mode: int
    where: str = ""
    """A file that is there on the hosts which have this one; empty: all have it."""


WATCHING = ("exporters", "monitoring")
"""Roles that only a host has which somebody watches."""


def _declared(kind: str, *, unwatched: bool) -> Iterator[Managed]:
    for file in sorted(ROOT.glob("roles/*/vars/main.yml")):
        role = file.parents[1].name
        if unwatched and role in WATCHING:
            continue
        defaults = yaml.safe_load((file.parents[1] / "defaults/main.yml").read_text())
        for name, entries in yaml.safe_load(file.read_text()).items():
            if not (name.startswith(f"{role}_") and name.endswith(f"_{kind}")):
                continue
            for entry in entries:
                # A group that an operator may choose stands there by its variable.
                group = defaults.get(entry["group"].strip("{ }"), entry["group"])
                yield Managed(
                    role, f"/{entry['path']}", entry["owner"], group, int(entry["mode"], 8), entry.get("where", "")
                )


def files(*, unwatched: bool = False) -> list[Managed]:
    """What each role writes, or only what is on a host that nobody watches."""
    return list(_declared("files", unwatched=unwatched))


def directories(*, unwatched: bool = False) -> list[Managed]:
    return list(_declared("directories", unwatched=unwatched))


def templates() -> list[str]:
    """The paths on a host that templates/ mirrors."""
    return [
        f"/{path.relative_to(TEMPLATES).as_posix().removesuffix('.j2')}"
        for path in sorted(TEMPLATES.rglob("*"))
        if path.is_file()
    ]
