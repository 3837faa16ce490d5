#!/usr/bin/python3
"""Brings directories and files to what they are to be, all of them in one call.

With a call for each of them, a second run would spend most of its time on these. The contents come from
`action_plugins/salon_files.py`, which renders the templates.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

Entry = dict[str, Any]

PLACE = {name: {"type": "str", "required": True} for name in ("path", "owner", "group", "mode")}
FILE = PLACE | {
    "content": {"type": "str", "required": True, "no_log": True},
    "validate": {"type": "str"},
    "secret": {"type": "bool", "default": False},
}
ARGUMENTS = {
    "directories": {"type": "list", "elements": "dict", "options": PLACE, "default": []},
    "files": {"type": "list", "elements": "dict", "options": FILE, "default": []},
}


class MistakeError(Exception):
    """Something cannot be as it is to be; the message says what."""


class Wanted:
    """A directory or a file as it is to be."""

    def __init__(self, module: AnsibleModule, entry: Entry) -> None:
        self.module = module
        self.entry = entry
        self.path = Path(entry["path"])
        self.mode = int(entry["mode"], 8)
        try:
            self.found = self.path.lstat()
        except FileNotFoundError:
            self.found = None

    def owners(self) -> tuple[int, int] | None:
        """The ids of owner and group; None in a check, where a package or a role that it leaves out makes them."""
        try:
            return pwd.getpwnam(self.entry["owner"]).pw_uid, grp.getgrnam(self.entry["group"]).gr_gid
        except KeyError as error:
            if self.module.check_mode:
                return None
            raise MistakeError(f"{self.path}: {error.args[0]}") from None

    def wrong(self) -> list[str]:
        """Which of owner, group and mode are not as they are to be."""
        if self.found is None:
            return []
        if (owners := self.owners()) is None:
            return ["owner"]
        present = {"owner": self.found.st_uid, "group": self.found.st_gid, "mode": stat.S_IMODE(self.found.st_mode)}
        due = {"owner": owners[0], "group": owners[1], "mode": self.mode}
        return [name for name in due if present[name] != due[name]]

    def set_attributes(self) -> None:
        os.chown(self.path, *self.owners())
        self.path.chmod(self.mode)


class Directory(Wanted):
    def bring(self) -> list[str]:
        """What was changed, or would be. Raises `MistakeError`."""
        if self.found and not stat.S_ISDIR(self.found.st_mode):
            raise MistakeError(f"{self.path} is there and is no directory.")
        changed = self.wrong() if self.found else ["directory"]
        if changed and not self.module.check_mode:
            self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
            self.set_attributes()
        return changed


class File(Wanted):
    def __init__(self, module: AnsibleModule, entry: Entry) -> None:
        super().__init__(module, entry)
        self.is_there = bool(self.found and stat.S_ISREG(self.found.st_mode))
        self.before = self.path.read_bytes() if self.is_there else b""

    def bring(self) -> list[str]:
        """What was changed, or would be. Raises `MistakeError`."""
        if self.found and stat.S_ISDIR(self.found.st_mode):
            raise MistakeError(f"{self.path} is a directory.")
        content = self.entry["content"].encode()
        is_new = not self.is_there or self.before != content
        changed = ["content"] * is_new + (self.wrong() if self.is_there else [])
        if changed and not self.module.check_mode:
            if is_new:
                self.write(content)
            else:
                self.set_attributes()
        return changed

    def write(self, content: bytes) -> None:
        """Put it there as a whole, once it is good, and its owner's from the first moment. Raises `MistakeError`."""
        if self.entry["validate"]:
            self.validate(content)
        handle, new = tempfile.mkstemp(prefix=".salon-", dir=self.path.parent)
        try:
            with os.fdopen(handle, "wb") as opened:
                opened.write(content)
                opened.flush()
                os.fchown(handle, *self.owners())
                os.fchmod(handle, self.mode)
                os.fsync(handle)
            Path(new).replace(self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(new).unlink()
            raise

    def validate(self, content: bytes) -> None:
        """Have a program look at it, under its own name, before it is there. Raises `MistakeError`."""
        place = Path(tempfile.mkdtemp(dir=self.module.tmpdir))
        try:
            trial = place / self.path.name
            trial.touch(mode=0o600)
            trial.write_bytes(content)
            status, said, complained = self.module.run_command(self.entry["validate"].replace("%s", str(trial)))
        finally:
            shutil.rmtree(place)
        if status:
            why = (complained or said).strip()
            raise MistakeError(f"{self.path} would not be good, and what was there stays: {why}")


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    changes = []
    try:
        for entry in module.params["directories"]:
            changed = Directory(module, entry).bring()
            changes += [{"path": entry["path"], "changed": changed}] * bool(changed)
        for entry in module.params["files"]:
            file = File(module, entry)
            changed = file.bring()
            before = "" if entry["secret"] else file.before.decode(errors="replace")
            changes += [{"path": entry["path"], "changed": changed, "before": before}] * bool(changed)
    except (MistakeError, OSError) as error:
        module.fail_json(msg=str(error), changed=bool(changes), changes=changes)
    module.exit_json(changed=bool(changes), changes=changes)


if __name__ == "__main__":
    main()
