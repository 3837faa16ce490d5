"""docs/security-host.md: what nmap and lynis have found, and why what is left is left."""

from pathlib import Path

REASONS: dict[str, str] = {
    "LYNIS": "Debian's version of lynis is the one that this was run with.",
    "DEB-0280": "The services have a /tmp of their own; whoever logs in is an operator.",
    "DEB-0810": "Security updates install themselves, and nobody is there to be shown a list.",
    "DEB-0811": "The same.",
    "DEB-0880": "Nobody comes in by guessing: sshd takes keys only, and the application limits how often one may try.",
    "BOOT-5122": "Whoever is at the machine's console is its owner.",
    "BOOT-5180": "A container has no runlevel.",
    "BOOT-5264": "What Salon writes is below the limits of its own tests; the others are Debian's.",
    "KRNL-5788": "A container has no kernel of its own.",
    "AUTH-9230": "Debian's hash of passwords, yescrypt, has a cost and no rounds.",
    "AUTH-9262": "Nobody logs in with a password.",
    "AUTH-9284": "Debian's own accounts and those of the services have no password, and are locked for it.",
    "AUTH-9286": "Nobody logs in with a password, so none grows old.",
    "AUTH-9328": "The services set their own; a stricter one for logins makes files that programs cannot read.",
    "FILE-6310": "How the disk is divided was decided when the host was installed.",
    "FILE-7524": "Debian's own permissions of cron's directories, which hold no secret.",
    "HOME-9304": "The home of the operator is the operator's.",
    "NAME-4028": "A test host has no domain.",
    "PKGS-7394": "The updates install themselves.",
    "HTTP-6710": "It looks for the directives in one file; testssl.sh is asked about TLS.",
    "SSH-7408": "An operator may have several keys to offer, and another port hides nothing.",
    "DBS-1828": "They hold no secret: pg_hba.conf asks for peers or passwords, and no password stands in any of them.",
    "LOGG-2154": "Where logs are sent is the operator's to say.",
    "BANN-7126": "What a banner has to say is a lawyer's to write, and the file is Debian's.",
    "BANN-7130": "The same.",
    "ACCT-9622": "The journal says who became root; what every process did says more about people than is needed.",
    "ACCT-9626": "The same.",
    "ACCT-9628": "The same.",
    "FINT-4350": "A host is made anew by the playbook, which shows with --check --diff what differs.",
    "TOOL-5002": "It does not know a host that Ansible reaches by ssh.",
    "KRNL-6000": "A container may not set them; on a host /etc/sysctl.d/60-salon.conf does.",
    "HRDN-7230": "Files that people send are handed out and never run.",
}
"""Why what a test of lynis' asks for is not done, by its name."""

HEAD = """# The host, as others see it

`make security-host` writes this page: a finished host, whose Redis and PostgreSQL have ports in this run, is looked at
from two other hosts and by an auditor on it. nmap {nmap}, lynis {lynis}, Debian {debian}.

## From outside

| who | open TCP ports, of all |
| --- | --- |
| a stranger | {stranger} |
| a host of the inventory | {peer} |

## lynis

Hardening index **{index}** of 100, from {tests} tests; it is not asked what `tests/security/lynis.prf` names, with the
reason for each. With that too it would be {whole_index}, in this container. What it would like besides:

| test | what it says | why it is so |
| --- | --- | --- |
"""


def ports(found: dict[int, str]) -> str:
    return ", ".join(f"{port} ({name})" for port, name in sorted(found.items()))


def write(path: Path, found: dict) -> None:
    """Write the page."""
    found = found | {name: ports(found[name]) for name in ("stranger", "peer")} | {"tests": "".join(found["tests"])}
    lines = sorted({(test, text) for _, test, text in found["left"]})
    rows = "".join(f"| {test} | {text} | {REASONS.get(test, '')} |\n" for test, text in lines)
    path.write_text(HEAD.format(**found) + rows)
