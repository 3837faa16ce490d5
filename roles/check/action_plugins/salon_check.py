"""Looks at a host from outside and from inside, any day, and says what somebody has to see to. It changes nothing.

`gather` asks: the host about itself, the door from here, and, at the same time, what playbooks/site.yml would change.
`judge` turns what was found into findings, without asking anybody; `report` into lines that are read in ten seconds.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import os
import socket
import subprocess  # nosec B404 # it runs the probe and ansible-playbook
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecretsContext
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

LONGEST = 600
"""Seconds that the look at what would change may take."""

FOREIGN = "https://salon-check.invalid"
"""An origin that no frontend has."""

OK, NOTE, BAD = "ok", "--", "!!"


@dataclass(frozen=True)
class Finding:
    """One line of the report; `level` is OK, NOTE for what is good to know, or BAD for what is to be seen to."""

    level: str
    what: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.level}  {self.what:<13} {self.sentence}"


Facts = Mapping[str, Any]


# Judging


def judge(facts: Facts, limits: Facts) -> list[Finding]:
    """What is to be said of a host, in the order in which somebody would look at it."""
    found = []
    for rule in RULES:
        name = rule.__name__.replace("_", " ")
        try:
            found += [Finding(level, name, sentence) for level, sentence in rule(facts, limits)]
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            found.append(Finding(BAD, name, "it could not be looked at: the host did not say what it was asked."))
    return found


Said = Iterator[tuple[str, str]]


def dns(facts: Facts, limits: Facts) -> Said:
    names, own = facts["door"]["names"], set(facts["host"]["addresses"]) | set(facts["door"]["own"])
    for name, found in names.items():
        if not found:
            yield BAD, f"no name server knows {name}: see to its A or AAAA record."
        elif set(found) & own or not limits["dns"]:
            yield OK, f"{name} leads to {', '.join(found)}"
        else:
            yield BAD, f"{name} leads to {', '.join(found)}, and this host is {', '.join(sorted(own))}."


def certificate(facts: Facts, _limits: Facts) -> Said:
    known = facts["host"]["certificate"]
    for warning in known["warnings"]:
        yield BAD, warning
    if trouble := facts["door"]["tls"]:
        yield BAD, f"who connects is not shown one that can be trusted: {trouble}."
    elif not known["warnings"]:
        if "ends" not in known:
            yield OK, "TLS ends at a proxy in front"
        else:
            yield OK, f"{known['days_left']:.0f} days left, until {known['ends'][:10]} ({known['mode']})"


def https(facts: Facts, _limits: Facts) -> Said:
    found = facts["door"]["plain"]
    if not found:
        yield NOTE, "not looked at: a proxy in front sees to it"
    elif found["location"].startswith("https://") and found["status"] in (301, 302, 307, 308):
        yield OK, "plain http is sent to https"
    else:
        yield BAD, f"plain http is not sent to https, but {found['said']}: systemctl status nginx says more."


def wss(facts: Facts, _limits: Facts) -> Said:
    door = facts["door"]
    if not door["people"]:
        yield BAD, "nobody could be sent through the door: salon probe_people, on the host, says why."
        return
    for origin, outcome in door["origins"].items():
        if outcome["ok"]:
            yield OK, f"a browser at {origin} connects, and two people talk, in {outcome['seconds']:.2f} s"
        elif "403" in outcome["sentence"]:
            yield (
                BAD,
                f"a browser at {origin} is refused: run playbooks/site.yml, which lets salon_frontend_origins in.",
            )
        else:
            yield BAD, f"two people at {origin} cannot talk through the door: {outcome['sentence']}."
    foreign = door["foreign"]
    if foreign["ok"]:
        yield BAD, "a page of anybody's may connect as whoever is logged in: see to SALON_ALLOWED_ORIGINS in salon.env."
    elif "403" not in foreign["sentence"]:
        yield BAD, f"whether a foreign page is refused could not be seen: {foreign['sentence']}."


def processes(facts: Facts, _limits: Facts) -> Said:
    found = facts["host"]["conversation"]
    if not found["sockets"]:
        yield BAD, "no process of the application listens: systemctl status 'daphne@*' says why."
        return
    if not found["people"]:
        yield BAD, "nobody could be made to talk: salon probe_people, on the host, says why."
        return
    bad = [each for each in found["processes"] if not each.get("ok")]
    for each in bad:
        yield BAD, f"{each['server']}: two people cannot talk there, {each['sentence']}."
    if len(found["processes"]) < found["sockets"]:
        yield BAD, f"only {len(found['processes'])} of {found['sockets']} could be asked."
    elif not bad:
        slowest = max(each["seconds"] for each in found["processes"])
        yield OK, f"two people talk on each of {found['sockets']}, in {slowest:.2f} s at most"


def clock(facts: Facts, limits: Facts) -> Said:
    found, off = facts["host"]["clock"], facts["clock_off"]
    if abs(off) > limits["clock_seconds"]:
        way = "ahead of" if off > 0 else "behind"
        yield BAD, f"it is {abs(off):.0f} s {way} this machine's: timedatectl, on both, says which one is right."
    elif not found["synchronized"] and not found["is_container"]:
        yield BAD, "nothing keeps it right: timedatectl says more."
    else:
        yield OK, "as this machine's" + ("" if found["synchronized"] else ", kept by whoever runs the container")


def disk(facts: Facts, limits: Facts) -> Said:
    fullest = 0.0
    for each in facts["host"]["disks"]:
        if not each["total"]:
            continue
        free = 100 * each["free"] / each["total"]
        inodes = 100 * each["free_inodes"] / each["inodes"] if each["inodes"] else 100.0
        fullest = max(fullest, 100 - min(free, inodes))
        if free < limits["disk_percent"]:
            yield BAD, f"{each['place']} has {free:.0f} % free ({_amount(each['free'])}): make room."
        if inodes < limits["disk_percent"]:
            yield BAD, f"{each['place']} has {inodes:.0f} % of its inodes free: remove what has very many files."
    if fullest <= 100 - limits["disk_percent"]:
        yield OK, f"the fullest is {fullest:.0f} % full"


def memory(facts: Facts, limits: Facts) -> Said:
    found = facts["host"]["memory"]
    free = 100 * found["MemAvailable"] / found["MemTotal"]
    said = f"{_amount(found['MemAvailable'])} of {_amount(found['MemTotal'])} are free"
    if free < limits["memory_percent"]:
        yield BAD, f"{said}: systemd-cgtop says who has the rest."
    elif found["SwapTotal"] and found["SwapFree"] < found["SwapTotal"] / 4:
        yield BAD, f"{said}, and the swap is nearly full: systemd-cgtop says who has it."
    else:
        yield OK, said


def units(facts: Facts, _limits: Facts) -> Said:
    found = facts["host"]["units"]
    for unit in found["failed"]:
        yield BAD, f"{unit} has failed: systemctl status {unit} says why."
    # A timer that an operator has turned off is the inventory's to say.
    down = {
        unit: state
        for unit, state in found["ours"].items()
        if state not in ("active", "activating", "reloading") and unit not in found["failed"]
    }
    for unit, state in down.items():
        if not unit.endswith(".timer"):
            yield BAD, f"{unit} is {state}: systemctl start {unit}"
    if not found["failed"] and all(unit.endswith(".timer") for unit in down):
        yield OK, f"{len(found['ours']) - len(down)} of Salon's run, and none has failed"


def updates(facts: Facts, limits: Facts) -> Said:
    found = facts["host"]["updates"]
    days = (facts["now"] - found["looked_at"]) / 86400
    if waiting := found["security"]:
        shown = ", ".join(waiting[:5]) + (f" and {len(waiting) - 5} more" if len(waiting) > 5 else "")
        yield BAD, f"security updates wait for {shown}: unattended-upgrade --verbose, on the host, installs them."
    if days > limits["updates_days"]:
        yield BAD, f"nobody has looked for {days:.0f} days: systemctl status apt-daily.timer says why."
    if found["reboot"]:
        yield BAD, "the host waits to be rebooted."
    if not waiting and days <= limits["updates_days"] and not found["reboot"]:
        yield OK, "no security update is missing"


def backup(facts: Facts, _limits: Facts) -> Said:
    found = facts["host"]["backup"]
    state = found["state"]
    if found["warn_hours"] is None:
        yield BAD, "nothing makes backups: run playbooks/site.yml."
        return
    timer = facts["host"]["units"]["ours"].get("salon-backup.timer", "")
    if timer != "active":
        yield BAD, "no backup is made by itself: systemctl start salon-backup.timer, or see to backup_timer."
    if not state.get("made_at"):
        yield BAD, state.get("error") or "there is none yet: run playbooks/backup.yml."
        return
    hours = (facts["now"] - datetime.datetime.fromisoformat(state["made_at"]).timestamp()) / 3600
    if state.get("error") and not found["running"]:
        yield BAD, f"the last one has failed: {state['error']}"
    if hours > found["warn_hours"]:
        yield BAD, f"the newest is {_age(hours)} old: systemctl status salon-backup.timer salon-backup.service"
    for warning in state.get("warnings", []):
        yield BAD, f"in the newest, {warning}."
    if hours <= found["warn_hours"] and (found["running"] or not state.get("error")) and not state.get("warnings"):
        where = f"in {state['elsewhere']['repository']} too" if state.get("elsewhere") else "on the host only"
        yield OK if state.get("elsewhere") else NOTE, f"{_age(hours)} old, {_amount(state['bytes'])}, {where}"


def drift(facts: Facts, _limits: Facts) -> Said:
    found = facts["drift"]
    if not found:
        yield NOTE, "not looked at"
    elif found["error"]:
        yield BAD, f"playbooks/site.yml cannot be run: {found['error']}"
    elif found["changes"]:
        shown = "; ".join(found["changes"][:5]) + ("; …" if len(found["changes"]) > 5 else "")
        yield BAD, f"playbooks/site.yml would change {len(found['changes'])} things: {shown}."
    else:
        yield OK, "playbooks/site.yml would change nothing"


def versions(facts: Facts, _limits: Facts) -> Said:
    found = facts["host"]["versions"]
    for unit in found["others"]:
        yield BAD, f"{unit} runs another release than the current one: systemctl restart {unit}"
    shown = ", ".join(f"{name} {version}" for name, version in sorted(found["packages"].items()))
    yield OK, f"release {found['release']}, Debian {found['debian']}, Linux {found['kernel']}, {shown}"


RULES = (*(dns, certificate, https, wss, processes, clock, disk, memory, units, updates, backup, drift, versions),)


def _amount(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _age(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:.0f} minutes"
    return f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"


def report(findings: Sequence[Finding], host: str, seconds: float) -> list[str]:
    """The lines that a person reads: what is to be seen to comes last, where the eye is."""
    bad = [finding for finding in findings if finding.level == BAD]
    said = f"{len(bad)} to be seen to" if bad else "all is well"
    return [
        *(str(finding) for finding in findings if finding.level != BAD),
        *(str(finding) for finding in bad),
        f"{host}: {said}, looked at in {seconds:.0f} s.",
    ]


# Asking


def addresses_of(name: str) -> list[str]:
    """Where a name leads; an address leads to itself."""
    try:
        return sorted({found[4][0] for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})
    except OSError:
        return []


def plain(address: str, port: int, name: str, timeout: float) -> dict[str, Any]:
    """What plain HTTP answers."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        connection.request("GET", "/", headers={"Host": name})
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        return {"status": 0, "location": "", "said": f"{type(error).__name__}: {error}"}
    else:
        return {
            "status": answer.status,
            "location": answer.getheader("Location", ""),
            "said": f"answered with {answer.status}",
        }
    finally:
        connection.close()


