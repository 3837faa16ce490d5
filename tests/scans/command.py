"""The command line, and the page that it writes."""

import argparse
import datetime
import sys
from pathlib import Path

from target import PROJECT

from load.machine import machine
from scans import tools
from scans.attacks import Attack, attacks
from scans.places import Host, Scanner, run
from scans.talk import PAUSE

PAGE = PROJECT / "docs/security-scans.md"

TEXT = """\
# What the scanners say

Written by `make security-edge`; do not change it by hand.

The host is the one of `make test`, with the bundle's own settings; the scanners run on another one beside it, or on the
machine of both. Its certificate is of the private authority that the bundle makes. A browser that has imported it, like
testssl.sh with `--add-ca`, sees what it would see with a certificate of a known authority. Without that the chain leads
to nobody it knows: all else being as good, that alone makes the rating a T, and a browser warn.

| tool | result |
| --- | --- |
{results}

What testssl.sh says of its findings, and we of them:

{findings}

## What was tried while two people talked

Each was done from one other host; both people wrote a message every {pause:g} s. Lost is what did not reach the other.

| attack | lasted | what became of it | messages | lost | the slowest |
| --- | --- | --- | --- | --- | --- |
{attacks}

Made on {machine}, with {versions}, on {when}.
"""


def say(line: str) -> None:
    """Tell how far it is."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _page(results: list[tuple[str, tools.Scan]], tried: list[Attack], versions: list[str]) -> str:
    here = machine()
    findings = [f"- {line}" for name, scan in results if "known" in name for line in scan.findings]
    return TEXT.format(
        results="\n".join(f"| {name} | {scan.result} |" for name, scan in results),
        findings="\n".join(findings) or "- Nothing.",
        pause=PAUSE,
        attacks="\n".join(
            f"| {each.name} | {each.seconds:.0f} s | {each.said} | {len(each.talk.sent)} | {each.talk.lost}"
            f" | {each.talk.longest:.2f} s |"
            for each in tried
        )
        or "| none | | | | | |",
        machine=f"{here['processor']}, {here['cores']} cores, Linux {here['kernel']}",
        versions=", ".join(versions),
        when=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def main() -> int:
    """Scan and attack; the exit status: 1 when anything is not as it should be."""
    parser = argparse.ArgumentParser(prog="tests/scans", description=__doc__)
    parser.add_argument("--page", type=Path, default=PAGE, help="where the page is written (docs/security-scans.md)")
    parser.add_argument("--only", choices=["scans", "attacks"], help="one half of it")
    arguments = parser.parse_args()
    host = Host()
    scanner = Scanner(host)
    work = [
        ("gixy-ng, nginx's configuration", lambda: tools.gixy(host)),
        ("nmap, all ports of TCP and 20 of UDP", lambda: tools.nmap(scanner)),
        ("sslyze, Mozilla's intermediate configuration", lambda: tools.sslyze(host, "intermediate")),
        ("testssl.sh, as for a known authority", lambda: tools.testssl(scanner, trusted=True)),
        ("testssl.sh, without trust in the private authority", lambda: tools.testssl(scanner, trusted=False)),
    ]
    results, tried, mistakes = [], [], []
    if arguments.only != "attacks":
        for name, scan in work:
            results.append((name, scan()))
            mistakes += results[-1][1].mistakes
            say(f"{name}: {results[-1][1].result}")
            for line in results[-1][1].findings:
                say(f"    {line}")
    if arguments.only != "scans":
        tried = attacks(host, scanner)
        for each in tried:
            mistakes += each.mistakes
            say(f"{each.name}: {each.said}; {each.talk.lost} of {len(each.talk.sent)} lost, {each.talk.longest:.2f} s")
    pins = (PROJECT / "tests/scans/requirements.txt").read_text()
    versions = [
        *(
            line.split()[0].replace("==", " ")
            for line in pins.splitlines()
            if line.startswith(("gixy-ng==", "sslyze=="))
        ),
        *scanner.versions("testssl.sh", "slowhttptest", "nmap", "openssl"),
        *(f"{each} on the host" for each in host.versions("nginx", "openssl")),
        f"Salon {run('git', '-C', str(PROJECT), 'describe', '--always', '--dirty', '--abbrev=12').strip()}",
    ]
    if not arguments.only:
        arguments.page.write_text(_page(results, tried, versions))
        say(f"Written: {arguments.page}")
    for line in mistakes:
        say(f"NOT GOOD: {line}")
    return 1 if mistakes else 0
