"""What a run prints: what it changes, what somebody should know, what fails; at its end what changed, how long it took.

With -v it prints everything, as Ansible does by itself.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from ansible import constants
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as DefaultCallback

DOCUMENTATION = """
name: salon
type: stdout
short_description: Ansible's own output without what nothing comes of
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

NEXT = "Say what comes next"
"""Tasks of this name say what an operator does next, and that stands at the very end."""

SHORTEST = 0.5
"""Seconds below which nobody wants to know of a role."""


class CallbackModule(DefaultCallback):
    """Ansible's default, quieter."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "salon"

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()
        self._part, self._part_began = "", self._began
        self._seconds: Counter[str] = Counter()
        self._changed: dict[str, list[str]] = {}
        self._next: list[str] = []
        self._has_failed = False

    @property
    def is_quiet(self) -> bool:
        return self._display.verbosity == 0

    def get_option(self, option: str, hostvars: dict[str, Any] | None = None) -> Any:
        if option in ("display_ok_hosts", "display_skipped_hosts") and self.is_quiet:
            return False
        return super().get_option(option, hostvars)

    # The time

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._count("")
        self._play = play
        if not self.is_quiet:
            super().v2_playbook_on_play_start(play)
        elif name := play.get_name().strip():
            self._display.display(f"{name} …", color=constants.COLOR_SKIP)

    def _task_start(self, task: Any, prefix: str | None = None) -> None:
        self._count(task._role.get_name() if task._role else "playbook")
        super()._task_start(task, prefix)

    def _count(self, part: str) -> None:
        """What takes time from now on."""
        now = time.monotonic()
        if self._part:
            self._seconds[self._part] += now - self._part_began
        self._part, self._part_began = part, now

    # What is shown

    def v2_runner_on_ok(self, result: Any) -> None:
        if self.is_quiet and isinstance(result.task, TaskInclude):
            return
        said = result.result.get("msg") if result.task.action.rpartition(".")[2] == "debug" else None
        if result.result.get("changed"):
            self._note_change(result)
        if said is not None and result.task.get_name().endswith(NEXT):
            self._next += [said] if isinstance(said, str) else said
        elif said is not None and self.is_quiet:
            self._display.display(said if isinstance(said, str) else "\n".join(said), color=constants.COLOR_HIGHLIGHT)
        else:
            super().v2_runner_on_ok(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._has_failed = self._has_failed or not ignore_errors
        if self.is_quiet and result.task.action.rpartition(".")[2] in ("fail", "assert") and not result.task.loop:
            # A sentence for a person needs nothing around it.
            self._display.display(f"\nFAILED: {result.result.get('msg', '')}", color=constants.COLOR_ERROR)
        else:
            super().v2_runner_on_failed(result, ignore_errors)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._has_failed = True
        super().v2_runner_on_unreachable(result)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        if not self.is_quiet:
            super().v2_playbook_on_include(included_file)

    def _note_change(self, result: Any) -> None:
        names = self._changed.setdefault(result.host.get_name(), [])
        name = result.task.get_name().strip()
        if name not in names:
            names.append(name)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._count("")
        super().v2_playbook_on_stats(stats)
        for host in sorted(stats.processed):
            names = self._changed.get(host, [])
            self._display.display(f"Changed on {host}: {'; '.join(names) or 'nothing'}")
        parts = [f"{name} {seconds:.1f} s" for name, seconds in self._seconds.most_common() if seconds >= SHORTEST]
        whole = time.monotonic() - self._began
        self._display.display(f"Took {whole:.1f} s: {', '.join(parts)}")
        for said in self._next if not self._has_failed else []:
            self._display.display(f"\n{said}")
        if self._has_failed:
            self._display.display("\nNext: see to what failed, above, and run the same command again.")
