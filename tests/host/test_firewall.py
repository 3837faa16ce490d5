"""What the firewall lets in, and what becomes of rules that let nobody in."""

import socket
from contextlib import contextmanager

import pytest

from waiting import wait_until


@pytest.fixture
def reachable(address):
    """Whether a new connection comes through to a port."""

    def reachable(port):
        try:
            socket.create_connection((address, port), timeout=1).close()
        except TimeoutError:
            return False
        return True

    return reachable


@contextmanager
def served(host, port):
    host.run_expect([0], f"systemd-run --unit squatter python3 -m http.server {port}")
    try:
        wait_until(lambda: host.socket(f"tcp://0.0.0.0:{port}").is_listening, "the squatter")
        yield
    finally:
        host.run_expect([0], "systemctl stop squatter.service")


def test_nothing_else_is_open(host, reachable):
    assert reachable(80)
    assert reachable(443)
    with served(host, 8765):
        assert not reachable(8765)


def test_a_refused_connection_is_told_and_a_ping_answered(host, reachable):
    """ssh has no server here, and is open: whoever comes is told that at once."""
    with pytest.raises(ConnectionRefusedError):
        reachable(22)


def test_rules_are_loaded_at_boot(host):
    assert host.service("nftables.service").is_enabled
    assert host.service("nftables.service").is_running


LOCKING_OUT = "sed '/tcp dport/d' /etc/nftables.conf >/run/locking-out.nft"


def test_rules_that_lock_out_go_back_by_themselves(host, reachable):
    before = host.check_output("nft list ruleset"), host.file("/etc/nftables.conf").content_string
    host.run_expect([0], f"{LOCKING_OUT} && salon-firewall try /run/locking-out.nft 4")
    assert not reachable(443)
    wait_until(lambda: reachable(443), "the rules of before")
    assert before == (host.check_output("nft list ruleset"), host.file("/etc/nftables.conf").content_string)
    late = host.run("salon-firewall confirm")
    assert late.rc == 1
    assert "those of before are back" in late.stderr


def test_a_second_trial_does_not_forget_the_rules_of_before(host, reachable):
    before = host.check_output("nft list ruleset")
    host.run_expect([0], f"{LOCKING_OUT} && salon-firewall try /run/locking-out.nft 60")
    host.run_expect([0], "salon-firewall try /run/locking-out.nft 60")
    assert not reachable(443)
    host.run_expect([0], "salon-firewall revert")
    assert reachable(443)
    assert host.check_output("nft list ruleset") == before


def test_rules_that_cannot_be_loaded_change_nothing(host):
    before = host.check_output("nft list ruleset")
    assert host.run("echo 'table inet salon {' >/run/broken.nft && salon-firewall try /run/broken.nft 60").rc != 0
    assert host.check_output("nft list ruleset") == before
    assert not host.file("/run/salon-firewall").exists


def test_what_was_tried_is_kept_once_it_is_confirmed(host, playbook, reachable):
    _, changed = playbook("--tags", "firewall", "--extra-vars", '{"firewall_public_ports": [80, 443, 8765]}')
    assert changed
    with served(host, 8765):
        assert reachable(8765)
    assert host.run("systemctl is-active salon-firewall-revert.timer").stdout.strip() == "inactive"
    playbook("--tags", "firewall")
    with served(host, 8765):
        assert not reachable(8765)
    assert playbook("--tags", "firewall")[1] == 0


@pytest.mark.parametrize(("text", "is_kept"), [("table inet own { }", True), ("table inet salon { }", False)])
def test_rules_of_the_operators_own_are_kept_beside_ours(host, text, is_kept):
    rules, kept = "/etc/nftables.conf", "/etc/nftables.conf.before-salon"
    host.run_expect([0], f"cp {rules} /run/ours.nft && echo '{text}' >{rules}")
    try:
        host.run_expect([0], "salon-firewall try /run/ours.nft 60")
        said = host.check_output("salon-firewall confirm")
        assert (kept in said, host.file(kept).exists) == (is_kept, is_kept)
        if is_kept:
            assert host.file(kept).content_string == f"{text}\n"
    finally:
        host.run_expect([0], f"install -m 0644 /run/ours.nft {rules} && rm -f {kept}")


def test_what_debian_has_shipped_is_not_kept(host):
    """The first run has found it there."""
    assert not host.file("/etc/nftables.conf.before-salon").exists


def test_tables_of_others_stay(host, playbook):
    host.run_expect([0], "nft add table inet others")
    try:
        host.run_expect([0], "systemctl reload nftables.service")
        host.run_expect([0], "systemctl restart nftables.service")
        assert "table inet others" in host.check_output("nft list tables")
        assert "table inet salon" in host.check_output("nft list tables")
    finally:
        host.run_expect([0], "nft delete table inet others")
