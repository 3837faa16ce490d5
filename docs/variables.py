"""Writes docs/variables.md, every variable of every role, from what the roles themselves say: `make docs`.

A role's variables are described in its `meta/argument_specs.yml`, which Ansible holds each run against, and have their
values in its `defaults/main.yml`.
"""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/variables.md"
FIRST = "preflight"
"""The role that holds an inventory against what every one has to say."""

LONGEST = 60
"""Characters of a default value that a table has room for."""

HEAD = """# Every variable

Written by `make docs`; do not change it by hand.

What an inventory says stands in `inventories/<name>/group_vars/all.yml`; so may everything else below, to have it
otherwise on all hosts of that inventory, or in `host_vars/<host>.yml` for one of them. A name that is none of these is
refused before anything is touched, with the one that was probably meant. The comments in a role's `defaults/main.yml`
say more of each; *computed* follows from other variables or from the host.
"""


def described(role: Path) -> dict[str, Any]:
    """The entry points of a role with what they take."""
    return yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]


def defaults(role: Path) -> dict[str, Any]:
    """The values of a role's variables where nobody says otherwise."""
    path = role / "defaults/main.yml"
    return yaml.safe_load(path.read_text()) or {} if path.exists() else {}


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def value(name: str, option: dict[str, Any], known: dict[str, Any]) -> str:
    if name not in known:
        return "*required*" if option.get("required") else ""
    given = known[name]
    if "{{" in str(given) or "{%" in str(given):
        return "*computed*"
    if given == "":
        return "empty"
    written = yaml.safe_dump(given, default_flow_style=True, width=10_000, explicit_end=False).removesuffix("...\n")
    written = " ".join(written.split())
    return f"`{cell(written)}`" if len(written) <= LONGEST else "*several*"


def kind(option: dict[str, Any]) -> str:
    if choices := option.get("choices"):
        return " or ".join(f"`{choice}`" for choice in choices)
    of = option.get("elements")
    return f"{option['type']} of {of}" if of else option["type"]


def section(role: Path) -> str:
    entries, known = described(role), defaults(role)
    options = {name: option for entry in entries.values() for name, option in entry.get("options", {}).items()}
    first = next(iter(entries.values()))
    lines = [
        f"## {role.name}",
        "",
        f"{cell(first['short_description'])}: [roles/{role.name}](../roles/{role.name}).",
        "",
        "| variable | what | type | default |",
        "| --- | --- | --- | --- |",
        *(
            f"| `{name}` | {cell(option['description'])} | {kind(option)} | {value(name, option, known)} |"
            for name, option in options.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def page() -> str:
    """The whole page, as it should be."""
    roles = sorted(
        (path.parents[1] for path in ROOT.glob("roles/*/meta/argument_specs.yml")),
        key=lambda role: (role.name != FIRST, role.name),
    )
    return "\n".join([HEAD, *map(section, roles)])


if __name__ == "__main__":
    PAGE.write_text(page())
