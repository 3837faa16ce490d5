"""Secrets: replaced while people write, and found nowhere that others could read. Last of all: see conftest.py."""

import asyncio
import json
import re
from types import SimpleNamespace

import jwt
import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from browser_session import BrowserSession
from target import Target
from test_network import dial
from websockets.exceptions import ConnectionClosed

from faults import population
from faults.checker import check
from faults.crowd import Crowd
from faults.events import Acknowledged, Closed
from faults.testhost import Host

PASSWORD = "a good long passphrase"


def opened(inventory):
    """What the file of the secrets holds."""
    password = VaultSecret((inventory.parent / "vault-password").read_bytes().strip())
    return yaml.safe_load(VaultLib([("default", password)]).decrypt((inventory / "secrets.yml").read_bytes()))


def values(secrets):
    """Each of them, whether it is in use or only accepted."""
    return {
        value
        for secret in secrets.values()
        for value in (secret["value"], *(old["value"] for old in secret["old"]), secret.get("next", secret["value"]))
    }


async def while_two_people_write(machine, act):
    """What `act` returns, which runs in a thread of its own; what they noted meanwhile; and what is stored."""
    host = Host(machine.name, machine.domain)
    places = population.SCRIPT.format(places="[[0], [0]]", rooms=1)
    seats = population.seats(await host.shell("salon shell --verbosity 0", places))
    async with Crowd(seats, await host.door(), seed=1) as crowd:
        crowd.begin_diaries()
        crowd.start_writing()
        await crowd.all_lively(30)
        result = await asyncio.to_thread(act)
        await crowd.all_lively(30)
        crowd.stop_writing()
        await crowd.all_answered(15)
        await crowd.all_caught_up(await host.highest(crowd.rooms), 15)
        diaries = crowd.end_diaries()
        return SimpleNamespace(
            result=result, diaries=diaries, stored=await host.stored(diaries[0].began), token=seats[0].token
        )


@pytest.fixture(scope="module")
def visitor(machine, host):
    """Somebody who has logged in before."""
    target = Target(
        urls=[f"https://{machine.domain}"],
        manage_command=["docker", "exec", "--interactive", machine.name, "salon"],
        authority=machine.authority,
        address=machine.address,
    )
    arguments = ("--role", "student", "--password-stdin")
    done = target.try_manage("create_user", "visitor", *arguments, stdin=f"{PASSWORD}\n")
    assert done.returncode == 0 or "exists" in done.stderr, done.stderr
    browser = BrowserSession(target)
    browser.login("visitor", PASSWORD)
    return browser


@pytest.fixture(scope="module")
def rotation(machine, inventory, playbook, visitor):
    """All secrets replaced, as talkative as Ansible is: what was there before and after, and what came of it."""
    before = opened(inventory)
    went = asyncio.run(
        while_two_people_write(
            machine, lambda: playbook("--diff", "-vvv", "--extra-vars", "rotate=all", name="rotate")[0]
        )
    )
    return SimpleNamespace(before=before, after=opened(inventory), said=went.result, went=went)


def test_every_secret_is_another_one(rotation):
    before, after = (
        {secret["value"] for name, secret in kept.items() if name != "backup"}
        for kept in (rotation.before, rotation.after)
    )
    assert not before & after


def test_what_opens_the_backups_of_before_stays_and_they_get_the_new_ones(rotation, host, inventory):
    assert rotation.after["backup"] == rotation.before["backup"]
    assert host.file("/etc/salon/secrets.yml").content == (inventory / "secrets.yml").read_bytes()


def test_none_is_left_out(rotation):
    assert rotation.after.keys() == rotation.before.keys()


def test_no_message_is_lost(rotation):
    went = rotation.went
    assert check(went.diaries, went.stored) == []
    for diary in went.diaries:
        assert sum(isinstance(event, Acknowledged) for event in diary.events) >= 10
        # Whom a process that restarts has closed, it has told why.
        assert {event.code for event in diary.events if isinstance(event, Closed)} <= {1012}
    assert any(isinstance(event, Closed) for diary in went.diaries for event in diary.events)


def pong(client):
    client.send(json.dumps({"type": "ping", "data": {}}))
    return any(json.loads(client.recv(timeout=10))["type"] == "pong" for _ in range(5))


def test_nobody_is_logged_out(rotation, visitor, address, domain, trust):
    # A page comes back by its WebSocket first.
    for _ in range(2):
        headers = {"Cookie": visitor.cookie_header}
        with dial(address, domain, trust, origin=f"https://{domain}", headers=headers) as client:
            assert pong(client)
    for _ in range(3):
        assert visitor.get("/")[0] == 200
    with dial(address, domain, trust, f"?token={rotation.went.token}") as client:
        assert pong(client)


def test_the_new_keys_sign(rotation, host, processes, token):
    fresh = host.check_output("salon create_token witness")
    assert jwt.decode(fresh, rotation.after["token_key"]["value"], algorithms=["HS256"])
    for number in processes:
        pid = host.check_output(f"systemctl show --property MainPID --value daphne@{number}.service")
        environment = host.check_output(f"tr '\\0' '\\n' </proc/{pid}/environ").splitlines()
        assert f"SALON_SECRET_KEY={rotation.after['secret_key']['value']}" in environment
        assert f"SALON_SECRET_OLD_KEYS={rotation.before['secret_key']['value']}" in environment


def test_it_says_until_when_the_old_ones_are_needed(rotation):
    said = " ".join(rotation.said.split())
    for name in ("secret_key", "token_key"):
        [old] = rotation.after[name]["old"]
        assert re.search(rf"{name} \([\w ]+\): since [\d-]+; an old one is accepted still", said)
        assert f"not needed from {old['ends']} on: -e rotate_end={name}" in said


