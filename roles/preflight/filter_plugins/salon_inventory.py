"""Finds the mistakes of an inventory before anything touches a host.

Each mistake is one sentence: where it is, which variable it is about, and what to do.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.utils.vars import load_extra_vars
from jinja2 import Undefined

PLACEHOLDER = "CHANGE-ME"

# Every variable of ours begins with its role's name, or with this when several roles share it.
SHARED_PREFIX = "salon"

# Groups of the inventory that the playbook knows.
GROUPS = ("proxy", "app", "redis", "database")

# Who watches them, if somebody does; it may be the same host.
WATCHING_GROUP = "monitoring"
WATCHED = {"proxy": "nginx", "redis": "redis", "database": "postgres", "app": "salon"}

# Variables of Ansible's own that an operator fills in.
ANSIBLE_HINTS = {
    "ansible_host": "the host's name or address",
    "ansible_user": "the user that you log in as, root or one with sudo",
}

HOST_NAME = r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
ADDRESS = r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]+"
CONTROLLER_FILE = r"(/[^\n]+)?", "is a whole path on the controller, like {{ inventory_dir }}/tls/chain.pem"

NETWORK = rf"\d{{1,3}}(\.\d{{1,3}}){{3}}(/[1-9]\d?)?|{ADDRESS}(/[1-9]\d{{0,2}})?"
NETWORKS_SENTENCE = "holds addresses and networks like 192.0.2.7 or 192.0.2.0/24, no names, and not the whole world"
TIME = r"([01]\d|2[0-3]):[0-5]\d"
TIME_SENTENCE = 'is a time of the day in quotes, like "03:30"'

MAIL_ADDRESS = r"[^@\s,<>\"']+@[^@\s,<>\"']+"
WEB_ADDRESS = r"https?://[^\s'\"]+"

# A browser writes the names of an origin in small letters, and compares it letter by letter.
ORIGIN_NAME = HOST_NAME.replace("(?=.{1,253}$)", "").replace("A-Z", "")

# What a value, or each value of a list, has to look like beyond its type.
FORMATS = {
    "salon_domain": (HOST_NAME, "is a bare name like chat.example.org, without https:// or a path"),
    "salon_alt_names": (f"{HOST_NAME}|{ADDRESS}", "holds bare names and addresses, without https:// or a path"),
    "salon_frontend_origins": (
        rf"https?://({ORIGIN_NAME}|\[{ADDRESS}\])(:\d+)?",
        "holds origins like https://school.example.org: scheme, name, perhaps a port; no capitals, path or final slash",
    ),
    "certificate_acme_directory": (r"https://[^\s'\"]+", "is the address of an ACME directory, https://…"),
    "certificate_acme_email": (r"([^@\s,]+@[^@\s,]+)?", "is one address like you@example.org"),
    "certificate_acme_eab_kid": (r"[^\s#'\"]*", "is a name without spaces or any of # ' \""),
    "certificate_acme_eab_hmac_key": (r"[\w=+/-]*", "is a key in base64url, as the authority gives it"),
    "certificate_acme_directory_authority": CONTROLLER_FILE,
    "certificate_provided_chain": CONTROLLER_FILE,
    "certificate_provided_key": CONTROLLER_FILE,
    "certificate_provided_authority": CONTROLLER_FILE,
    "nginx_trusted_proxies": (NETWORK, NETWORKS_SENTENCE),
    "nginx_exempt_networks": (NETWORK, NETWORKS_SENTENCE),
    "backup_directory": (r"/[\w.@/-]+", "is a path on the host like /var/backups/salon"),
    "backup_key": (r"[\w.~+/=-]{50,}", "has at least 50 letters, digits or any of . ~ + / = _ -"),
    "backup_restic_repository": (
        r"[^\s'\"]*",
        "is what restic calls a repository, like rest:https://backup.example.org/",
    ),
    "backup_time": (r"[^\n%]+", 'is a moment as systemd writes it, like "*-*-* 01:30"'),
    "common_upgrade_time": (TIME, TIME_SENTENCE),
    "common_reboot_time": (TIME, TIME_SENTENCE),
    "firewall_ssh_networks": (NETWORK, NETWORKS_SENTENCE),
    "firewall_peers": (NETWORK, NETWORKS_SENTENCE),
    "postgresql_networks": (NETWORK, NETWORKS_SENTENCE),
    "postgresql_writable_paths": (r"/[\w.@/-]+", "holds directories on the host like /srv/wal"),
    "postgresql_owner_password": (r"[\w.~-]*", "has letters, digits or any of . ~ _ -, as an address takes them"),
    "redis_password": (r"[\w.~-]*", "has letters, digits or any of . ~ _ -, as an address takes them"),
    "postgresql_password": (r"[\w.~-]*", "has letters, digits or any of . ~ _ -, as an address takes them"),
    "daphne_admin_networks": (NETWORK, NETWORKS_SENTENCE),
    "daphne_secret_key": (r"[\w.~+/=-]{50,}", "has at least 50 letters, digits or any of . ~ + / = _ -"),
    "daphne_token_key": (r"[\w.~+/=-]{50,}", "has at least 50 letters, digits or any of . ~ + / = _ -"),
    "daphne_secret_old_keys": (r"[\w.~+/=-]{32,}", "holds keys of at least 32 letters, digits or any of . ~ + / = _ -"),
    "daphne_token_old_keys": (r"[\w.~+/=-]{32,}", "holds keys of at least 32 letters, digits or any of . ~ + / = _ -"),
    "daphne_token_key_files": (r"/[\w.@/-]+", "holds paths on the host like /etc/salon/school.pem"),
    "monitoring_mail_to": (MAIL_ADDRESS, "holds addresses like you@example.org, one each"),
    "monitoring_mail_from": (MAIL_ADDRESS, "is one address like salon@example.org"),
    "monitoring_smtp_server": (
        rf"(({HOST_NAME}|\[{ADDRESS}\]):\d+)?",
        "is a mail server with its port, like mail.example.org:587",
    ),
    "monitoring_webhooks": (WEB_ADDRESS, "holds addresses like https://hooks.example.org/abc"),
    "monitoring_heartbeat": (rf"({WEB_ADDRESS})?", "is an address like https://beats.example.org/abc"),
    **dict.fromkeys(
        ("monitoring_repeat", "monitoring_interval", "monitoring_retention"),
        (r"([1-9]\d*(ms|s|m|h|d|w|y))+", "is a span of time like 30s, 4h or 30d"),
    ),
    "monitoring_retention_size": (r"[1-9]\d*(MB|GB|TB)", "is a size like 2GB"),
    "daphne_prometheus_url": (
        r"(http://[^/\s']+|unix:/[^\s']+)?",
        "is like http://127.0.0.1:9090 or unix:/run/prometheus.sock",
    ),
    "daphne_token_issuer": (r"[^\s'\\$`]*", "is what a token's `iss` says, without spaces or any of ' \\ $ `"),
    "daphne_token_audience": (r"[^\s'\\$`]*", "is what a token's `aud` says, without spaces or any of ' \\ $ `"),
}

KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "list": "a list", "str": "a text"}

INVENTORY_VERSION = 1
"""What an inventory is written for. It rises when an operator has to decide or to write something: with a line below,
and a section of docs/upgrading.md."""

STEPS: dict[int, str] = {}
"""By each version, what is to be done to come to it from the one before: a sentence."""

FIRST_VERSION = 1
"""Of an inventory that says nothing."""

FORMER = {
    "certificate_renew_days": "is now certificate_renew_percent, a share of the certificate's life; leave it out, or"
    " write that",
    "postgresql_database": "is gone: the database is always called salon; leave it out",
    "postgresql_owner": "is gone: the owner of the database is always salon_owner; leave it out",
    "redis_socket": "is gone: the socket is always /run/redis/redis-server.sock; leave it out",
}
"""What variables of an earlier Salon have become."""

# Beside an inventory, but not part of it.
NOT_INVENTORY = {"group_vars", "host_vars", "secrets", "secrets.yml", "fetched"}
INVENTORY_SUFFIXES = {"", ".yml", ".yaml", ".json"}
VARIABLE_SUFFIXES = {"", ".yml", ".yaml", ".json"}

# How alike a name without our prefix has to be to count as a misspelt one of ours.
NEAR_MISS = 0.85

# What holds the secrets, for a variable of the inventory that is made with one of them.
SECRETS = "secrets_kept"

VERSION = "salon_inventory_version"

COMMAND_LINE = "the command line"


@dataclass(frozen=True, order=True)
class Place:
    """Where something is written."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Setting:
    """One variable as it is written in a file."""

    name: str
    place: Place
    placeholders: tuple[tuple[Place, str], ...]


