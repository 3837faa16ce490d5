"""Keeps the secrets of an inventory in one file, encrypted as `ansible-vault` does it, and replaces them.

A secret has the value that is in use, perhaps the one that comes `next`, which is accepted already, and those that were
in use before, which still are. Nothing of a value is ever part of a sentence, a mistake or a name.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import os
import re
import secrets
import string
import tempfile
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret, VaultSecretsContext, is_encrypted, match_encrypt_secret
from ansible.plugins.action import ActionBase

Secret = dict[str, Any]
Secrets = dict[str, Secret]

ALPHABET = string.ascii_letters + string.digits
LENGTH = 64
"""Letters and digits of a new secret: 381 bits, and nothing that a URL, a shell or an address takes for something."""

SIGNING = ("secret_key", "token_key")
"""What was signed with an old one of these comes back for as long as it counts."""

REPLACED = (*SIGNING, "redis", "postgresql", "postgresql_owner", "monitoring")
"""What a rotation replaces."""

NAMES = (*REPLACED, "backup")

ALONE = ("postgresql", "postgresql_owner")
"""A role of PostgreSQL has one password: nothing is accepted beside it."""

GOOD = re.compile(r"[\w.~+/=-]{32,}")
"""What a secret looks like that nobody has to quote."""

WHAT_IT_DOES = {
    "secret_key": "signs sessions",  # nosec B105 # what a secret does is none
    "token_key": "signs tokens",  # nosec B105 # nor is this
    "redis": "the application's password for Redis",
    "postgresql": "the application's password for PostgreSQL",
    "postgresql_owner": "the password for PostgreSQL of who migrates the database",
    "monitoring": "opens a host's exporters for Prometheus",
    "backup": "encrypts what is secret in a backup, and the store of restic",
}

EARLIER_FILES = {"secret_key": "secret_key.txt", "token_key": "token_key.txt"}  # nosec B105 # names of files
"""What an earlier Salon kept them in."""

LOST = "If it is lost, remove the file: the next run takes the secrets over from the host that runs with them."

HEADER = """\
# The secrets of this inventory. The playbooks make and read them; playbooks/rotate.yml replaces them.
# `value` is in use; `next` and `old` are accepted beside it.
"""


class MistakeError(Exception):
    """What is wrong, in a sentence that says what to do."""


def made(today: datetime.date) -> Secret:
    """A new secret."""
    return {"value": _random(), "since": today.isoformat(), "old": []}


def _random() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))


def parse(text: str, path: str) -> Secrets:
    """What the file holds, once it is decrypted. Raises `MistakeError`."""
    try:
        found = yaml.safe_load(text) or {}
        if all(_is_whole(name, secret) for name, secret in found.items()):
            return found
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError):
        # Their own words would show what stands there.
        pass
    raise MistakeError(f"{path} does not hold what the playbooks have written there; bring back an earlier version.")


def _is_whole(name: str, secret: Secret) -> bool:
    values = [secret["value"], *beside(secret)]
    for day in (secret["since"], *(old["ends"] for old in secret["old"])):
        datetime.date.fromisoformat(day)
    return name in NAMES and all(GOOD.fullmatch(value) for value in values)


def beside(secret: Secret) -> list[str]:
    """What is accepted beside the value in use."""
    return [*([secret["next"]] if "next" in secret else []), *(old["value"] for old in secret["old"])]


def written(kept: Secrets) -> str:
    """The text that `parse` reads."""
    return HEADER + yaml.safe_dump(kept, sort_keys=False)


def of_environment(text: str) -> dict[str, tuple[str, list[str]]]:
    """The secrets that a host's application runs with: of each the value, and those that are accepted beside it."""
    settings = dict(re.findall(r"^([A-Z_]+)='([^']*)'$", text, re.MULTILINE))
    found = {}
    for name, setting in (("secret_key", "SALON_SECRET_KEY"), ("token_key", "SALON_TOKEN_KEY")):
        if value := settings.get(setting):
            old = settings.get(setting.replace("_KEY", "_OLD_KEYS"), "")
            found[name] = value, [key for key in old.split(",") if key]
    for name, setting in (("redis", "REDIS_URL"), ("postgresql", "DATABASE_URL")):
        with contextlib.suppress(ValueError):
            if password := urlsplit(settings.get(setting, "")).password:
                found[name] = unquote(password), []
    return {name: (value, old) for name, (value, old) in found.items() if all(map(GOOD.fullmatch, (value, *old)))}


