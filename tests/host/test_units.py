"""The units of the host, after all that the tests before have done to it."""

import pytest


def test_system_runs_without_a_failed_unit(host):
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""
    assert host.check_output("systemctl is-system-running") == "running"


@pytest.mark.parametrize("unit", ["redis-server.service", "postgresql.service", "nginx.service"])
def test_unit(host, unit):
    assert host.service(unit).is_running
    assert host.service(unit).is_enabled


def test_processes(host, processes):
    for number in processes:
        for kind in ("socket", "service"):
            unit = host.service(f"daphne@{number}.{kind}")
            assert unit.is_running
            assert unit.is_enabled


def test_processes_run_as_their_own_user(host, processes):
    for number in processes:
        pid = host.check_output(f"systemctl show --property MainPID --value daphne@{number}.service")
        assert host.check_output(f"stat --format %U:%G /proc/{pid}") == "salon:salon"


def test_certificate_is_renewed_by_a_timer(host):
    assert host.service("salon-certificate.timer").is_running
    assert host.service("salon-certificate.timer").is_enabled
    # Not yet time: it has nothing to do, and nothing to warn of.
    host.run_expect([0], "systemctl start salon-certificate.service")


def test_sandbox(host):
    """Exposure from 0 (none) to 10; the threshold is in tenths."""
    judged = host.run("systemd-analyze security --no-pager --threshold=10 daphne@1.service")
    assert judged.rc == 0, judged.stdout


def test_units_are_sound(host):
    for number in (1, 2):
        verified = host.run(
            f"systemd-analyze verify --man=no daphne@{number}.service daphne@{number}.socket nginx.service"
            " salon-certificate.service salon-certificate.timer"
        )
        assert verified.rc == 0, verified.stderr


def test_journal_is_kept(host):
    assert host.file("/var/log/journal").is_directory
    assert "SystemMaxUse=1G" in host.check_output("systemd-analyze cat-config systemd/journald.conf")
