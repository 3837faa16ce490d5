"""What is done to the host from another one while two people talk."""

import re
import time
from dataclasses import dataclass

from scans.places import DOMAIN, Host, Scanner
from scans.talk import Pair, Talk

LONGEST = 5
"""Seconds that a message may take meanwhile, with scanner, host and people on one machine."""

HALF_OPEN = """
import resource, socket, ssl, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
name, count = sys.argv[1], 5000
held = refused = ended = 0
context = ssl.create_default_context(cafile="/ca.pem")
sockets = []
for number in range(count):
    try:
        plain = socket.create_connection((name, 443), 10)
        if number % 2:
            # Half of them have begun, and let the server do its work.
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            begun = context.wrap_bio(incoming, outgoing, server_hostname=name)
            try:
                begun.do_handshake()
            except ssl.SSLWantReadError:
                plain.sendall(outgoing.read())
        sockets.append(plain)
    except OSError:
        refused += 1
begun = time.monotonic()
for plain in sockets:
    plain.settimeout(max(0.01, 60 - (time.monotonic() - begun)))
    try:
        while plain.recv(65536):
            pass
        ended += 1
    except TimeoutError:
        held += 1
    except OSError:
        ended += 1
print(f"{count} begun, {refused} not let in, {ended} ended by the host within {time.monotonic() - begun:.0f} s,"
      f" {held} still open")
"""

FLOOD = """
import collections, re, resource, socket, ssl, sys, time
name, seconds = sys.argv[1], 20
context = ssl.create_default_context(cafile="/ca.pem")
request = f"GET /ws/chat/?token=none HTTP/1.1\\r\\nHost: {name}\\r\\n\\r\\n".encode()
statuses, end = collections.Counter(), time.monotonic() + seconds
while time.monotonic() < end:
    with context.wrap_socket(socket.create_connection((name, 443), 20), server_hostname=name) as flood:
        flood.sendall(request * 50)
        answers, data = b"", b"-"
        while len(found := re.findall(rb"HTTP/1.1 ([0-9]{3})", answers)) < 50 and data:
            data = flood.recv(65536)
            answers += data
        statuses.update(each.decode() for each in found)
print(f"{sum(statuses.values())} asked for in {seconds} s, " + ", ".join(
    f"{count} answered {status}" for status, count in sorted(statuses.items())))
"""

SLOW = "slowhttptest {mode} -c 4000 -r 1000 -l 30 -p 5 -u https://{domain}{path} 2>&1"


@dataclass
class Attack:
    """One that was tried."""

    name: str
    said: str
    seconds: float
    talk: Talk

    @property
    def mistakes(self) -> list[str]:
        """What must not be."""
        mistakes = [f"{self.name}: {each}" for each in self.talk.trouble]
        if self.talk.lost:
            mistakes.append(f"{self.name}: {self.talk.lost} messages of {len(self.talk.sent)} were lost")
        if not self.talk.sent:
            mistakes.append(f"{self.name}: nobody has said anything")
        if self.talk.longest > LONGEST:
            mistakes.append(f"{self.name}: a message took {self.talk.longest:.1f} s")
        return mistakes


def _python(scanner: Scanner, code: str) -> str:
    return scanner.shell(f"python3 - {DOMAIN}", code).strip()


def _slow(scanner: Scanner, mode: str, path: str) -> str:
    """The state that slowhttptest ends with, and how often it found the host away. Raises for one that never began."""
    said = scanner.shell(SLOW.format(mode=mode, domain=DOMAIN, path=path), succeeds=False)
    said = re.sub(r"\x1b\[[0-9;]*m", "", said)
    ended = re.search(r"Exit status:\s*(.*)", said)
    if not ended or "refused" in ended[1] or not (states := said.split("slow HTTP test status")[1:]):
        raise RuntimeError(f"slowhttptest has not begun:\n{said[-1000:]}")
    most = max(int(number) for number in re.findall(r"connected:\s*(\d+)", said))
    last = dict(re.findall(r"(\w+):\s*(\d+)$", states[-1], re.MULTILINE))
    away = len(re.findall(r"service available:\s*NO", said))
    return (
        f"at most {most} connections at once, {last['closed']} closed by the host; {ended[1].strip().lower()};"
        f" its own probe found the host away {away} times of {len(states)}"
    )


def attacks(host: Host, scanner: Scanner) -> list[Attack]:
    """All of them, one after the other."""
    ways = {
        "slow heads (slowhttptest -H)": lambda: _slow(scanner, "-H -i 5", "/login/"),
        "slow bodies (slowhttptest -B)": lambda: _slow(scanner, "-B -i 5 -s 8192", "/login/"),
        "slow reading (slowhttptest -X)": lambda: _slow(
            scanner, "-X -w 10 -y 20 -n 5 -z 32 -k 3", "/static/admin/css/base.css"
        ),
        "5,000 half-open TLS handshakes": lambda: _python(scanner, HALF_OPEN),
        "a flood of WebSocket handshakes from one address": lambda: _python(scanner, FLOOD),
    }
    pair = Pair(host)
    done = []
    for name, way in ways.items():
        begun = time.monotonic()
        with pair.talking() as talk:
            said = way()
        done.append(Attack(name, said, time.monotonic() - begun, talk))
    return done