@dataclass(frozen=True)
class Mistake:
    """What is wrong, and where."""

    place: Place
    sentence: str

    def __str__(self) -> str:
        return f"{self.place}: {self.sentence}"


Specification = Mapping[str, Mapping[str, Any]]


def display_path(path: Path, bases: Iterable[Path]) -> str:
    """The path as the operator would write it."""
    for base in bases:
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return str(path)


def scalars(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    """Every single value in a piece of YAML."""
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from scalars(child)
    elif isinstance(node, yaml.MappingNode):
        for _, child in node.value:
            yield from scalars(child)


def entries(node: yaml.Node | None) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Keys and values of a mapping; nothing for anything else."""
    if isinstance(node, yaml.MappingNode):
        yield from node.value


def compose(path: Path) -> yaml.Node | None:
    """The file as YAML with its line numbers, or nothing where that cannot be had (a vault, another format)."""
    text = path.read_text(errors="replace")
    if text.startswith("$ANSIBLE_VAULT"):
        return None
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        # Ansible itself tells of it, or reads it in another format.
        return None


def settings_of(node: yaml.Node | None, file: str) -> Iterator[Setting]:
    """The variables that a mapping sets."""
    for key, value in entries(node):
        found = tuple(
            (Place(file, scalar.start_mark.line + 1), scalar.value)
            for scalar in scalars(value)
            if PLACEHOLDER in scalar.value
        )
        yield Setting(key.value, Place(file, key.start_mark.line + 1), found)


def group_settings(node: yaml.Node | None, file: str) -> Iterator[Setting | Mistake]:
    """The variables that a group of an inventory file sets, and host names left to fill in."""
    for section, content in entries(node):
        if section.value == "vars":
            yield from settings_of(content, file)
        elif section.value == "children":
            for _, child in entries(content):
                yield from group_settings(child, file)
        elif section.value == "hosts":
            for name, variables in entries(content):
                if PLACEHOLDER in name.value:
                    place = Place(file, name.start_mark.line + 1)
                    yield Mistake(place, f"a host is still called {name.value}; write its name.")
                yield from settings_of(variables, file)


def inventory_files(source: Path) -> Iterator[Path]:
    """The files that list hosts."""
    if source.is_file():
        yield source
        return
    for path in sorted(source.iterdir()):
        if path.name.startswith(".") or path.name in NOT_INVENTORY:
            continue
        if path.is_dir():
            yield from inventory_files(path)
        elif path.suffix in INVENTORY_SUFFIXES:
            yield path


def variable_files(source: Path) -> Iterator[Path]:
    """The files that set variables, beside an inventory."""
    directory = source if source.is_dir() else source.parent
    for kind in ("group_vars", "host_vars"):
        for path in sorted((directory / kind).rglob("*")):
            if path.is_file() and path.suffix in VARIABLE_SUFFIXES and not path.name.startswith("."):
                yield path


def read_inventory(sources: Iterable[Path], bases: Iterable[Path]) -> list[Setting | Mistake]:
    """Every variable that the inventory's files set, with its place."""
    found: list[Setting | Mistake] = []
    for source in sources:
        for path in inventory_files(source):
            for _, group in entries(compose(path)):
                found.extend(group_settings(group, display_path(path, bases)))
        for path in variable_files(source):
            found.extend(settings_of(compose(path), display_path(path, bases)))
    return found


def read_specifications(roles: Path) -> dict[str, dict[str, Any]]:
    """Every variable that a role knows, as its argument_specs describe it."""
    known: dict[str, dict[str, Any]] = {}
    for path in sorted(roles.glob("*/meta/argument_specs.yml")):
        for entry_point in yaml.safe_load(path.read_text())["argument_specs"].values():
            known.update(entry_point.get("options", {}))
    return known


def prefixes(roles: Path) -> tuple[str, ...]:
    """What our variables begin with."""
    return (f"{SHARED_PREFIX}_", *(f"{path.name}_" for path in sorted(roles.iterdir()) if path.is_dir()))


def likeness(one: str, other: str) -> float:
    """How alike two strings are, from 0 to 1."""
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()


def nearest(name: str, known: Iterable[str]) -> str:
    """The known variable that was probably meant: the one that has each word of it, or one much like it."""

    def closeness(candidate: str) -> tuple[float, float]:
        words = [max(likeness(word, other) for other in candidate.split("_")) for word in name.split("_")]
        return sum(words) / len(words), likeness(name, candidate)

    return max(known, key=closeness)


def unknown_name(name: str, known: Iterable[str], ours: tuple[str, ...]) -> str | None:
    """A sentence if no role knows a variable that looks like one of ours."""
    known = list(known)
    if name in known or name.startswith("ansible_"):
        return None
    if name in FORMER:
        return f"{name} {FORMER[name]}."
    meant = nearest(name, known)
    if name.startswith(ours) or likeness(name, meant) >= NEAR_MISS:
        return f"{name} is not a variable of Salon; did you mean {meant}?"
    return None


def hint(specification: Mapping[str, Any]) -> str:
    """A description as the rest of a sentence."""
    description = str(specification.get("description", "")).rstrip(".")
    return description[:1].lower() + description[1:]


def placeholder(name: str, value: str, known: Specification) -> str:
    wanted = ANSIBLE_HINTS.get(name) or (hint(known[name]) if name in known else "a value of your own")
    return f"{name} is still a placeholder ({value}); write {wanted}."


def wrong_value(name: str, value: object, specification: Mapping[str, Any]) -> str | None:
    """A sentence if the value is not of the kind that the role wants."""
    shown = "what it is" if specification.get("no_log") else repr(value)
    if choices := specification.get("choices"):
        if value not in choices:
            return f"{name} is one of: {', '.join(map(str, choices))}; it cannot be {shown}."
        return None
    bare = {key: specification[key] for key in ("type", "elements") if key in specification}
    # A single value for a list would be taken apart at its commas.
    listed = specification.get("type") != "list" or isinstance(value, list)
    if not listed or ArgumentSpecValidator({name: bare}).validate({name: value}).error_messages:
        return f"{name} is {KINDS.get(bare['type'], bare['type'])} ({hint(specification)}); it cannot be {shown}."
    if name in FORMATS:
        pattern, sentence = FORMATS[name]
        for item in value if isinstance(value, list) else [value]:
            if PLACEHOLDER not in str(item) and not re.fullmatch(pattern, str(item)):
                return f"{name} {sentence}; it cannot be {'what it is' if specification.get('no_log') else repr(item)}."
    return None


def version_mistakes(version: object, place: Place) -> Iterator[Mistake]:
    """What is to be done where the inventory was written for another Salon."""
    if not isinstance(version, int):
        return
    if version > INVENTORY_VERSION:
        sentence = (
            f"salon_inventory_version is {version}, and this Salon knows {INVENTORY_VERSION}: the inventory was written"
            " for a newer one; bring that here (git pull)."
        )
        yield Mistake(place, sentence)
    for step in range(version + 1, INVENTORY_VERSION + 1):
        yield Mistake(place, f"{STEPS[step]} Then write salon_inventory_version: {step} (docs/upgrading.md).")


def wrong_groups(groups: Mapping[str, Iterable[str]], place: Place) -> Iterator[Mistake]:
    """For now all of Salon lives on one host."""
    empty = [name for name in GROUPS if not groups.get(name)]
    for name in empty:
        yield Mistake(place, f"the group {name} has no host; it takes the one host that Salon runs on.")
    hosts = sorted({host for name in GROUPS for host in groups.get(name) or ()})
    if len(hosts) > 1:
        yield Mistake(
            place, f"the groups {', '.join(GROUPS)} name several hosts ({', '.join(hosts)}); all take the same one."
        )
    watching = sorted(groups.get(WATCHING_GROUP) or ())
    if len(watching) > 1:
        yield Mistake(
            place, f"the group {WATCHING_GROUP} names several hosts ({', '.join(watching)}); it takes one, or none."
        )


def salon_watched(groups: Mapping[str, Iterable[str]], host: str) -> dict[str, Any]:
    """What of this host is watched, by the names of its exporters, and whether from another one."""
    watching = set(groups.get(WATCHING_GROUP) or ())
    there = [kind for name, kind in WATCHED.items() if host in (groups.get(name) or ())]
    kinds = ["node", *there] if watching and (there or host in watching) else []
    return {"kinds": kinds, "from_elsewhere": bool(watching - {host})}


def find_mistakes(
    sources: Iterable[Path],
    hosts: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Iterable[str]],
    roles: Path,
    extra: Mapping[str, Any],
    bases: Iterable[Path] = (),
) -> list[str]:
    """Every mistake of the inventory, each in one sentence, in the order of files and lines."""
    sources, bases = list(sources), list(bases)
    known, ours = read_specifications(roles), prefixes(roles)
    read = read_inventory(sources, bases)
    settings = [item for item in read if isinstance(item, Setting)]
    mistakes = [item for item in read if isinstance(item, Mistake)]

    inventory = Place(display_path(sources[0], bases)) if sources else Place("the inventory")
    where_hosts = next(
        (Place(display_path(path, bases)) for source in sources for path in inventory_files(source)), inventory
    )
    where_variables = next(
        (Place(display_path(path, bases)) for source in sources for path in variable_files(source)), inventory
    )
    mistakes += wrong_groups(groups, where_hosts)

    places: dict[str, list[Place]] = {}
    for setting in settings:
        places.setdefault(setting.name, []).append(setting.place)
        for place, value in setting.placeholders:
            mistakes.append(Mistake(place, placeholder(setting.name, value, known)))
    for name in extra:
        places[name] = [Place(COMMAND_LINE)]
    # What no file shows: a vault, an inventory in another format, a plugin.
    for variables in hosts.values():
        for name in set(variables) - {SECRETS}:
            places.setdefault(name, [inventory])

    for name in sorted(places):
        if sentence := unknown_name(name, known, ours):
            mistakes += [Mistake(place, sentence) for place in places[name]]

    versions = {variables.get(VERSION, FIRST_VERSION) for variables in hosts.values()}
    place = places.get(VERSION, [where_variables])[-1]
    mistakes += [mistake for version in versions for mistake in version_mistakes(version, place)]

    concerned = {host for name in (*GROUPS, WATCHING_GROUP) for host in groups.get(name) or ()}
    for host in sorted(concerned & set(hosts)):
        for name, specification in known.items():
            if name not in hosts[host]:
                if specification.get("required"):
                    mistakes.append(Mistake(where_variables, f"{name} is missing; write {hint(specification)}."))
                continue
            place = places[name][-1]
            try:
                value = hosts[host][name]
            except Exception as error:  # noqa: BLE001 (whatever a template of the operator's raises)
                mistakes.append(Mistake(place, f"{name} cannot be worked out: {error}"))
                continue
            if isinstance(value, Undefined) and value._undefined_name == SECRETS:
                # They are opened once the inventory is known to be good.
                continue
            if isinstance(value, Undefined):
                mistakes.append(Mistake(place, f"{name} refers to a variable that is not set."))
            elif sentence := wrong_value(name, value, specification):
                mistakes.append(Mistake(place, sentence))
    ordered = sorted(set(mistakes), key=lambda mistake: (mistake.place, mistake.sentence))
    return [str(mistake) for mistake in ordered]


def salon_inventory_mistakes(
    sources: Iterable[str], hostvars: Mapping[str, Any], groups: Mapping[str, Iterable[str]], roles: str
) -> list[str]:
    """The filter: `find_mistakes` with what only Ansible knows."""
    root = Path(roles).resolve().parent
    return find_mistakes(
        [path for source in sources if (path := Path(str(source)).resolve()).exists()],
        {host: hostvars[host] for host in groups.get("all", [])},
        groups,
        Path(roles).resolve(),
        load_extra_vars(DataLoader()),
        (Path.cwd(), root),
    )


def salon_wrong_values(values: Mapping[str, Any], roles: str) -> list[str]:
    """What is wrong with values that are to be written into an inventory, each in one sentence."""
    known = read_specifications(Path(roles))
    found = [wrong_value(name, value, known[name]) for name, value in values.items()]
    return [sentence for sentence in found if sentence]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        return {
            "salon_inventory_mistakes": salon_inventory_mistakes,
            "salon_watched": salon_watched,
            "salon_inventory_version": lambda _: INVENTORY_VERSION,
            "salon_wrong_values": salon_wrong_values,
        }
