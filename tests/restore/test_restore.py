"""A Debian 12 is backed up while people write, and a bare Debian 13 has it all again."""

import asyncio
import json
import subprocess

from faults.checker import check
from faults.events import Acknowledged
from faults.testhost import Host
from restore.conftest import COUNT, DOMAIN, PICTURE, Person
from waiting import wait_until


def test_nothing_is_restored_that_nobody_has_confirmed(new, life):
    said, changed = new.playbook("restore", succeeds=False)
    assert f"If that is meant, say -e restore_confirm={DOMAIN}" in said
    assert life.id in said
    assert changed == 0


def test_everything_is_there(restored, new, life):
    assert new.shell("salon shell --verbosity 0", input=COUNT).splitlines()[-1] == life.counted
    assert f"backup {life.id}" in restored
    assert "two people have talked on every process" in restored


def test_no_message_that_was_acknowledged_is_missing(restored, new, life):
    began = {}
    for diary in life.diaries:
        for room, seq in diary.began.items():
            began[room] = min(seq, began.get(room, seq))
    assert check(life.diaries, asyncio.run(Host(new.name, DOMAIN).stored(began))) == []
    assert sum(isinstance(event, Acknowledged) for diary in life.diaries for event in diary.events) >= 10


def test_tokens_and_files_of_before_are_good(restored, new, life):
    person = Person(new, life.seats[0].token, life.authority)
    assert person.call("GET", life.picture) == (200, PICTURE)
    assert Person(new, "x" + life.seats[0].token, life.authority).call("GET", life.picture)[0] == 401


def test_the_new_host_goes_on(restored, new, life):
    """With the certificate of the authority that users trust already, new messages, and nothing to change."""
    person = Person(new, life.seats[0].token, life.authority)
    assert person.send_file(life.seats[0].rooms[0], b"after")
    said, changed = new.playbook("site", "--check")
    assert changed == 0, said


def test_a_damaged_backup_is_refused_before_anything_is_touched(restored, new, old, life, tmp_path):
    archive = tmp_path / "backup.tar"
    with archive.open("wb") as out:
        subprocess.run(["docker", "exec", old.name, "salon-backup", "export", life.id], stdout=out, check=True)
    content = bytearray(archive.read_bytes())
    # In the middle of the dump, which is the largest part beside the picture.
    at = content.index(b"PGDMP") + 2000
    content[at] ^= 1
    archive.write_bytes(content)
    new.shell(f"rm -r /var/backups/salon/{life.id}")
    what = (
        "systemctl show --property MainPID daphne@1; ls -i /var/lib/salon; runuser -u postgres -- psql -Atqc"
        " 'select oid, datname from pg_database order by 1'"
    )
    before = new.shell(what), new.shell("salon shell --verbosity 0", input=COUNT)
    said, _ = new.playbook(
        "restore", "--extra-vars", f"restore_confirm={DOMAIN} restore_from={archive} restore_id=latest", succeeds=False
    )
    assert "database.dump is not what was written" in said
    assert before == (new.shell(what), new.shell("salon shell --verbosity 0", input=COUNT))


def test_the_timer_makes_one(new, restored):
    """And a failed one is told of."""
    before = set(new.shell("ls /var/backups/salon").split())
    # The repository belongs to the old host's user.
    new.playbook("site", "--tags", "backup", "--extra-vars", "backup_restic_repository=")
    new.shell(
        "mkdir -p /run/systemd/system/salon-backup.timer.d && printf '[Timer]\\nOnCalendar=\\nOnCalendar=*:*:0/5\\n"
        "RandomizedDelaySec=0\\nAccuracySec=1s\\n' >/run/systemd/system/salon-backup.timer.d/often.conf"
        " && systemctl daemon-reload && systemctl restart salon-backup.timer"
    )
    try:
        # An older one of the same day may be gone by then.
        wait_until(lambda: set(new.shell("ls /var/backups/salon").split()) - before, "the timer's backup", 60)
    finally:
        new.shell(
            "rm -r /run/systemd/system/salon-backup.timer.d && systemctl daemon-reload"
            " && systemctl restart salon-backup.timer"
        )
    wait_until(lambda: json.loads(new.shell("salon-backup state"))["error"] == "", "its end", 60)


def test_a_failed_one_is_loud(new, restored):
    new.shell("mv /usr/bin/pg_dump /usr/bin/pg_dump.away")
    try:
        said, _ = new.playbook("backup", succeeds=False)
    finally:
        new.shell("mv /usr/bin/pg_dump.away /usr/bin/pg_dump")
    assert "pg_dump is not installed" in said
    assert new.shell("systemctl is-failed salon-backup.service || true") == "failed"
    wait_until(
        lambda: "has failed: The database could not be dumped" in new.shell("journalctl --unit 'salon-backup-tell@*'"),
        "the journal",
    )
    new.shell("systemctl reset-failed salon-backup.service")


def test_what_was_there_before_can_come_back(new, restored):
    new.shell("systemctl stop 'daphne@*.socket' 'daphne@*.service' && salon-backup undo")
    try:
        assert json.loads(new.shell("salon shell --verbosity 0", input=COUNT).splitlines()[-1])[3] == 0
    finally:
        new.shell(
            "salon-backup swap && systemctl start $(cd /etc/systemd/system/multi-user.target.wants && ls -d daphne@*)"
        )
    assert json.loads(new.shell("salon shell --verbosity 0", input=COUNT).splitlines()[-1])[3] > 1


def test_any_moment_comes_back(new, restored):
    wanted = ("--extra-vars", '{"postgresql_wal": true, "backup_restic_repository": ""}')
    new.playbook("site", "--tags", "postgresql,backup", *wanted)
    new.playbook("backup", *wanted)
    before = new.shell("salon shell --verbosity 0", input=COUNT).splitlines()[-1]
    moment = new.shell("sleep 1; date --iso-8601=ns; sleep 1").replace(",", ".")
    new.shell("salon shell --verbosity 0", input="from chat.models import *; Attachment.objects.all().delete()")
    said, _ = new.playbook(
        "restore", *wanted, "--extra-vars", json.dumps({"restore_confirm": DOMAIN, "restore_time": moment})
    )
    assert "two people have talked on every process" in said
    assert json.loads(new.shell("salon shell --verbosity 0", input=COUNT).splitlines()[-1])[3] == json.loads(before)[3]
