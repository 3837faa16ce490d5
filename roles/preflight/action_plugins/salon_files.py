"""Writes the directories and files of a role, as its variables declare them, by one call on the host.

`templates` is where the templates stand that mirror the host. An entry of `directories` or `files` has `path`, `owner`,
`group` and `mode`; a file perhaps `validate` (a command with `%s`), `notify`, and `secret`. What comes of it says which
handlers are to be told (`notify`), and which paths have changed (`paths`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template

Entry = dict[str, Any]

ATTRIBUTES = ("owner", "group", "mode")

MANAGED = "Ansible managed"
"""What stands at the head of each file, where an inventory does not set another `ansible_managed`."""


class ActionModule(ActionBase):
    """Renders here, writes there."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"templates", "directories", "files"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        task_vars = task_vars or {}
        super().run(tmp, task_vars)
        templates = Path(self._task.args["templates"])
        directories = [_place(entry) for entry in self._task.args.get("directories") or []]
        declared = self._task.args.get("files") or []
        files = [self._file(entry, templates, task_vars) for entry in declared]
        result = self._execute_module(
            module_name="salon_files",
            module_args={"directories": directories, "files": files},
            # A module notes in the host's journal what it was called with, and here that is what stands in the files.
            task_vars=task_vars | {"ansible_no_target_syslog": True},
        )
        # It would show what stands in every file.
        result.pop("invocation", None)
        if "changes" not in result:
            return result
        changes = result.pop("changes")
        changed = {change["path"] for change in changes}
        result["paths"] = sorted(changed)
        # In a check, who would read them may not be there either where not even a directory is.
        is_bare = self._task.check_mode and any("directory" in change["changed"] for change in changes)
        result["notify"] = _notified(entry for entry in declared if f"/{entry['path']}" in changed and not is_bare)
        rendered = {file["path"]: file for file in files}
        result["diff"] = [_difference(change, rendered.get(change["path"])) for change in changes]
        return result

    def _file(self, entry: Entry, templates: Path, task_vars: dict[str, Any]) -> Entry:
        file = _place(entry) | {"content": self._rendered(entry, templates, task_vars)}
        file["validate"] = entry.get("validate")
        file["secret"] = bool(entry.get("secret", False))
        return file

    def _rendered(self, entry: Entry, templates: Path, task_vars: dict[str, Any]) -> str:
        """What `ansible.builtin.template` would write."""
        source = templates / f"{entry['path']}.j2"
        text = trust_as_template(self._loader.get_text_file_contents(str(source)))
        variables = {"ansible_managed": MANAGED} | task_vars
        templar = self._templar.copy_with_new_env(searchpath=[str(source.parent)], available_variables=variables)
        overrides = {"trim_blocks": True, "lstrip_blocks": False, "newline_sequence": "\n"}
        try:
            return templar.template(text, escape_backslashes=False, overrides=overrides) or ""
        except Exception as error:
            raise AnsibleActionFail(f"{source} cannot be rendered.") from error


def _place(entry: Entry) -> Entry:
    return {"path": f"/{entry['path']}"} | {name: entry[name] for name in ATTRIBUTES}


def _notified(entries: Any) -> list[str]:
    names: dict[str, None] = {}
    for entry in entries:
        notify = entry.get("notify") or []
        names |= dict.fromkeys([notify] if isinstance(notify, str) else notify)
    return list(names)


def _difference(change: Entry, file: Entry | None) -> Entry:
    path = change["path"]
    if file is None or file["secret"] or "content" not in change["changed"]:
        return {"prepared": f"{path}: {', '.join(change['changed'])}\n"}
    return {
        "before_header": path,
        "before": change["before"],
        "after_header": path,
        "after": file["content"],
    }