@dataclass(frozen=True)
class Door:
    """How people come in, as it is tried from here."""

    domain: str
    names: Sequence[str]
    url: str
    authority: str
    origins: Sequence[str]
    host: str
    http_port: int
    is_external: bool
    probe: Path
    timeout: float

    def look(self, people: Any, own_addresses: Sequence[str]) -> dict[str, Any]:
        """What came of trying it; `people` are two who may talk."""
        own = addresses_of(self.host) or list(own_addresses)
        # Not where the name leads: whether it leads here is another question. Behind a proxy, that is the way in.
        address = "" if self.is_external or not own else own[0]
        with ThreadPoolExecutor() as pool:
            names = {name: pool.submit(addresses_of, name) for name in self.names}
            origins = {origin: pool.submit(self.talk, people, address, origin) for origin in self.origins}
            foreign = pool.submit(self.talk, people, address, FOREIGN)
            redirect = pool.submit(plain, address or self.domain, self.http_port, self.domain, self.timeout)
            outcomes = {origin: outcome.result() for origin, outcome in origins.items()}
            sentences = [outcome["sentence"] for outcome in (*outcomes.values(), foreign.result())]
            return {
                "own": own,
                "names": {name: found.result() for name, found in names.items()},
                "origins": outcomes,
                "foreign": foreign.result(),
                "people": bool(people),
                "plain": None if self.is_external else redirect.result(),
                "tls": next((sentence for sentence in sentences if "SSL" in sentence), ""),
            }

    def talk(self, people: Any, address: str, origin: str) -> dict[str, Any]:
        """What the probe says of the door, for a page of that origin."""
        options = [f"--url={self.url}", f"--origin={origin}", f"--timeout={self.timeout}"]
        options += [f"--address={address}"] if address else []
        options += [f"--authority={self.authority}"] if self.authority else []
        try:
            done = subprocess.run(  # nosec B603 # noqa: S603 (no shell, our own words)
                [sys.executable, "-I", "-S", str(self.probe), *options],
                input=json.dumps(people),
                capture_output=True,
                text=True,
                timeout=self.timeout * 3,
                check=False,
            )
            return json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            return {"ok": False, "seconds": self.timeout, "sentence": "it does not answer"}
        except ValueError:
            return {"ok": False, "seconds": 0, "sentence": done.stderr.strip()[-300:] or "the probe said nothing"}


