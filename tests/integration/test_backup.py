"""A backup of a real database, with restic's store, and what comes back from it."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest
from services import PostgreSQL
from target import PROJECT, Target

from programs import load

program = load("salon_backup_program", "templates/usr/local/sbin/salon-backup.j2")

KEY = "k" * 64

FILL = """
from django.core.files.uploadedfile import SimpleUploadedFile
from chat import files
from chat.models import Attachment, ChatMessage, ChatRoom, User
from django.utils import timezone
one = User.objects.create(username="alice", first_name="Alicé 😀")
room = ChatRoom.objects.create(name="Class", extra_data={"a": [1, 2.5, None]}, last_seq=50)
for seq in range(1, 51):
    now = timezone.now()
    ChatMessage.objects.create(
        room=room, seq=seq, sender=one, content=f"Line\\n'{seq}' \\\\ ü", created_at=now, last_update=now)
for number in range(3):
    kept = files.store(SimpleUploadedFile(f"{number}.txt", b"file %d" % number), "attachment")
    Attachment.objects.create(
        uuid=kept.uuid, message=ChatMessage.objects.get(seq=number + 1), kind="attachment", name=kept.name,
        content_type=kept.content_type, size=kept.size)
"""


# As postgresql.conf has it on a host.
PUT_ASIDE = "gzip -c %p >{wal}/.new && mv {wal}/.new {wal}/%f.gz"


@pytest.fixture(scope="module")
def server():
    with PostgreSQL("archive_mode=on") as server:
        yield server


@pytest.fixture(scope="module")
def filled(server, tmp_path_factory):
    """The directory of a host whose database has people, messages and files in it."""
    root = tmp_path_factory.mktemp("host")
    target = Target(
        urls=[],
        manage_command=[sys.executable, str(PROJECT / "app" / "manage.py")],
        environment={"SALON_DATA_DIR": str(root / "var/lib/salon"), "DATABASE_URL": server.url},
    )
    target.manage("migrate", "--verbosity", "0")
    target.manage("shell", "--verbosity", "0", stdin=FILL)
    with psycopg.connect(server.url, autocommit=True) as connection:
        # As on a host.
        connection.execute("CREATE ROLE postgres SUPERUSER LOGIN")
    target.close()
    return root


@pytest.fixture
def host(filled, server, tmp_path, monkeypatch):
    for directory in ("etc/salon", "var/lib/salon-backup", "var/backups/salon", "credentials"):
        (tmp_path / directory).mkdir(parents=True)
    shutil.copytree(filled / "var/lib/salon", tmp_path / "var/lib/salon")
    config = {
        "host": "chat",
        "domain": "chat.example.org",
        "directory": "/var/backups/salon",
        "files": "/var/lib/salon/files",
        "wal": False,
        "wal_directory": "/var/backups/salon-wal",
        "cluster": "/var/lib/postgresql/salon-recover",
        "files_owner": [os.getuid(), os.getgid()],
        "release": "/opt/salon/current",
        "database": server.url,
        "name": "salon",
        "owner": "salon",
        "key": KEY,
        "keep": {"days": 7, "weeks": 4, "months": 12},
        "keep_free": 0,
        "restic": {"repository": "", "environment": {}, "options": [], "append_only": False},
        "commands": {"failure": "", "success": ""},
    }
    (tmp_path / "credentials/backup.json").write_text(json.dumps(config))
    (tmp_path / "credentials/salon.env").write_text("SALON_TOKEN_KEY='t'\n")
    (tmp_path / "credentials/secrets.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n00\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    as_postgres = program.as_postgres if os.geteuid() == 0 else lambda *command: command
    monkeypatch.setattr(
        program,
        "as_postgres",
        lambda *command: as_postgres("env", f"PGHOST={server.directory}", "PGUSER=salon", *command),
    )
    host = program.Host(tmp_path)
    # Where PostgreSQL's own user comes.
    host.wal, host.cluster = server.directory / "wal", server.directory / "recover"
    return host


@pytest.fixture
def wait_a_second():
    """A backup is called by the second in which it was begun."""

    def wait():
        time.sleep(1.01 - time.time() % 1)

    return wait


def contents(server, database="salon"):
    with psycopg.connect(f"{server.url.replace('/salon?', f'/{database}?')}") as connection:
        return connection.execute("SELECT seq, content, uuid FROM chat_chatmessage ORDER BY seq").fetchall()


def files_of(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_all_of_it_comes_back(host, server):
    before, files = contents(server), files_of(host.live_files)
    report = host.make()
    assert report["counts"] == {"users": 1, "rooms": 1, "messages": 50, "files": 3}
    assert report["warnings"] == []
    backup = host.backup("latest")
    assert list(backup.faults()) == []
    done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=backup.place, check=False)
    assert done.returncode == 0
    assert host.unsealed("latest") == {"salon.env": b"SALON_TOKEN_KEY='t'\n"}

    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("DELETE FROM chat_attachment")
        connection.execute("UPDATE chat_chatmessage SET content = 'gone'")
    shutil.rmtree(host.live_files)
    staged = host.stage("latest")
    assert staged["known_key"]
    assert {content for _, content, _ in contents(server)} == {"gone"}
    host.swap()
    assert contents(server) == before
    assert files_of(host.live_files) == files

    # And what was there before the restore, again.
    host.live_files.with_name("files.before").mkdir()
    host.undo()
    assert {content for _, content, _ in contents(server)} == {"gone"}
    host.stage("latest")
    host.swap()
    assert contents(server) == before


def test_a_backup_is_of_one_moment_while_people_write(host, server):
    done = threading.Event()

    def write():
        with psycopg.connect(server.url, autocommit=True) as connection:
            number = 0
            while not done.is_set():
                number += 1
                with connection.transaction():
                    connection.execute("UPDATE chat_user SET last_name = %s", [str(number)])
                    connection.execute("UPDATE chat_chatroom SET details = %s", [str(number)])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        host.make()
    finally:
        done.set()
        writer.join()
    # It compares what was dumped with what was counted.
    host.stage("latest")
    with psycopg.connect(server.url.replace("/salon?", "/salon_restoring?")) as connection:
        [one] = connection.execute("SELECT last_name FROM chat_user").fetchone()
        [other] = connection.execute("SELECT details FROM chat_chatroom").fetchone()
    assert one == other != ""
    host.discard()


def test_what_differs_from_the_backup_is_refused_and_touches_nothing(host, server, monkeypatch):
    host.make()
    before = contents(server)
    measured = program.measured

    def otherwise(ask):
        found = measured(ask)
        found["chat_user"]["digest"] = "1"
        return found

    monkeypatch.setattr(program, "measured", otherwise)
    with pytest.raises(program.TroubleError, match="the rows of chat_user are not those of the backup"):
        host.stage("latest")
    assert contents(server) == before


def test_a_file_that_is_lost_is_told_of(host):
    [lost, *_] = sorted(path for path in host.live_files.rglob("*") if path.is_file())
    lost.unlink()
    report = host.make()
    assert "the bytes of 1 files of messages are not on the host" in report["warnings"][0]
    assert host.backup("latest").manifest()["files"]["missing"] == [lost.relative_to(host.live_files).as_posix()]
    assert list(host.backup("latest").faults()) == []


def test_a_damaged_dump_is_refused(host, wait_a_second):
    host.make()
    dump = host.backup("latest").dump
    content = bytearray(dump.read_bytes())
    content[len(content) // 2] ^= 1
    dump.write_bytes(content)
    with pytest.raises(program.TroubleError, match=r"database\.dump is not what was written"):
        host.stage("latest")
    # The next one is whole again.
    wait_a_second()
    host.make()
    assert list(host.backup("latest").faults()) == []


def test_no_database_is_told_of(host):
    host.config["database"] = "postgresql:///salon?host=/nowhere"
    with pytest.raises(program.TroubleError, match=r"The database does not answer the backup: .*No such file"):
        host.make()
    assert "does not answer" in host.state()["error"]
    assert host.backups() == []
    assert not list(host.directory.glob(".partial-*"))


class TestMoments:
    """Of moments between two backups."""

    @pytest.fixture
    def host(self, host, server):
        host.config["wal"] = True
        if not host.wal.exists():
            subprocess.run(program.as_postgres("mkdir", str(host.wal)), check=True)
            program.postgres("postgres", f"ALTER SYSTEM SET archive_command = '{PUT_ASIDE.format(wal=host.wal)}'")
            program.postgres("postgres", "SELECT pg_reload_conf()")
        return host

    @pytest.fixture
    def at(self, server):
        """Write something, and say which moment it was after."""

        def at(text):
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("UPDATE chat_user SET last_name = %s", [text])
                time.sleep(0.05)
                return connection.execute("SELECT clock_timestamp()").fetchone()[0]

        return at

    def test_one_comes_back(self, host, server, at, wait_a_second):
        at("before")
        host.make()
        first, second, _ = at("first"), at("second"), at("third")
        [sent, *_] = sorted(path for path in host.live_files.rglob("*") if path.is_file())
        sent.unlink()
        for moment, expected in ((first, "first"), (second, "second")):
            wait_a_second()
            identity = host.recover(moment)
            assert host.backup(identity).manifest()["files"] == {**host.backups()[0].manifest()["files"]}
            host.stage(identity)
            with psycopg.connect(server.url.replace("/salon?", "/salon_restoring?")) as connection:
                assert connection.execute("SELECT last_name FROM chat_user").fetchone() == (expected,)
        assert not host.cluster.exists()
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT last_name FROM chat_user").fetchone() == ("third",)
        host.discard()

    def test_one_before_the_first_backup_is_not_known(self, host):
        with pytest.raises(program.TroubleError, match="does not know that moment: no backup has a part of it"):
            host.recover(program.now())
        host.make()
        with pytest.raises(program.TroubleError, match="it reaches back to "):
            host.recover(program.moment_of("2026-01-01 00:00"))

    def test_one_that_is_still_to_come_is_not_known(self, host, at):
        host.make()
        later = at("last")
        with pytest.raises(program.TroubleError, match="Nothing is known of that moment"):
            host.recover(later.replace(year=later.year + 1))
        assert len(host.backups()) == 1

    def test_what_no_backup_needs_of_the_log_is_removed(self, host, at, wait_a_second):
        host.config["keep"] = {"days": 1, "weeks": 0, "months": 0}
        host.make()
        at("more")
        program.flush_log()
        before = {path.name for path in host.wal.iterdir()}
        wait_a_second()
        host.make()
        assert len(host.backups()) == 1
        assert before - {path.name for path in host.wal.iterdir()}
        moment = at("after")
        at("later")
        host.recover(moment)


class TestElsewhere:
    @pytest.fixture
    def host(self, host, tmp_path):
        host.config["restic"]["repository"] = str(tmp_path / "store")
        return host

    def test_it_is_brought_there_and_back(self, host, wait_a_second):
        report = host.make()
        assert report["elsewhere"]["repository"] == host.config["restic"]["repository"]
        wait_a_second()
        again = host.make()
        # Nothing is stored twice: the dump alone is another one.
        assert again["elsewhere"]["added"] < report["elsewhere"]["added"]
        kept = files_of(host.directory / again["id"])
        for backup in host.backups():
            shutil.rmtree(backup.place)
        fetched = program.Store(host).fetch("latest")
        assert fetched.id == again["id"]
        assert files_of(fetched.place) == kept
        assert list(fetched.faults()) == []
        lines = list(program.listed(host))
        assert [line.split()[0] for line in lines[:1]] == [again["id"]]
        # Of a day, one is kept there.
        assert len(lines) == 2

    def test_an_append_only_store_forgets_nothing(self, host, wait_a_second):
        host.config["restic"]["append_only"] = True
        host.make()
        wait_a_second()
        host.make()
        assert len(program.Store(host).snapshots()) == 2

    def test_another_key_opens_nothing(self, host):
        host.make()
        host.config["key"] = "o" * 64
        with pytest.raises(program.TroubleError, match="wrong password"):
            program.Store(host).fetch("latest")

    def test_a_damaged_store_is_refused(self, host):
        host.make()
        # Restic asks for a pack that is missing again and again, for a quarter of an hour.
        [index] = Path(host.config["restic"]["repository"], "index").iterdir()
        index.unlink()
        with pytest.raises(program.TroubleError, match="The store is damaged"):
            program.Store(host).fetch("latest")

    def test_a_store_that_cannot_be_reached_fails_and_keeps_what_is_here(self, host, tmp_path):
        (tmp_path / "store").write_text("no directory")
        with pytest.raises(program.TroubleError, match="The store cannot be"):
            host.make()
        assert host.state()["error"].startswith("The store cannot be")
        assert host.state()["id"] == host.backup("latest").id
