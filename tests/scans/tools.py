"""What the scanners say of the host."""

import json
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from scans.places import DOMAIN, SCANNERS, Host, Scanner, run

EXPLAINED = {
    "engine_problem": "It speaks of the OpenSSL that it runs with itself.",
    "cert_revocation": (
        "The private authority has no service that could be asked: a key that got out is replaced, and where it must"
        " be, the authority too. A certificate of a known authority says where its list is."
    ),
    "DNS_CAArecord": "The name of a test host is in no DNS. Of your own, a CAA record says who may issue certificates.",
}
"""What testssl.sh rates above LOW, by its name for it, and why it is so."""

PORTS = {80, 443}
"""Which are open to the world; ssh beside them where the host has it."""


@dataclass
class Scan:
    """What one tool has said."""

    tool: str
    result: str
    findings: list[str] = field(default_factory=list)
    """Lines for the page."""
    mistakes: list[str] = field(default_factory=list)


def testssl(scanner: Scanner, *, trusted: bool) -> Scan:
    """testssl.sh's rating: with the private authority among those that are trusted, as a known one is, or without."""
    trust = "--add-ca /ca.pem" if trusted else ""
    scanner.shell("rm -f /tmp/testssl.json")
    said = scanner.shell(
        f"testssl --quiet --color 0 {trust} --jsonfile /tmp/testssl.json {DOMAIN} 2>&1", succeeds=False
    )
    try:
        entries = json.loads(scanner.shell("cat /tmp/testssl.json"))
    except (RuntimeError, json.JSONDecodeError) as error:
        raise RuntimeError(f"testssl.sh has not written what it found:\n{said[-2000:]}") from error
    found = {entry["id"]: entry for entry in entries}
    grade = found.get("overall_grade", {}).get("finding", "none")
    scan = Scan("testssl.sh", f"rating {grade}")
    for entry in entries:
        if entry["severity"] not in ("LOW", "MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL"):
            continue
        reason = EXPLAINED.get(entry["id"], "")
        scan.findings.append(f"{entry['severity']} `{entry['id']}`: {entry['finding']}. {reason}".strip())
        if entry["severity"] != "LOW" and not reason and trusted:
            scan.mistakes.append(f"testssl.sh: {entry['severity']} {entry['id']}: {entry['finding']}")
    if trusted and grade != "A+":
        reasons = [entry["finding"] for entry in entries if entry["id"].startswith("grade_cap_reason")]
        scan.mistakes.append(f"testssl.sh: rating {grade} and not A+: {'; '.join(reasons)}")
    return scan


def sslyze(host: Host, profile: str) -> Scan:
    """Its comparison with Mozilla's configuration."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as authority:
        authority.write(host.authority)
        authority.flush()
        options = [f"--mozilla_config={profile}", "--certinfo", f"--certinfo_ca_file={authority.name}", "--sni", DOMAIN]
        said = run(str(SCANNERS / "sslyze"), *options, f"{host.address}:443", succeeds=False)
    verdict = re.search(rf"{re.escape(host.address)}:443: (.*)", said)
    text = verdict[1] if verdict else said[-500:]
    scan = Scan("sslyze", text)
    if not text.startswith("OK"):
        scan.mistakes.append(f"sslyze: {said.partition('COMPLIANCE')[2] or said[-1000:]}")
    return scan


def gixy(host: Host) -> Scan:
    """What it finds in nginx's whole configuration, as nginx itself prints it."""
    with tempfile.TemporaryDirectory() as directory:
        dump = Path(directory) / "nginx.conf"
        dump.write_text(host.shell("nginx -T 2>/dev/null"))
        said = run(str(SCANNERS / "gixy"), "-f", "json", str(dump), succeeds=False)
    found = json.loads(said)
    scan = Scan("gixy-ng", f"{len(found)} findings" if found else "nothing found")
    scan.mistakes += [f"gixy-ng: {each.get('severity')} {each.get('plugin')}: {each.get('reason')}" for each in found]
    return scan


def nmap(scanner: Scanner) -> Scan:
    """All ports of TCP, and the usual ones of UDP."""
    said = scanner.shell(f"nmap -Pn -n -T4 -p- -oG - {DOMAIN}")
    opened = {int(port) for port in re.findall(r"(\d+)/open/tcp", said)}
    said = scanner.shell(f"nmap -Pn -n -T4 -sU --top-ports 20 -oG - {DOMAIN}")
    udp = {int(port) for port in re.findall(r"(\d+)/open/udp", said)}
    scan = Scan(
        "nmap", f"open: TCP {', '.join(map(str, sorted(opened)))}; UDP {', '.join(map(str, sorted(udp))) or 'none'}"
    )
    if not PORTS <= opened <= PORTS | {22} or udp:
        scan.mistakes.append(f"nmap: {scan.result}")
    return scan
