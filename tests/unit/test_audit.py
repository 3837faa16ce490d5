"""`make audit`, with a pip-audit that answers what a feed would."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).resolve().parents[1] / "scans/audit.py"
DJANGO = {"name": "django", "version": "4.2.0", "vulns": [{"id": "PYSEC-1", "aliases": [], "fix_versions": ["4.2.1"]}]}
BUG = {"id": "PYSEC-2", "aliases": ["CVE-2026-2"], "fix_versions": ["1.1"]}

PIP_AUDIT = """
import json, pathlib, sys
known, found = json.loads(pathlib.Path(__file__).with_name("answers.json").read_text())
[name] = [each.partition("=")[2] for each in sys.argv if each.startswith("--requirement=")]
answer = known if "django==4.2.0" in pathlib.Path(name).read_text() else found
if isinstance(answer, str):
    sys.exit(answer)
print(json.dumps({"dependencies": answer, "fixes": []}))
"""


@pytest.fixture
def audit(tmp_path):
    """The exit status and the lines, with these two answers: about what is known to be bad, and about ours."""

    def run(known, found):
        (tmp_path / "pip_audit.py").write_text(PIP_AUDIT)
        (tmp_path / "answers.json").write_text(json.dumps([known, found]))
        requirements = tmp_path / "ours.txt"
        requirements.write_text("ours==1.0\n")
        command = [sys.executable, AUDIT, requirements]
        environment = {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.splitlines()

    return run


def test_nothing_is_known_of_ours(audit):
    status, said = audit([DJANGO], [{"name": "ours", "version": "1.0", "vulns": []}])
    assert (status, said) == (0, ["No vulnerability is known of the 1 pinned packages."])


def test_each_vulnerability_is_named(audit):
    status, said = audit([DJANGO], [{"name": "ours", "version": "1.0", "vulns": [BUG]}])
    assert (status, said) == (1, ["ours 1.0: PYSEC-2, CVE-2026-2; fixed in 1.1"])


def test_without_a_network(audit):
    status, said = audit("Connection refused", [])
    assert (status, said) == (69, ["Not audited: no feed of vulnerabilities answers here (Connection refused)."])


def test_a_mirror_that_has_no_vulnerabilities_is_no_feed(audit):
    skipped = {"name": "django", "skip_reason": "not found"}
    status, said = audit([skipped], [{"name": "ours", "version": "1.0", "vulns": []}])
    assert status == 69
    assert said == [
        "Not audited: no feed of vulnerabilities answers here (it tells of no vulnerability of django==4.2.0)."
    ]


def test_what_the_feed_does_not_know_is_not_called_good(audit):
    status, said = audit([DJANGO], [{"name": "ours", "skip_reason": "not found"}])
    assert (status, said) == (69, ["Not audited, as the feed does not know them: ours."])
