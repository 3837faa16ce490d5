"""What playbooks/check.yml says of a host that is broken in each of these ways: that way, and no other."""

import os
import re
from dataclasses import dataclass

import pytest

from restore.conftest import DOMAIN

RESTART = "systemctl restart 'daphne@*.service'"
RELOAD = "nginx -t -q && systemctl reload nginx"
NGINX = "/etc/nginx/conf.d/salon.conf"
RELEASE = 'rm -rf /opt/salon/releases/other && ln -sfn "$(cat /root/current)" /opt/salon/current'

# As apt has it from a repository: there need be no package for a look.
UPDATE = r"""
cp -a /var/lib/apt/lists /root/lists
mkdir -p /srv/repository && cd /srv/repository
printf 'Package: base-files\nVersion: 99\nArchitecture: amd64\nMaintainer: x\nFilename: ./x.deb\nSize: 1\n%s\n' \
    "SHA256: $(printf x | sha256sum | cut -d' ' -f1)" >Packages
printf 'Origin: Debian\nLabel: Debian-Security\nSuite: stable-security\nDate: %s\nSHA256:\n %s %s Packages\n' \
    "$(LC_ALL=C date -Ru)" "$(sha256sum Packages | cut -d' ' -f1)" "$(stat -c %s Packages)" >Release
echo 'deb [trusted=yes] file:/srv/repository ./' >/etc/apt/sources.list.d/broken.list
# What looks into the lists after every update does not know how to do so where there is no other one.
echo '#clear APT::Update::Post-Invoke-Success;' >/srv/repository/apt.conf
apt-get -qq -c /srv/repository/apt.conf \
    -o Dir::Etc::sourcelist=sources.list.d/broken.list -o Dir::Etc::sourceparts=- update
"""

# Who asks the host goes by another clock than Ansible does.
CLOCK = r"""
apt-get -qq install --no-install-recommends libfaketime >/dev/null 2>&1
printf '#!/bin/sh\nLD_PRELOAD=%s FAKETIME=-90s exec /usr/bin/python3 "$@"\n' \
    /usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1 >/usr/local/bin/python3
chmod +x /usr/local/bin/python3
"""


@dataclass(frozen=True)
class Way:
    """What breaks a host, what heals it, and what is said meanwhile; `areas` are the lines that may say it."""

    name: str
    breaks: str
    heals: str
    said: str
    areas: frozenset[str]
    options: tuple[str, ...] = ("--extra-vars", "check_drift=false")


def way(name, breaks, heals, said, *areas, **options):
    return Way(name, breaks, heals, said, frozenset(areas), **options)


