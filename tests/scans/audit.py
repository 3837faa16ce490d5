"""Look up the pinned requirements among the published vulnerabilities: `audit.py FILE...`.

0: none is known; 1: some are, and each is named; 69 (sysexits: unavailable): it could not be found out.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

CLEAN, VULNERABLE, NOT_AUDITED = 0, 1, 69

KNOWN = "django==4.2.0"
"""Vulnerabilities of this release have been published. A feed that has none of it is none: a mirror of packages answers
without them, and pip-audit takes that for good news."""


class FeedError(Exception):
    """There is no answer; says why."""


def ask(files: list[str]) -> list[dict]:
    """What is known of each requirement in the files. Raises `FeedError`."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--format=json"]
    command += ["--progress-spinner=off", *(f"--requirement={file}" for file in files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        lines = done.stderr.strip().splitlines() or [f"pip-audit ended with {done.returncode}"]
        raise FeedError(lines[-1].partition("(")[0]) from None


def audit(files: list[str]) -> tuple[int, list[str]]:
    """The exit status, and what is to be said."""
    try:
        with tempfile.TemporaryDirectory() as directory:
            known = Path(directory) / "requirements.txt"
            known.write_text(f"{KNOWN}\n")
            if not any(each.get("vulns") for each in ask([str(known)])):
                raise FeedError(f"it tells of no vulnerability of {KNOWN}")
        found = ask(files)
    except FeedError as error:
        return NOT_AUDITED, [f"Not audited: no feed of vulnerabilities answers here ({error})."]
    said = [
        f"{each['name']} {each['version']}: {', '.join([bug['id'], *bug['aliases']])};"
        f" fixed in {', '.join(bug['fix_versions']) or 'no release yet'}"
        for each in found
        for bug in each.get("vulns", [])
    ]
    status = VULNERABLE if said else CLEAN
    if unknown := sorted(each["name"] for each in found if "skip_reason" in each):
        return status or NOT_AUDITED, [*said, f"Not audited, as the feed does not know them: {', '.join(unknown)}."]
    return status, said or [f"No vulnerability is known of the {len(found)} pinned packages."]


def main() -> int:
    status, said = audit(sys.argv[1:])
    sys.stdout.write("".join(f"{line}\n" for line in said))
    return status


if __name__ == "__main__":
    sys.exit(main())
