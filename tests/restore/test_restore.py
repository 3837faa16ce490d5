"""A Debian 12 is backed up while people write, and a bare Debian 13 has it all again."""

import asyncio
import http.client
import json
import re
import socket
import subprocess
import uuid
from types import SimpleNamespace

import pytest
from conftest import DOMAIN, STORE

from faults import population
from faults.checker import check
from faults.crowd import Crowd
from faults.events import Acknowledged
from faults.testhost import Host
from trust import trusting
from waiting import wait_until

PICTURE = bytes(range(256)) * 4096

COUNT = """
import json
from chat.models import *
print(json.dumps([kind.objects.count() for kind in (User, ChatRoom, ChatMessage, Attachment)]))
"""


class Person:
    """Somebody who calls the HTTP API of a host, and trusts one authority."""

    def __init__(self, place, token, authority):
        self.place, self.token = place, token
        self.trust = trusting(cadata=authority)

    def call(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection(DOMAIN, timeout=30)
        plain = socket.create_connection((self.place.address, 443), timeout=30)
        try:
            connection.sock = self.trust.wrap_socket(plain, server_hostname=DOMAIN)
            connection.request(method, path, body, {"Authorization": f"Bearer {self.token}", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
            plain.close()

    def send_file(self, room, content):
        """Send a message with a file; returns the path that the file has."""
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="chat_room_id"\r\n\r\n{room}\r\n'.encode(),
            f'--{boundary}\r\nContent-Disposition: form-data; name="attachment"; filename="a.bin"\r\n\r\n'.encode(),
            content,
            f"\r\n--{boundary}--\r\n".encode(),
        ]
        kind = f"multipart/form-data; boundary={boundary}"
        status, answer = self.call("POST", "/chats/messages/create/", b"".join(parts), **{"Content-Type": kind})
        assert status == 201, answer
        return re.sub(r"^https://[^/]+", "", json.loads(answer)["attachment_url"])


@pytest.fixture(scope="session")
def old(place):
    made = place("salon-old")
    # What an earlier run has left there was for other secrets; and the two hosts' users have other numbers.
    made.shell(f"rm -rf {STORE} && install -d -m 0777 {STORE}")
    made.playbook("site")
    return made


@pytest.fixture(scope="session")
def life(old):
    """What happened on the old host: who was there, what they noted, and what was backed up."""

    async def live():
        host = Host(old.name, DOMAIN)
        places = population.SCRIPT.format(places="[[0, 1], [0], [1]]", rooms=2)
        seats = population.seats(await host.shell("salon shell --verbosity 0", places))
        # Before they begin to note what they see.
        picture = await asyncio.to_thread(Person(old, seats[0].token, authority).send_file, seats[0].rooms[0], PICTURE)
        async with Crowd(seats, await host.door(), seed=1) as crowd:
            crowd.begin_diaries()
            crowd.start_writing()
            await crowd.all_lively(30)
            # One while they write, which is of one moment all the same, and one of all that they wrote.
            await asyncio.to_thread(old.playbook, "backup")
            crowd.stop_writing()
            await crowd.all_answered(15)
            await crowd.all_caught_up(await host.highest(crowd.rooms), 15)
            diaries = crowd.end_diaries()
        return seats, diaries, picture

    authority = old.shell("cat /etc/salon/tls/ca.pem")
    seats, diaries, picture = asyncio.run(live())
    counted = old.shell("salon shell --verbosity 0", input=COUNT)
    old.playbook("backup")
    return SimpleNamespace(
        seats=seats,
        diaries=diaries,
        authority=authority,
        picture=picture,
        counted=counted.splitlines()[-1],
        id=json.loads(old.shell("salon-backup state"))["id"],
    )


@pytest.fixture(scope="session")
def new(place, life):
    """A bare host of another Debian, made ready, and what its playbook says when nobody has confirmed."""
    made = place("salon-new")
    made.playbook("site")
    return made


@pytest.fixture(scope="session")
def restored(new, life):
    said, _ = new.playbook("restore", "--extra-vars", f"restore_confirm={DOMAIN} restore_from=restic")
    return said


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
    before = new.shell("ls /var/backups/salon").split()
    # The repository belongs to the old host's user.
    new.playbook("site", "--tags", "backup", "--extra-vars", "backup_restic_repository=")
    new.shell(
        "mkdir -p /run/systemd/system/salon-backup.timer.d && printf '[Timer]\\nOnCalendar=\\nOnCalendar=*:*:0/5\\n"
        "RandomizedDelaySec=0\\nAccuracySec=1s\\n' >/run/systemd/system/salon-backup.timer.d/often.conf"
        " && systemctl daemon-reload && systemctl restart salon-backup.timer"
    )
    try:
        wait_until(lambda: len(new.shell("ls /var/backups/salon").split()) > len(before), "the timer's backup", 60)
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
