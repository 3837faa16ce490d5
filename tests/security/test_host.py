"""A finished host, reached by ssh: what strangers see of it, what lynis thinks of it, and who can lock whom out."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from security.report import REASONS, write

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = ROOT / "build/security/hosts.yml"
HOST = "salon-security"

LOWEST_INDEX = 80
"""Of 100, as lynis counts."""


def run(*command, succeeds=True, timeout=300):
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=timeout)
    assert (done.returncode == 0) == succeeds, done.stdout + done.stderr
    return done.stdout


def on(host, command):
    """What a shell there says, asked not over the network."""
    return run("docker", "exec", host, "sh", "-ec", command)


def playbook(*arguments, succeeds=True):
    """What it says, without the line breaks that Ansible puts in, and how much it has changed."""
    said = run("ansible-playbook", "playbooks/site.yml", "--inventory", str(INVENTORY), *arguments, succeeds=succeeds)
    return " ".join(said.split()), sum(map(int, re.findall(r"changed=(\d+)", said)))


@pytest.fixture(scope="module")
def address():
    return yaml.safe_load(INVENTORY.read_text())["all"]["hosts"][HOST]["ansible_host"]


@pytest.fixture(scope="module")
def findings():
    """What goes into the report, which is written when all is done."""
    found = {}
    yield found
    if {"index", "left", "stranger", "peer"} <= found.keys():
        write(ROOT / "docs/security-host.md", found)


def open_ports(said):
    return {int(port): name for port, name in re.findall(r"(\d+)/open/tcp//([\w-]*)", said)}


def scan(origin, address):
    """Every TCP port that somebody sees."""
    return open_ports(on(origin, f"nmap -Pn -n -sS -p- -T5 --min-rate 4000 --max-retries 2 -oG - {address}"))


def ssh(address, *options):
    given = ["-i", str(INVENTORY.parent / "key"), "-o", "ControlPath=none", "-o", "BatchMode=yes"]
    known = ["-o", f"UserKnownHostsFile={INVENTORY.parent / 'known_hosts'}", "-o", "ConnectTimeout=3"]
    command = ["ssh", *given, *known, *options, f"olga@{address}", "true"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_second_run_changes_nothing():
    assert playbook()[1] == 0
    assert playbook("--check", "--diff")[1] == 0


def test_a_stranger_sees_ssh_http_and_https(address, findings):
    findings["stranger"] = scan("salon-stranger", address)
    assert findings["stranger"] == {22: "ssh", 80: "http", 443: "https"}
    udp = on("salon-stranger", f"nmap -Pn -n -sU --top-ports 50 -T5 --max-retries 1 -oG - {address}")
    assert "/open/udp" not in udp


def test_a_host_of_the_inventory_sees_the_services_too(address, findings):
    findings["peer"] = scan("salon-peer", address)
    assert findings["peer"].keys() == {22, 80, 443, 5432, 6379}


def test_passwords_open_nothing(address):
    settings = on(HOST, "sshd -T").splitlines()
    for line in ("passwordauthentication no", "kbdinteractiveauthentication no", "permitrootlogin without-password"):
        assert line in settings
    refused = ssh(address, "-o", "PubkeyAuthentication=no")
    assert "Permission denied (publickey)" in refused.stderr


def test_networks_that_have_not_the_operator_do_not_lock_him_out(address):
    """The rules are tried, no new connection comes through, and those of before are back."""
    before = on(HOST, "nft list ruleset; cat /etc/nftables.conf")
    given = json.dumps({"firewall_ssh_networks": ["192.0.2.0/24"], "firewall_trial_seconds": 20})
    said, _ = playbook("--tags", "firewall", "--extra-vars", given, succeeds=False)
    assert "under the new rules of the firewall, no new connection reached it; those of before are back." in said
    assert "firewall_ssh_networks (192.0.2.0/24) has your address" in said
    assert ssh(address).returncode == 0
    assert on(HOST, "nft list ruleset; cat /etc/nftables.conf") == before


def test_ssh_for_some_networks_only(address):
    gateway = run("docker", "inspect", "--format", "{{.NetworkSettings.Gateway}}", HOST).strip()
    given = json.dumps({"firewall_ssh_networks": [f"{gateway}/32"]})
    playbook("--tags", "firewall", "--extra-vars", given)
    try:
        assert ssh(address).returncode == 0
        said = on("salon-stranger", f"nmap -Pn -n -p 22,443 -oG - {address}")
        assert open_ports(said).keys() == {443}
    finally:
        playbook("--tags", "firewall")
    assert playbook("--tags", "firewall")[1] == 0


def test_who_may_need_a_password_keeps_it(address):
    """A key that stands elsewhere than where it is looked for is none that is known."""
    home, elsewhere = "/home/olga/.ssh", "/etc/ssh/sshd_config.d/10-keys.conf"
    on(HOST, f"mv {home}/authorized_keys /etc/ssh/operator_keys")
    on(HOST, f"echo 'AuthorizedKeysFile /etc/ssh/operator_keys' >{elsewhere}; systemctl reload ssh.service")
    try:
        said, changed = playbook("--tags", "common")
        assert changed
        assert "olga has no key on salon-security, so ssh goes on taking passwords." in said
        assert "passwordauthentication yes" in on(HOST, "sshd -T").splitlines()
        playbook("--tags", "common", "--extra-vars", '{"common_ssh_has_other_way": true}')
        assert "passwordauthentication no" in on(HOST, "sshd -T").splitlines()
    finally:
        on(HOST, f"mv /etc/ssh/operator_keys {home}/authorized_keys; rm {elsewhere}; systemctl reload ssh.service")
    assert playbook("--tags", "common")[1] == 0
    assert on(HOST, "systemctl list-timers --plain --no-legend salon-sshd-revert.timer") == ""


def test_a_changed_file_of_a_package_is_noticed():
    on(HOST, "systemctl start salon-debsums.service")
    on(HOST, "cp -a /usr/bin/debsums /root/ && echo >>/usr/bin/debsums")
    try:
        on(HOST, "! systemctl start salon-debsums.service")
        assert "changed file /usr/bin/debsums (from debsums package)" in on(HOST, "journalctl -u salon-debsums -n 20")
    finally:
        on(HOST, "cp -a /root/debsums /usr/bin/ && systemctl reset-failed salon-debsums.service")


REDIS = "redis-cli --no-auth-warning -a known-to-the-tests -s /run/redis/redis-server.sock"


@pytest.fixture
def earlier():
    """A process of an earlier Salon, from when everybody who knew the password was the same to Redis."""
    opened = "user default on >known-to-the-tests ~* \\&* +@all"
    on(HOST, f"sed -i 's/^user default off$/{opened}/' /etc/redis/redis.conf; systemctl restart redis-server.service")

    def earlier(*options):
        on(HOST, f"systemd-run --quiet --collect --unit earlier {' '.join(options)} {REDIS} subscribe earlier")

    yield earlier
    on(HOST, "systemctl stop earlier.service || true")
    playbook("--tags", "redis")
    assert "NOAUTH" in on(HOST, "redis-cli -s /run/redis/redis-server.sock ping")


def test_redis_lets_in_who_has_no_name_until_an_earlier_salon_is_gone(earlier):
    earlier("--property=Restart=always", "--property=RestartSec=100ms")
    said, changed = playbook("--tags", "redis")
    assert changed
    assert "somebody is still connected to Redis without a name" in said
    assert on(HOST, f"{REDIS} ping").strip() == "PONG"


def test_redis_is_closed_in_the_run_that_restarts_an_earlier_salon(earlier):
    """This one ends with the connection that it has, as the processes do when they are restarted."""
    earlier("--property=Restart=no")
    said, _ = playbook("--tags", "redis")
    assert "without a name, so" not in said
    assert "NOAUTH" in on(HOST, "redis-cli -s /run/redis/redis-server.sock ping")
    assert playbook("--tags", "redis")[1] == 0


def audited():
    """What lynis writes down."""
    return on(HOST, "lynis audit system --quick --no-colors --quiet; cat /var/log/lynis-report.dat")


def index_of(report):
    [index] = re.findall(r"^hardening_index=(\d+)$", report, re.MULTILINE)
    return int(index)


def test_lynis(findings):
    on(HOST, "DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends lynis >/dev/null 2>&1")
    asked_everything = audited()
    run("docker", "cp", "tests/security/lynis.prf", f"{HOST}:/etc/lynis/custom.prf")
    report = audited()
    index = index_of(report)
    left = re.findall(r"^(warning|suggestion)\[\]=([^|]+)\|([^|]+)\|", report, re.MULTILINE)
    versions = on(HOST, "lynis show version; cat /etc/debian_version").split()
    tests = re.findall(r"^lynis_tests_done=(\d+)$", report, re.MULTILINE)
    nmap = on("salon-stranger", "nmap --version").split()[2]
    findings |= {
        "index": index,
        "whole_index": index_of(asked_everything),
        "left": left,
        "lynis": versions[0],
        "debian": versions[1],
        "nmap": nmap,
        "tests": tests,
    }
    unexplained = sorted({f"{kind} {test}: {text}" for kind, test, text in left if test not in REASONS})
    assert index >= LOWEST_INDEX, unexplained
    assert unexplained == []
