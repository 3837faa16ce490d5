"""What a run prints: what changes and what fails, and at the end what changed, how long it took, and the next step."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAY = """
- name: Do something
  hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Look at something
      ansible.builtin.assert: {that: true}
    - name: Leave something out
      ansible.builtin.assert: {that: true}
      when: false
    - name: Change something
      ansible.builtin.assert: {that: true}
      changed_when: true
    - name: Tell something
      ansible.builtin.debug:
        msg: This is worth knowing.
    - name: Say what comes next
      ansible.builtin.debug:
        msg: "Next: have a rest."
    - name: Refuse something
      ansible.builtin.fail:
        msg: This does not fit; write that instead.
      when: refuse | default(false) | bool
"""


@pytest.fixture
def play(tmp_path):
    path = tmp_path / "play.yml"
    path.write_text(PLAY)

    def play(*arguments):
        done = subprocess.run(
            ["ansible-playbook", "--inventory", "localhost,", path, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"},
        )
        return done.stdout

    return play


def test_quiet_where_nothing_happens_and_the_next_step_at_the_end(play):
    said = play()
    assert "Do something …" in said
    assert "TASK [Change something]" in said
    assert "This is worth knowing." in said
    for silent in ("Look at something", "Leave something out", "TASK [Tell something]"):
        assert silent not in said
    *_, changed, took, _, following = said.splitlines()
    assert changed == "Changed on localhost: Change something"
    assert took.startswith("Took ")
    assert following == "Next: have a rest."


def test_a_refusal_is_one_sentence_and_not_followed_by_a_next_step(play):
    said = play("--extra-vars", "refuse=true")
    assert "FAILED: This does not fit; write that instead.\n" in said
    assert "have a rest" not in said
    assert said.splitlines()[-1] == "Next: see to what failed, above, and run the same command again."


def test_verbose_it_says_everything(play):
    said = play("-v")
    for task in ("Look at something", "Leave something out", "Change something", "Tell something"):
        assert f"TASK [{task}]" in said
