"""The units of the host, after all that the tests before have done to it."""

import json
import re

import managed
import pytest

LOOSEST = {"daphne@": 10, "nginx": 25}
"""Exposure from 0 (none) to 100 that a service of ours may have; each other one is below 30."""

SERVICES = sorted(
    {
        found[1]
        for file in managed.files(unwatched=True)
        if (found := re.match(r"/etc/systemd/system/([^/]+)\.service(\.d/[^/]+)?$", file.path))
    }
)
"""The services that we have written, or written a part of."""


def test_system_runs_without_a_failed_unit(host):
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""
    assert host.check_output("systemctl is-system-running") == "running"


@pytest.mark.parametrize("unit", ["redis-server.service", "postgresql.service", "nginx.service", "nftables.service"])
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


def test_files_of_packages_are_looked_at_every_week(host):
    """`make security-host` changes one of them."""
    assert host.service("salon-debsums.timer").is_running
    assert host.service("salon-debsums.timer").is_enabled


def test_backups_are_made_by_a_timer(host):
    assert host.service("salon-backup.timer").is_running
    assert host.service("salon-backup.timer").is_enabled
    host.run_expect([0], "systemctl start salon-backup.service")
    host.run_expect([0], "salon-backup verify")
    assert (
        int(host.check_output("salon shell -v 0 -c 'from chat.models import User; print(User.objects.count())'"))
        == (json.loads(host.check_output("salon-backup state"))["counts"]["users"])
    )


@pytest.mark.parametrize("service", SERVICES)
def test_sandbox(host, service):
    instance = {
        "daphne@": "1",
        "postgresql@": host.check_output("ls /etc/postgresql") + "-main",
        "salon-backup-tell@": "failure",
    }.get(service, "")
    judged = host.run(
        f"systemd-analyze security --no-pager --threshold={LOOSEST.get(service, 29)} {service}{instance}.service"
    )
    assert judged.rc == 0, judged.stdout


def test_units_are_sound(host):
    for number in (1, 2):
        verified = host.run(
            f"systemd-analyze verify --man=no daphne@{number}.service daphne@{number}.socket nginx.service"
            " salon-certificate.service salon-certificate.timer salon-debsums.service salon-debsums.timer"
            " salon-backup.service salon-backup.timer"
        )
        assert verified.rc == 0, verified.stderr


def test_journal_is_kept(host):
    assert host.file("/var/log/journal").is_directory
    assert "SystemMaxUse=1G" in host.check_output("systemd-analyze cat-config systemd/journald.conf")


def test_nobody_writes_its_memory_to_a_file(host):
    assert host.check_output("systemctl show --property DefaultLimitCORE --value") == "0"
    assert host.check_output("systemctl show --property LimitCORE --value redis-server.service") == "0"
    assert host.check_output("su - nobody --shell /bin/sh --command 'ulimit -H -c'") == "0"
    assert "Storage=none" in host.check_output("systemd-analyze cat-config systemd/coredump.conf")


def test_security_updates_come_by_themselves(host):
    said = host.check_output("apt-config dump")
    for line in (
        'APT::Periodic::Unattended-Upgrade "1";',
        'APT::Periodic::Update-Package-Lists "1";',
        'Unattended-Upgrade::Automatic-Reboot "true";',
        'Unattended-Upgrade::Automatic-Reboot-Time "03:30";',
    ):
        assert line in said.splitlines()
    assert "OnCalendar=*-*-* 02:30:00" in host.check_output(
        "systemctl show --property TimersCalendar apt-daily-upgrade.timer"
    )
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
        assert host.service(timer).is_enabled
    # It knows where security updates come from.
    assert "Debian-Security" in said


def test_clock_is_kept_right(host):
    assert host.service("systemd-timesyncd.service").is_enabled