def fill(
    kept: Secrets, known: Iterable[Mapping[str, tuple[str, list[str]]]], today: datetime.date, ends: datetime.date
) -> tuple[set[str], set[str]]:
    """Add what is missing: as it is known from elsewhere, the first one counting, or else new.

    Returns the names of what was taken over and of what was made.
    """
    taken, new = set(), set()
    known = list(known)
    for name in NAMES:
        if name in kept:
            continue
        kept[name] = made(today)
        new.add(name)
        for source in known:
            if name in source:
                value, old = source[name]
                kept[name]["value"] = value
                kept[name]["old"] = [{"value": key, "ends": ends.isoformat()} for key in old]
                new.remove(name)
                taken.add(name)
                break
    return taken, new


def accept(kept: Secrets, names: Iterable[str]) -> None:
    """Have successors accepted. One that an interrupted run has begun with is gone on with."""
    for name in names:
        kept[name].setdefault("next", _random())


def use(kept: Secrets, names: Iterable[str], today: datetime.date, ends: datetime.date) -> None:
    """Put the successors in use; what they replace is accepted still."""
    for name in names:
        secret = kept[name]
        if "next" in secret:
            old = {"value": secret["value"], "ends": (ends if name in SIGNING else today).isoformat()}
            kept[name] = {
                "value": secret["next"],
                "since": today.isoformat(),
                "old": [] if name in ALONE else [old, *secret["old"]],
            }


def end(kept: Secrets, names: Iterable[str], today: datetime.date) -> None:
    """Forget what was in use before and is needed no more."""
    for name in names:
        kept[name]["old"] = [old for old in kept[name]["old"] if today < datetime.date.fromisoformat(old["ends"])]


def needed(kept: Secrets, names: Iterable[str], today: datetime.date) -> str:
    """A sentence when something of these is needed longer than today; else an empty one."""
    for name in names:
        for old in kept[name]["old"]:
            if today < datetime.date.fromisoformat(old["ends"]):
                return (
                    f"The old {name} may be needed until {old['ends']}: what it has signed ends with it. Wait, "
                    "or say -e rotate_now=true where it has become known to others."
                )
    return ""