def test_an_old_one_is_forgotten_when_it_is_time_and_not_before(rotation, playbook, address, domain, trust, inventory):
    said, _ = playbook("--extra-vars", "rotate_end=token_key", name="rotate", succeeds=False)
    assert "The old token_key may be needed until" in " ".join(said.split())
    said, _ = playbook("--extra-vars", "rotate_end=token_key rotate_now=true", name="rotate")
    assert opened(inventory)["token_key"]["old"] == []
    with dial(address, domain, trust, f"?token={rotation.went.token}") as client:
        with pytest.raises(ConnectionClosed) as end:
            pong(client)
        assert end.value.rcvd.code == 4401


# What is given to it on standard input it looks for where it should not be; it never writes it.
LOOK = r"""
import grp, json, os, pathlib, pwd, stat, subprocess, sys

needles = [needle.encode() for needle in json.load(sys.stdin)]
list_of_them = pathlib.Path("/run/salon-needles")
list_of_them.touch(0o600)
list_of_them.write_bytes(b"\n".join(needles))
found = []

def holds(what, *command):
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    found.extend([what] if any(needle in said for needle in needles) else [])

files = subprocess.run(
    "find / -xdev '(' -path /proc -o -path /sys ')' -prune -o -type f -not -path /run/salon-needles -print0;"
    "find /run /tmp -xdev -type f -not -path /run/salon-needles -print0",
    shell=True, stdout=subprocess.PIPE, check=True,
).stdout
matching = subprocess.run(
    ["xargs", "-0", "grep", "-laFf", str(list_of_them)], input=files, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
).stdout
list_of_them.unlink()
for path in sorted(set(os.fsdecode(matching).splitlines())):
    seen = os.stat(path)
    owner, group = pwd.getpwuid(seen.st_uid).pw_name, grp.getgrgid(seen.st_gid).gr_name
    is_private = not seen.st_mode & (0o007 if owner == group else 0o077)
    if path.startswith("/var/log/") or path.startswith("/etc/systemd/") or not is_private:
        found.append(f"{path} ({stat.filemode(seen.st_mode)} {owner}:{group})")

holds("the journal", "journalctl", "--all", "--output", "export")
holds("systemctl show", "systemctl", "show", "--all", "*")
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        command, environment = ((process / name).read_bytes() for name in ("cmdline", "environ"))
        owner = pwd.getpwuid(process.stat().st_uid).pw_name
    except OSError:
        continue
    if any(needle in command for needle in needles):
        found.append(f"the arguments of {command.split(bytes(1))[0].decode()}")
    if owner != "salon" and any(needle in environment for needle in needles):
        found.append(f"the environment of {command.split(bytes(1))[0].decode()} of {owner}")
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def needles(rotation, host, inventory):
    """All that is secret on the host, as it is and as it was; and what opens the file of the secrets."""
    # A key may stand in one file with its certificate; its last line is its public half.
    key = "sed -n '/BEGIN .*PRIVATE KEY/,/END .*PRIVATE KEY/p' $file | grep -v -- ----- | head --lines=-1"
    lines = host.check_output(f"for file in /etc/salon/tls/*; do {key}; done").splitlines()
    assert len(lines) >= 4
    kept = values(rotation.before) | values(rotation.after)
    assert len(kept) >= 2 * len(rotation.before) - 1
    return [*kept, *lines, (inventory.parent / "vault-password").read_text().strip()]


@pytest.fixture(scope="module")
def exposed(machine):
    """Where some of these can be read by others."""

    def exposed(needles):
        async def look():
            # Its own arguments are on the host's list of processes: what it looks for must not be among them.
            await host.shell("cat >/run/salon-look.py", LOOK)
            return await host.shell("python3 /run/salon-look.py", json.dumps(needles))

        host = Host(machine.name, machine.domain)
        return json.loads(asyncio.run(look()))

    return exposed


def test_no_secret_can_be_read_by_others(needles, exposed):
    assert exposed(needles) == []


def test_one_that_could_be_is_found(host, exposed):
    needle = "a-secret-that-somebody-was-careless-with"
    host.check_output(
        f"umask 022; echo {needle} >/etc/salon-careless; logger {needle};"
        f" systemd-run --quiet --unit careless --setenv CARELESS={needle} sleep 600"
    )
    try:
        found = exposed([needle])
    finally:
        host.check_output("rm /etc/salon-careless; systemctl stop careless")
    assert any(each.startswith("/etc/salon-careless (-rw-r--r--") for each in found), found
    assert {"the journal", "systemctl show", "the environment of /usr/bin/sleep of root"} <= set(found), found


def test_no_playbook_says_a_secret(checked, rotation, needles):
    for said in (rotation.said, checked[0]):
        assert "TASK [daphne : Write the files]" in said or "TASK [Write the application's files" in said
        assert not [needle for needle in needles if needle in said]


def test_only_the_password_opens_what_is_beside_the_inventory(inventory, needles):
    for path in inventory.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [needle for needle in needles if needle.encode() in content], path


def test_no_log_of_the_whole_run_holds_a_token_or_a_cookie(host):
    tokens = r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.|(sessionid|csrftoken)=."
    sessions = host.check_output(
        "runuser -u postgres -- psql --no-psqlrc -qAtX salon -c 'select session_key from django_session'"
    ).split()
    assert sessions
    patterns = "|".join([tokens, *sessions])
    logs = "{ journalctl --all --output cat; find /var/log -type f -not -path '*/journal/*' -exec cat {} +; }"
    assert host.run(f"{logs} | grep -aE '{patterns}' | head -n 3").stdout == ""
    assert host.run(f"{logs} | grep -c .").stdout.strip() > "100"