WAYS = [
    way(
        "certificate",
        "cp /etc/salon/tls/salon.pem /root/salon.pem && openssl req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=x"
        f" -addext subjectAltName=DNS:{DOMAIN} -keyout /root/key -out /root/cert 2>/dev/null"
        f" && cat /root/key /root/cert >/etc/salon/tls/salon.pem && {RELOAD}",
        f"cat /root/salon.pem >/etc/salon/tls/salon.pem && {RELOAD}",
        "certificate: who connects is not shown one that can be trusted",
        *("certificate", "wss"),
    ),
    way(
        "http",
        f"cp {NGINX} /root/nginx && sed -i 's/return 30[18] .*;/return 404;/' {NGINX} && {RELOAD}",
        f"cat /root/nginx >{NGINX} && {RELOAD}",
        "https: plain http is not sent to https, but answered with 404",
        "https",
    ),
    way(
        "nginx",
        "systemctl stop nginx",
        "systemctl start nginx",
        "units: nginx.service is inactive",
        *("units", "https", "wss"),
    ),
    way(
        "origin",
        f"sed -i 's/^SALON_ALLOWED_ORIGINS=.*//' /etc/salon/salon.env && {RESTART}",
        f"echo \"SALON_ALLOWED_ORIGINS='https://frontend.test'\" >>/etc/salon/salon.env && {RESTART}",
        "wss: a browser at https://frontend.test is refused",
        "wss",
    ),
    way(
        "process",
        "systemctl stop daphne@1.socket daphne@1.service",
        "systemctl start daphne@1.socket daphne@1.service",
        "units: daphne@1.service is inactive",
        *("units", "processes"),
    ),
    way(
        "redis",
        "systemctl stop redis-server",
        "systemctl start redis-server",
        "processes: /run/salon/daphne-1.sock: two people cannot talk there",
        *("units", "processes", "wss"),
    ),
    way(
        "database",
        "systemctl stop 'postgresql@*'",
        # A pattern starts nothing that systemd has forgotten.
        'for version in /etc/postgresql/*; do systemctl start "postgresql@${version##*/}-main"; done',
        "processes: nobody could be made to talk",
        *("units", "processes", "wss"),
    ),
    way("clock", CLOCK, "rm /usr/local/bin/python3", "s behind this machine's", "clock"),
    way(
        "disk",
        "mount -t tmpfs -o size=1M full /var/backups/salon && head -c 1000000 /dev/zero >/var/backups/salon/zero",
        "umount /var/backups/salon",
        "disk: /var/backups/salon has",
        "disk",
    ),
    way(
        "memory",
        "sed -E 's/^(MemAvailable:).*/\\1 1024 kB/' /proc/meminfo >/root/meminfo"
        " && mount --bind /root/meminfo /proc/meminfo",
        "umount /proc/meminfo",
        "memory: 1 MB of",
        "memory",
    ),
    way(
        "unit",
        "systemd-run --quiet --unit broken false; until systemctl is-failed --quiet broken; do sleep 0.1; done",
        "systemctl reset-failed broken",
        "units: broken.service has failed",
        "units",
    ),
    way(
        "update",
        UPDATE,
        "rm -r /srv/repository /etc/apt/sources.list.d/broken.list /var/lib/apt/lists"
        " && mv /root/lists /var/lib/apt/lists",
        "updates: security updates wait for base-files",
        "updates",
    ),
    way("reboot", "touch /run/reboot-required", "rm /run/reboot-required", "waits to be rebooted", "updates"),
    way(
        "old backup",
        'cp -p /var/lib/salon-backup/state.json /root/ && sed -Ei \'s/"made_at": "2/"made_at": "1/\''
        " /var/lib/salon-backup/state.json",
        "cp -p /root/state.json /var/lib/salon-backup/state.json",
        "backup: the newest is",
        "backup",
    ),
    way(
        "failed backup",
        'cp -p /var/lib/salon-backup/state.json /root/ && sed -Ei \'s/"error": ""/"error": "The disk is full."/\''
        " /var/lib/salon-backup/state.json",
        "cp -p /root/state.json /var/lib/salon-backup/state.json",
        "backup: the last one has failed: The disk is full.",
        "backup",
    ),
    way(
        "no timer",
        "systemctl stop salon-backup.timer",
        "systemctl start salon-backup.timer",
        "backup: no backup is made by itself",
        "backup",
    ),
    way(
        "drift",
        "echo '# by hand' >>/etc/sysctl.d/60-salon.conf",
        "sed -i '$d' /etc/sysctl.d/60-salon.conf",
        "common : Write the files (/etc/sysctl.d/60-salon.conf)",
        "drift",
        options=(),
    ),
    way(
        "release",
        "readlink /opt/salon/current >/root/current && cp -al $(cat /root/current) /opt/salon/releases/other"
        " && ln -sfn /opt/salon/releases/other /opt/salon/current",
        RELEASE,
        "versions: daphne@1.service runs another release",
        "versions",
    ),
]


@pytest.fixture(scope="module")
def check(new, restored, tmp_path_factory):
    """What is to be seen to, by its area, of a host whose name leads to it, and how it was said."""
    # Backups of its own: the store is the old host's.
    new.playbook("site", "--extra-vars", "backup_restic_repository=")
    new.playbook("backup")
    hosts = tmp_path_factory.mktemp("names") / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{new.address} {DOMAIN}\n")
    namespace = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    known = [*namespace, "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$0" "$@"']

    def check(*options, around=known):
        given = ["--extra-vars", "backup_restic_repository=", *options]
        said, changed = new.playbook("check", *given, succeeds=None, around=around)
        assert changed == 0
        return set(re.findall(rf"{new.name}: (\w+): ", said)), said

    return check


def test_a_host_that_is_well_has_nothing_to_be_seen_to(check):
    areas, said = check()
    assert areas == set(), said
    assert "salon-new: all is well" in said
    assert "drift playbooks/site.yml would change nothing" in said


def test_a_name_that_leads_nowhere(check):
    areas, said = check("--extra-vars", "check_drift=false", around=())
    assert areas == {"dns"}, said
    assert f"no name server knows {DOMAIN}" in said


@pytest.mark.parametrize("broken", WAYS, ids=lambda broken: broken.name)
def test_a_broken_host(check, new, broken):
    new.shell(broken.breaks)
    try:
        areas, said = check(*broken.options)
    finally:
        new.shell(broken.heals)
    assert broken.said in said
    assert areas <= broken.areas, said