def chosen(names: str) -> list[str]:
    """The secrets that an operator has named. Raises `MistakeError`."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if "all" in wanted:
        return list(REPLACED)
    for name in wanted:
        if name == "backup":
            raise MistakeError(
                "backup is not replaced: it opens all that was backed up. docs/backup.md says what to do."
            )
        if name not in REPLACED:
            raise MistakeError(f"{name} is not a secret of Salon; it has {', '.join(REPLACED)}, and all.")
    return [name for name in NAMES if name in wanted]


def state(kept: Secrets) -> Iterator[str]:
    """How things stand, a sentence for each secret."""
    for name in NAMES:
        secret = kept[name]
        said = f"{name} ({WHAT_IT_DOES[name]}): since {secret['since']}"
        if "next" in secret:
            said += f"; its successor is not in use everywhere yet, run -e rotate={name} again"
        if secret["old"]:
            last = max(old["ends"] for old in secret["old"])
            said += f"; an old one is accepted still, and not needed from {last} on: -e rotate_end={name}"
        yield f"{said}."


@dataclass
class Vault:
    """What opens and closes the file: the operator's vault passwords, and the one that is kept for Salon.

    A password that Ansible was given (`--ask-vault-pass`, `--vault-password-file`, `ANSIBLE_VAULT_PASSWORD_FILE`)
    counts first.
    """

    given: Sequence[tuple[str, VaultSecret]]
    password_file: Path

    def open(self, path: Path) -> tuple[str, VaultSecret | None]:
        """The text of the file, and the password that has opened it; None for a file that is not encrypted.

        Raises `MistakeError`.
        """
        content = path.read_bytes()
        if not is_encrypted(content):
            return content.decode(errors="replace"), None
        own = self._own()
        candidates = [*self.given, *([("default", own)] if own else [])]
        if not candidates:
            raise MistakeError(
                f"{shown(path)} is encrypted, and there is no vault password; write it from your password manager to "
                f"{shown(self.password_file)} (mode 0600), or give it with --ask-vault-pass. {LOST}"
            )
        try:
            text, _, secret = VaultLib(candidates).decrypt_and_get_vault_id(content)
        except AnsibleError:
            raise MistakeError(
                f"{shown(path)} is encrypted with another vault password than what is given or stands in "
                f"{shown(self.password_file)}; write the right one there from your password manager, or give it with "
                f"--ask-vault-pass. {LOST}"
            ) from None
        return text.decode(), secret

    def close(self, path: Path, text: str, secret: VaultSecret | None) -> bool:
        """Write the file, encrypted with `secret`, or else with the password that counts first.

        Returns whether a vault password had to be made.
        """
        new = False
        if secret is None and self.given:
            secret = match_encrypt_secret(self.given)[1]
        elif secret is None and (secret := self._own()) is None:
            self.password_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(self.password_file, f"{_random()}\n".encode())
            secret, new = self._own(), True
        write_private(path, VaultLib().encrypt(text, secret))
        if VaultLib([("default", secret)]).decrypt(path.read_bytes()).decode() != text:
            raise MistakeError(f"{path} cannot be read as it was written; look at the disk that it is on.")
        return new

    def _own(self) -> VaultSecret | None:
        """The password that is kept for Salon, if there is one. Raises `MistakeError`."""
        try:
            password = self.password_file.read_bytes().strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MistakeError(f"{shown(self.password_file)} cannot be read: {error.strerror}.") from None
        if self.password_file.stat().st_mode & 0o077:
            raise MistakeError(f"{shown(self.password_file)} may be read by others; make its mode 0600.")
        if not password:
            raise MistakeError(f"{shown(self.password_file)} is empty; write the vault password there, or remove it.")
        return VaultSecret(password)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads; it is there whole, or as it was before."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as new:
        try:
            new.write(content)
            new.flush()
            os.fsync(new.fileno())
            Path(new.name).replace(path)
        except BaseException:
            Path(new.name).unlink(missing_ok=True)
            raise


def shown(path: Path) -> str:
    """The path as an operator would write it."""
    for base, prefix in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
            return f"{prefix}{path.relative_to(base)}"
    return str(path)


@dataclass
class Keeper:
    """The file of an inventory, and what may be done with it."""

    path: Path
    vault: Vault
    today: datetime.date
    days: int
    """For how many days after its replacement something that an old key has signed may come back."""
    dry: bool
    """Nothing is written: an operator looks what would happen."""

    def __post_init__(self) -> None:
        self.kept: Secrets = {}
        self.before: Secrets = {}
        self.sentences: list[str] = []
        self._secret: VaultSecret | None = None
        self._ends = self.today + datetime.timedelta(days=self.days)

    def open(self, environments: Iterable[str]) -> bool:
        """Have every secret: from the file, or else from what there was before the file, or else new ones."""
        is_there, is_open = self.path.exists(), False
        if is_there:
            text, self._secret = self.vault.open(self.path)
            self.kept, is_open = parse(text, shown(self.path)), self._secret is None
        self.before = copy.deepcopy(self.kept)
        earlier = self._earlier()
        sources = [earlier, *map(of_environment, environments)]
        taken, new = fill(self.kept, sources, self.today, self._ends)
        if not (changed := self.kept != self.before or is_open):
            return False
        self._close()
        verb = "Would write" if self.dry else "Wrote"
        self.sentences.insert(0, f"{verb} {shown(self.path)}, encrypted: {_list(taken, new)}.")
        if earlier and not self.dry:
            directory = self.path.parent / "secrets"
            for name in EARLIER_FILES.values():
                (directory / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                directory.rmdir()
            self.sentences.append(f"What stood in {shown(directory)} in the clear is removed.")
        return changed

    def apply(self, step: str, names: str, *, now: bool = False) -> bool:
        """One step of a rotation; returns whether it changed something. Raises `MistakeError`."""
        wanted = chosen(names)
        before = copy.deepcopy(self.kept)
        if step == "accept" or (self.dry and step == "use"):
            accept(self.kept, wanted)
        if step == "use":
            use(self.kept, wanted, self.today, self._ends)
        elif step == "end":
            day = datetime.date.max if now else self.today
            if not names.strip().startswith("all") and (sentence := needed(self.kept, wanted, day)):
                raise MistakeError(sentence)
            end(self.kept, wanted, day)
        if self.kept == before:
            return False
        self._close()
        return True

    def _close(self) -> None:
        if self.dry:
            return
        if self.vault.close(self.path, written(self.kept), self._secret):
            self.sentences.append(
                f"Made {shown(self.vault.password_file)}, which opens it: put its content into your password manager."
            )

    def _earlier(self) -> dict[str, tuple[str, list[str]]]:
        """What an earlier Salon kept in a directory, in the clear."""
        found = {}
        for name, file in EARLIER_FILES.items():
            with contextlib.suppress(OSError):
                # The lookup that has made them may have noted a salt there.
                if value := (self.path.parent / "secrets" / file).read_text().partition(" ")[0].strip():
                    found[name] = value, []
        return found


def _list(taken: Iterable[str], new: Iterable[str]) -> str:
    said = [f"{word} {', '.join(sorted(names))}" for word, names in (("taken over", taken), ("new", new)) if names]
    return "; ".join(said) or "as it was"


class ActionModule(ActionBase):
    """Opens the file (`step: open`), and takes a step of a rotation (`accept`, `use`, `end`).

    It never fails: with `no_log`, nobody would see why. `mistake` is the sentence, or empty.
    """

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            {
                "file": {"type": "str", "required": True},
                "password_file": {"type": "str", "required": True},
                "step": {"type": "str", "choices": ["open", "accept", "use", "end"], "default": "open"},
                "names": {"type": "str", "default": ""},
                "now": {"type": "bool", "default": False},
                "days": {"type": "int", "required": True},
                "environments": {"type": "list", "elements": "str", "default": [], "no_log": True},
            }
        )
        vaults = VaultSecretsContext.current(optional=True)
        keeper = Keeper(
            Path(given["file"]),
            Vault(vaults.secrets if vaults else [], Path(given["password_file"]).expanduser()),
            datetime.datetime.now(datetime.UTC).date(),
            given["days"],
            self._task.check_mode,
        )
        result |= {"changed": False, "mistake": "", "sentences": [], "_ansible_no_log": True}
        try:
            environments = [b64decode(text).decode(errors="replace") for text in given["environments"]]
            result["changed"] = keeper.open(environments)
            if given["step"] != "open":
                result["changed"] |= keeper.apply(given["step"], given["names"], now=given["now"])
            result["names"] = chosen(given["names"])
            result["sentences"] = keeper.sentences
            result["state"] = list(state(keeper.kept))
            result["secrets"] = exposed(keeper.kept)
        except MistakeError as mistake:
            result["mistake"] = str(mistake)
        except OSError as error:
            result["mistake"] = f"{error.filename}: {error.strerror}."
        return result


def exposed(kept: Secrets) -> dict[str, dict[str, Any]]:
    """What roles see: of each secret the value in use, and those that are accepted beside it."""
    return {name: {"value": secret["value"], "beside": beside(secret)} for name, secret in kept.items()}