def clock_off(now: float, before: float, after: float) -> float:
    """By how many seconds the host's clock is ahead, as far as that can be known of an answer under way so long."""
    return now - after if now > after else now - before if now < before else 0.0


TELLS = "Tell who reads them"
"""The end of the name of the tasks that notify handlers of what another one has written."""


def drift_of(output: str, returned: int, complaint: str) -> dict[str, Any]:
    """What a run that only looks would change, by the names of its tasks."""
    try:
        plays = json.loads(output[output.index("{") :])["plays"]
    except (ValueError, KeyError):
        words = " ".join((complaint or output).split())
        return {"changes": [], "error": words[-500:] or f"it ended with {returned}"}
    changes, errors = [], []
    for task in (task for play in plays for task in play["tasks"]):
        for host, outcome in task["hosts"].items():
            name = task["task"]["name"]
            if outcome.get("failed") or outcome.get("unreachable"):
                errors.append(f"{host}: {name}: {outcome.get('msg') or 'failed'}")
            elif outcome.get("changed") and not name.endswith(TELLS):
                parts = outcome.get("paths") or [part for part in map(label, changed_parts(outcome)) if part]
                changes.append(name + (f" ({', '.join(parts)})" if parts else ""))
    return {"changes": changes, "error": " ".join(errors[:1])}


def changed_parts(outcome: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return [part for part in outcome.get("results", []) if isinstance(part, dict) and part.get("changed")]


def label(part: Mapping[str, Any]) -> str:
    """What a task's loop was at: a file is called by its path on the host."""
    item = part.get("item", "")
    if isinstance(item, dict):
        return f"/{item['path']}".replace("//", "/") if "path" in item else ""
    return str(item)


class ActionModule(ActionBase):
    """Asks and judges; `report` is what a person reads, `bad` what is to be seen to."""

    TRANSFERS_FILES = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        given = self._task.args
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            looking = self._begin_drift(stack, given) if given["drift"] else None
            before = time.time()
            asked = self._ask(given["host_program"], given["host_config"], task_vars)
            after = time.time()
            if "host" not in asked:
                return result | {"failed": True, "msg": asked["msg"]}
            host = asked["host"]
            people = host["conversation"].get("people")
            door = Door(**{**given["door"], "probe": Path(given["door"]["probe"])}).look(people, host["addresses"])
            # They could write: what is told of them is only that they are there.
            host["conversation"]["people"] = bool(people)
            facts = {
                "host": host,
                "door": door,
                "now": after,
                "clock_off": clock_off(host["now"], before, after),
                "drift": looking.result() if looking else None,
            }
        findings = judge(facts, given["limits"])
        return result | {
            "changed": False,
            "facts": facts,
            "report": report(findings, given["name"], time.monotonic() - began),
            "bad": [f"{finding.what}: {finding.sentence}" for finding in findings if finding.level == BAD],
        }

    def _ask(self, program: str, config: Mapping[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """What the host says of itself, by one command there."""
        answer = self._execute_module(
            module_name="ansible.legacy.command",
            module_args={
                "argv": ["python3", "-I", "-", json.dumps(dict(config))],
                "stdin": Path(program).read_text(),
                "_uses_shell": False,
            },
            task_vars=task_vars,
        )
        try:
            return {"host": json.loads(answer["stdout"])}
        except (KeyError, ValueError):
            return {"msg": answer.get("stderr") or answer.get("msg") or "the host says nothing of itself"}

    def _begin_drift(self, stack: contextlib.ExitStack, given: Mapping[str, Any]) -> Future[dict[str, Any]]:
        """Let playbooks/site.yml look, meanwhile, with what this run was given to come in and to open secrets with."""
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="salon-check-")))
        words = [word for source in given["inventories"] for word in ("--inventory", source)]
        for option, secret in self._passwords():
            words.append(f"--{option}={_kept(place / option, secret)}")
        vaults = VaultSecretsContext.current(optional=True)
        for number, (identity, secret) in enumerate(vaults.secrets if vaults else []):
            words.append(f"--vault-id={identity or 'default'}@{_kept(place / f'vault{number}', secret.bytes.decode())}")
        if extra := load_extra_vars(DataLoader()):
            words.append(f"--extra-vars=@{_kept(place / 'extra.json', json.dumps(extra, default=str))}")
        pool = stack.enter_context(ThreadPoolExecutor(1))
        return pool.submit(_look, [given["playbook"], "--check", *words])

    def _passwords(self) -> Iterator[tuple[str, str]]:
        """What somebody has typed at the start of this run."""
        asked: tuple[tuple[str, Callable[[], Any]], ...] = (
            ("become-password-file", lambda: self._connection.become.get_option("become_pass")),
            ("connection-password-file", lambda: self._connection.get_option("password")),
        )
        for option, ask in asked:
            # A connection or a way to become root that knows no passwords has none.
            with contextlib.suppress(KeyError, AttributeError):
                if secret := ask():
                    yield option, str(secret)


def _kept(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def _look(words: Sequence[str]) -> dict[str, Any]:
    # What else an operator has turned on would write into what is read here; to name nothing is an error.
    environment = {name: value for name, value in os.environ.items() if name != "ANSIBLE_CALLBACKS_ENABLED"} | {
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_DEPRECATION_WARNINGS": "0",
    }
    try:
        done = subprocess.run(  # nosec B603 # noqa: S603 (no shell, our own words)
            [str(Path(sys.executable).with_name("ansible-playbook")), *map(str, words)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"changes": [], "error": f"it takes longer than {LONGEST} s"}
    return drift_of(done.stdout, done.returncode, done.stderr)
