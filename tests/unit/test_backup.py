"""Backups without a host: which are kept, which damage is found, what is sealed, what is taken from an archive."""

import gzip
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from datetime import UTC, datetime, timedelta

import pytest

from programs import ROOT, load

program = load("salon_backup_program", "templates/usr/local/sbin/salon-backup.j2")

KEY = "k" * 64
EMPTY = {"rows": 0, "digest": "0"}
FILE = "0a/0a000000-0000-4000-8000-000000000000"
ID = "20260301T013000Z"


def identity(moment):
    return f"{moment:%Y%m%dT%H%M%SZ}"


class TestKept:
    def test_days_weeks_and_months(self):
        newest = datetime(2026, 3, 31, 1, 30, tzinfo=UTC)
        every_night = [identity(newest - timedelta(days=days)) for days in range(400)]
        stay = program.kept(every_night, days=7, weeks=4, months=12)
        assert [each for each in sorted(stay, reverse=True) if each >= identity(newest - timedelta(days=6))] == (
            every_night[:7]
        )
        # Sundays, on which weeks end, and the last nights of months; one night can count as more than one of them.
        assert sorted(stay, reverse=True)[7:10] == ["20260322T013000Z", "20260315T013000Z", "20260228T013000Z"]
        assert len({each[:6] for each in stay}) == 12
        assert program.kept(stay, days=7, weeks=4, months=12) == stay

    def test_of_a_day_the_newest_one(self):
        assert program.kept(["20260301T010000Z", "20260301T230000Z"], 7, 0, 0) == {"20260301T230000Z"}

    def test_the_newest_always(self):
        assert program.kept(["20260301T010000Z", "20260302T010000Z"], 0, 0, 0) == {"20260302T010000Z"}
        assert program.kept([], 7, 4, 12) == set()

    def test_a_host_that_was_off_keeps_as_many(self):
        with_gaps = ["20260101T010000Z", "20260201T010000Z", "20260301T010000Z"]
        assert program.kept(with_gaps, days=2, weeks=0, months=0) == set(with_gaps[1:])


class TestSealed:
    def test_what_was_sealed_comes_back(self):
        secrets = {"salon.env": b"SALON_TOKEN_KEY='x'\n", "tls_ca.key": bytes(range(256))}
        sealed = program.seal(KEY, secrets)
        assert b"SALON_TOKEN_KEY" not in sealed
        assert program.unseal(KEY, sealed) == secrets

    def test_another_key_opens_nothing(self):
        with pytest.raises(program.TroubleError, match="cannot be opened with the key"):
            program.unseal("o" * 64, program.seal(KEY, {"a": b"b"}))

    def test_a_changed_byte_opens_nothing(self):
        sealed = bytearray(program.seal(KEY, {"a": b"b"}))
        sealed[40] ^= 1
        with pytest.raises(program.TroubleError):
            program.unseal(KEY, bytes(sealed))

    def test_a_fingerprint_tells_keys_apart_and_is_no_key(self):
        assert program.fingerprint(KEY) != program.fingerprint("o" * 64)
        assert program.fingerprint(KEY) not in program.sealer(KEY)._signing_key.hex()


def test_what_differs_is_named():
    one = {"chat_user": {"rows": 2, "digest": "5"}, "chat_chatroom": {"rows": 1, "digest": "1"}, "gone": EMPTY}
    assert list(program.differences(one, one)) == []
    other = {"chat_user": {"rows": 2, "digest": "6"}, "chat_chatroom": {"rows": 0, "digest": "0"}, "new": EMPTY}
    assert list(program.differences(one, other)) == [
        "chat_chatroom has 0 rows, and 1 in the backup",
        "the rows of chat_user are not those of the backup",
        "the table gone is only in the backup",
        "the table new is only there",
    ]


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    for directory in ("etc/salon", "var/lib/salon-backup", "var/lib/salon/files", "var/backups/salon"):
        (tmp_path / directory).mkdir(parents=True)
    config = {
        "host": "chat",
        "directory": "/var/backups/salon",
        "files": "/var/lib/salon/files",
        "wal": False,
        "wal_directory": "/var/backups/salon-wal",
        "cluster": "/var/lib/postgresql/salon-recover",
        "key": KEY,
        "keep": {"days": 2, "weeks": 0, "months": 0},
        "keep_free": 0,
        "restic": {"repository": "", "environment": {}, "options": [], "append_only": False},
        "commands": {"failure": "", "success": ""},
    }
    (tmp_path / "etc/salon/backup.json").write_text(json.dumps(config))
    # The dump of these tests is none.
    monkeypatch.setattr(program.Backup, "contents", lambda self: ["1; TABLE DATA public chat_user"])
    return program.Host(tmp_path)


@pytest.fixture
def backup(host):
    """A whole backup with one file."""
    made = program.Backup(host.directory / ID)
    (made.files / FILE).parent.mkdir(parents=True)
    (made.files / FILE).write_bytes(b"what somebody has sent")
    parts = {
        "database.dump": b"PGDMP",
        "files.sha256": program.as_sums({FILE: program.sum_of(made.files / FILE)}),
        "secrets.sealed": program.seal(KEY, {"salon.env": b"X='y'"}),
    }
    for name, content in parts.items():
        (made.place / name).write_bytes(content)
    manifest = {
        "version": 1,
        "id": ID,
        "key": program.fingerprint(KEY),
        "tables": {},
        "files": {"count": 1},
        "parts": {name: {"sha256": program.sum_of(made.place / name)} for name in parts},
    }
    (made.place / "manifest.json").write_text(json.dumps(manifest))
    listed = {name: program.sum_of(made.place / name) for name in [*parts, "manifest.json"]}
    (made.place / "SHA256SUMS").write_bytes(program.as_sums(listed))
    return made


class TestDamage:
    def test_a_whole_one_has_none(self, host, backup):
        assert list(backup.faults()) == []
        assert host.sound(backup)["id"] == ID

    @pytest.mark.parametrize(
        "name", ["database.dump", "files.sha256", "secrets.sealed", "manifest.json", f"files/{FILE}"]
    )
    def test_one_byte(self, host, backup, name):
        content = bytearray((backup.place / name).read_bytes())
        content[-2] ^= 1
        (backup.place / name).write_bytes(content)
        with pytest.raises(program.TroubleError, match="The backup is damaged, and nothing was touched"):
            host.sound(backup)

    @pytest.mark.parametrize(
        "name", ["database.dump", "files.sha256", "secrets.sealed", "manifest.json", "SHA256SUMS", f"files/{FILE}"]
    )
    def test_a_missing_part(self, host, backup, name):
        (backup.place / name).unlink()
        with pytest.raises(program.TroubleError, match="damaged"):
            host.sound(backup)

    @pytest.mark.parametrize("name", ["database.dump", "files.sha256", "manifest.json", "SHA256SUMS"])
    def test_half_a_part(self, host, backup, name):
        os.truncate(backup.place / name, (backup.place / name).stat().st_size // 2)
        with pytest.raises(program.TroubleError, match="damaged"):
            host.sound(backup)

    def test_a_dump_that_cannot_be_read(self, host, backup, monkeypatch):
        def unreadable(self):
            raise program.TroubleError("database.dump cannot be read: it is too short")

        monkeypatch.setattr(program.Backup, "contents", unreadable)
        with pytest.raises(program.TroubleError, match="it is too short"):
            host.sound(backup)

    def test_a_later_layout(self, backup):
        manifest = json.loads((backup.place / "manifest.json").read_text()) | {"version": 2}
        (backup.place / "manifest.json").write_text(json.dumps(manifest))
        assert list(backup.faults()) == [f"{ID} is of another version of Salon's backups (2, here 1)."]


class TestArchives:
    def archive(self, backup):
        out = io.BytesIO()
        program.export(backup, out)
        return io.BytesIO(out.getvalue())

    def test_what_was_exported_is_imported(self, host, backup, monkeypatch):
        monkeypatch.setattr(os, "chown", lambda *_: None)
        archive = self.archive(backup)
        program.shutil.rmtree(backup.place)
        again = program.import_from(host, archive)
        assert again.id == ID
        assert list(again.faults()) == []
        assert [each.id for each in host.backups()] == [ID]

    def test_a_damaged_one_makes_way_for_the_good_one_from_elsewhere(self, host, backup, monkeypatch):
        monkeypatch.setattr(os, "chown", lambda *_: None)
        archive = self.archive(backup)
        (backup.place / "database.dump").write_bytes(b"damaged")
        program.import_from(host, archive)
        assert list(backup.faults()) == []
        assert [each.id for each in host.backups()] == [ID]

    def test_half_an_archive_is_refused(self, host, backup):
        content = self.archive(backup).getvalue()
        program.shutil.rmtree(backup.place)
        with pytest.raises(program.TroubleError, match="no backup, or not all of one"):
            program.import_from(host, io.BytesIO(content[: len(content) // 3]))
        assert host.backups() == []

    @pytest.mark.parametrize(
        "name", ["../evil", f"{ID}/../evil", f"{ID}/files/../../evil", "/etc/passwd", f"{ID}/files/x", "x", f"{ID}/x"]
    )
    def test_what_is_no_part_of_a_backup_is_not_unpacked(self, host, tmp_path, name):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
        with pytest.raises(program.TroubleError, match="no backup"):
            program.import_from(host, io.BytesIO(out.getvalue()))
        assert not list(tmp_path.rglob("evil"))
        assert host.backups() == []

    def test_a_link_is_not_unpacked(self, host):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            link = tarfile.TarInfo(f"{ID}/manifest.json")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
            tar.addfile(link)
        with pytest.raises(program.TroubleError, match="no backup"):
            program.import_from(host, io.BytesIO(out.getvalue()))


class TestElsewhere:
    @pytest.fixture
    def store(self, host, tmp_path, monkeypatch):
        """A store with a lock that nobody holds any more, of a restic that only knows about that."""
        script = tmp_path / "bin/restic"
        script.parent.mkdir()
        script.write_text(
            "#!/bin/sh\n"
            f'case "$1" in unlock) rm -f {tmp_path}/locked; exit 0;; cat) exit 0;; esac\n'
            f'[ ! -e {tmp_path}/locked ] || {{ echo "already locked exclusively" >&2; exit 1; }}\n'
            'case "$1" in\n'
            """backup) echo '{"message_type": "summary", "snapshot_id": "ab", "data_added": 5}';;\n"""
            f"""snapshots) echo '[{{"id": "abcd", "time": "now", "tags": ["id-{ID}"]}}]';;\n"""
            "esac\n"
        )
        script.chmod(0o755)
        (tmp_path / "locked").touch()
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
        host.config["restic"]["repository"] = "/srv/store"
        return program.Store(host)

    def test_the_lock_of_a_host_that_went_down_keeps_no_backup_out(self, store, backup):
        assert store.keep(backup)["snapshot"] == "abcd"

    def test_nothing_is_removed_where_the_host_may_not(self, store, backup):
        store.config["append_only"] = True
        with pytest.raises(program.TroubleError, match="already locked"):
            store.keep(backup)


class TestRoom:
    def test_a_backup_that_would_fill_the_disk_is_not_begun(self, host, monkeypatch):
        monkeypatch.setattr(program.shutil, "disk_usage", lambda _: program.shutil._ntuple_diskusage(100, 90, 10))
        with pytest.raises(program.TroubleError, match="has 10 B free: a backup takes about 70 B"):
            host._see_to_room(lambda _: 50, {FILE: 20}, None)

    def test_what_the_one_before_has_takes_none(self, host, backup, monkeypatch):
        monkeypatch.setattr(
            program.shutil, "disk_usage", lambda _: program.shutil._ntuple_diskusage(2_000_000, 1_000_000, 1_000_000)
        )
        host._see_to_room(lambda _: 50, {FILE: 2_000_000}, backup)
        with pytest.raises(program.TroubleError):
            host._see_to_room(lambda _: 50, {FILE.replace("0a", "0b"): 2_000_000}, backup)

    def test_a_restore_that_would_fill_the_disk_of_what_is_in_use_is_not_begun(
        self, host, backup, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(
            program, "postgres", lambda _, statement: f"{tmp_path}\n" if "data_dir" in statement else ""
        )
        monkeypatch.setattr(program, "drop", lambda _: None)
        monkeypatch.setattr(program.shutil, "disk_usage", lambda _: program.shutil._ntuple_diskusage(1000, 900, 100))
        manifest = json.loads((backup.place / "manifest.json").read_text())
        for database, files, fits in ((30, 40, True), (30, 41, False)):
            manifest |= {"database_bytes": database, "files": {"count": 1, "bytes": files}}
            if fits:
                host._see_to_room_beside(manifest, backup)
                continue
            with pytest.raises(program.TroubleError, match="has 100 B free: what is restored takes about 101 B beside"):
                host._see_to_room_beside(manifest, backup)
        # One of before, which has not noted it, is known by its dump.
        del manifest["database_bytes"]
        (backup.place / "database.dump").write_bytes(b"x" * 100)
        with pytest.raises(program.TroubleError, match="has 100 B free"):
            host._see_to_room_beside(manifest, backup)


def test_files_are_linked_to_the_backup_before_or_copied(host, backup, tmp_path):
    new = "0b/0b000000-0000-4000-8000-000000000000"
    (host.live_files / new).parent.mkdir()
    (host.live_files / new).write_bytes(b"new")
    later = program.Backup(host.directory / "later")
    later.place.mkdir()
    lost = "0c/0c000000-0000-4000-8000-000000000000"
    found, missing = host._copy_files(later, backup, {FILE: 22, new: 3, lost: 5})
    assert missing == [lost]
    assert (later.files / FILE).stat().st_ino == (backup.files / FILE).stat().st_ino
    assert (later.files / new).read_bytes() == b"new"
    assert found == {FILE: backup.file_sums()[FILE], new: program.sum_of(later.files / new)}


def test_a_backup_that_lacks_something_says_so(host, backup, monkeypatch):
    """A power cut may have left less of a file than its message says."""
    part, whole = "0d/0d000000-0000-4000-8000-000000000000", "0e/0e000000-0000-4000-8000-000000000000"
    for name in (part, whole):
        (host.live_files / name).parent.mkdir()
        (host.live_files / name).write_bytes(b"four")
    answers = {
        program.ATTACHMENTS: [["0d000000-0000-4000-8000-000000000000", 40], ["0e000000-0000-4000-8000-000000000000", 4]]
    }

    class Snapshot:
        def __init__(self, url):
            self.url = url

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def ask(self, statement):
            return answers.get(statement, 1)

    monkeypatch.setattr(program, "Snapshot", Snapshot)
    monkeypatch.setattr(program, "measured", lambda _: {"chat_user": EMPTY})
    monkeypatch.setattr(host, "_dump", lambda _, partial: partial.dump.write_bytes(b"PGDMP"))
    monkeypatch.setattr(host, "_secrets", list)
    host.config |= {"database": "", "domain": "chat.example.org", "release": "/opt/salon/current"}
    host.credentials = host.root
    assert host.make()["warnings"] == [
        f"the bytes of 1 files of messages are not on the host, or not all of them (the first is {part})"
    ]
    assert "0 users" in program.summary(host.state())
    assert f"; but the bytes of 1 files of messages are not on the host, or not all of them (the first is {part})" in (
        program.summary(host.state())
    )
    # What there is of it is kept.
    assert (host.backups()[-1].files / part).read_bytes() == b"four"


def test_what_is_older_than_wanted_is_removed(host, backup):
    for name in ("20260302T013000Z", "20260303T013000Z"):
        (host.directory / name).mkdir()
    assert host.expire() == [ID]
    assert [each.id for each in host.backups()] == ["20260302T013000Z", "20260303T013000Z"]


class TestChangingPlaces:
    """What a restore puts in use, with a PostgreSQL that is a set of names."""

    @pytest.fixture
    def databases(self, host, monkeypatch):
        """What each database holds, by its name."""
        databases = {"salon": "living", "salon_restoring": "staged", "salon_before": "former"}

        def postgres(database, statement):
            for old, new in re.findall(r'ALTER DATABASE "?(\w+)"? RENAME TO "?(\w+)"?', statement):
                assert new not in databases
                databases[new] = databases.pop(old)
            return ""

        monkeypatch.setattr(program, "postgres", postgres)
        monkeypatch.setattr(program, "drop", lambda name: databases.pop(name, None))
        monkeypatch.setattr(program, "exists", lambda name: name in databases)
        host.config["name"] = "salon"
        for place, content in ((host.live_files, "living"), (host.restoring_files, "staged")):
            place.mkdir(exist_ok=True)
            (place / "what").write_text(content)
        return databases

    def test_what_was_staged_is_in_use_and_what_was_in_use_stays(self, host, databases):
        host.swap()
        assert databases == {"salon": "staged", "salon_before": "living"}
        assert (host.live_files / "what").read_text() == "staged"
        host.undo()
        assert databases == {"salon": "living", "salon_restoring": "staged"}
        assert (host.live_files / "what").read_text() == "living"

    @pytest.mark.parametrize("place", ["live_files", "restoring_files"])
    def test_files_that_cannot_be_moved_take_the_database_back(self, host, databases, monkeypatch, place):
        rename = program.Path.rename
        fixed = getattr(host, place)

        def move(path, target):
            # As where it is a disk of its own.
            if path == fixed:
                raise OSError(16, "Device or resource busy", str(path))
            return rename(path, target)

        monkeypatch.setattr(program.Path, "rename", move)
        with pytest.raises(OSError, match="busy"):
            host.swap()
        assert databases == {"salon": "living", "salon_restoring": "staged"}
        assert (host.live_files / "what").read_text() == "living"
        assert (host.restoring_files / "what").read_text() == "staged"


def test_what_could_not_be_staged_whole_is_not_there_to_be_put_in_use(host, backup, monkeypatch):
    databases = set()
    monkeypatch.setattr(
        program, "postgres", lambda _, statement: databases.update(re.findall(r"TE DATABASE (\w+)", statement))
    )
    monkeypatch.setattr(program, "drop", databases.discard)
    monkeypatch.setattr(program, "exists", lambda name: name in databases)
    monkeypatch.setattr(program, "run", lambda *_, **__: None)
    monkeypatch.setattr(program, "measured", lambda _: {})
    monkeypatch.setattr(host, "_see_to_room_beside", lambda *_: None)
    monkeypatch.setattr(program.shutil, "chown", lambda *_: None)
    host.config |= {"owner": "salon_owner", "files_owner": ["salon", "www-data"]}
    host.stage(ID)
    assert databases == {"salon_restoring"}
    assert host.restoring_files.is_dir()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(program, "copy", full)
    with pytest.raises(OSError, match="No space left"):
        host.stage(ID)
    assert not databases
    assert not host.restoring_files.exists()
    with pytest.raises(program.TroubleError, match="Nothing is staged"):
        host.swap()


class TestRestorePlaybook:
    """What the playbook does where a step of the change fails, with programs that only note that they were called."""

    @pytest.fixture
    def swap(self, tmp_path):
        (tmp_path / "bin").mkdir()
        (tmp_path / "play.yml").write_text(
            "- {name: Swap, hosts: localhost, connection: local, gather_facts: false, tasks: [{name: Swap,"
            " ansible.builtin.import_role: {name: backup, tasks_from: swap}, vars: {backup_processes: [1]}}]}\n"
        )

        def swap(failing):
            for name in ("salon-backup", "systemctl", "salon", "setpriv"):
                script = tmp_path / "bin" / name
                script.write_text(
                    f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/called\n'
                    f'case "{name} $*" in "{failing}"*) echo "it is under way" >&2; exit 1;; esac\n'
                )
                script.chmod(0o755)
            done = subprocess.run(
                [
                    *("ansible-playbook", "--inventory", "localhost,", tmp_path / "play.yml"),
                    *("--extra-vars", f"ansible_python_interpreter={sys.executable}"),
                ],
                capture_output=True,
                text=True,
                check=False,
                env={
                    **os.environ,
                    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                    "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
                },
            )
            return done, (tmp_path / "called").read_text().splitlines()

        return swap

    def test_where_nothing_has_changed_places_nothing_is_taken_back(self, swap):
        done, called = swap("salon-backup swap")
        assert done.returncode == 2
        # It would bring back what was before an earlier restore.
        assert "salon-backup undo" not in called
        assert called[-1] == "systemctl start daphne@1.socket daphne@1.service"
        assert "what was there before is in use, since nothing was changed: it is under way" in " ".join(
            done.stdout.split()
        )

    def test_what_does_not_serve_is_taken_back(self, swap):
        done, called = swap("salon migrate")
        assert done.returncode == 2
        assert called[-2:] == ["salon-backup undo", "systemctl start daphne@1.socket daphne@1.service"]
        assert "what was there before is in use again" in " ".join(done.stdout.split())


class TestRecover:
    MOMENT = datetime(2026, 3, 2, 1, 40, tzinfo=UTC)

    @pytest.fixture
    def recover(self, host, monkeypatch):
        """Which backup it would be replayed upon."""

        def replayed(base, *_):
            raise program.TroubleError(base.id)

        monkeypatch.setattr(program, "replayed", replayed)
        monkeypatch.setattr(program, "flush_log", lambda: None)
        host.cluster.parent.mkdir(parents=True)
        # Each took a quarter of an hour.
        for day in (1, 2):
            place = host.directory / f"2026030{day}T013000Z"
            place.mkdir()
            (place / "base.tar.gz").touch()
            (place / "backup_manifest").write_text('{"Files": [{"Size": 60}, {"Size": 41}]}')
            moment = datetime(2026, 3, day, 1, 45, tzinfo=UTC).timestamp()
            os.utime(place / "backup_manifest", (moment, moment))

        def recover(moment):
            with pytest.raises(program.TroubleError) as trouble:
                host.recover(moment)
            return str(trouble.value)

        return recover

    def test_upon_a_copy_that_was_whole_by_then(self, recover):
        assert recover(self.MOMENT) == "20260301T013000Z"
        assert recover(self.MOMENT + timedelta(minutes=6)) == "20260302T013000Z"

    def test_a_moment_before_any_copy_was_whole_is_refused(self, recover):
        assert "it reaches back to 2026-03-01 01:45:00 UTC" in recover(self.MOMENT - timedelta(days=1))

    def test_what_would_fill_the_disk_of_what_is_in_use_is_not_begun(self, recover, monkeypatch):
        monkeypatch.setattr(program.shutil, "disk_usage", lambda _: program.shutil._ntuple_diskusage(1000, 900, 100))
        assert "has 100 B free: PostgreSQL's files of then take about 101 B" in recover(self.MOMENT)


def test_a_backup_of_a_moment_before_pushes_out_none_of_the_nights(host):
    for name, about in (
        *(("20260301T013000Z", {}), ("20260302T013000Z", {}), ("20260303T013000Z", {})),
        ("20260303T140000Z", {"recovered_from": "20260302T013000Z"}),
    ):
        (host.directory / name).mkdir()
        (host.directory / name / "manifest.json").write_text(json.dumps({"version": 1, **about}))
    assert host.expire() == ["20260301T013000Z"]
    for name in ("20260304T013000Z", "20260305T013000Z"):
        (host.directory / name).mkdir()
    host.expire()
    assert [each.id for each in host.backups()] == ["20260304T013000Z", "20260305T013000Z"]


class TestTold:
    def test_two_at_once_are_refused(self, host):
        with host.alone(), pytest.raises(program.TroubleError, match="under way"), host.alone():
            pass

    def test_a_backup_is_not_made_outside_of_its_unit(self, host):
        with pytest.raises(program.TroubleError, match=r"systemctl start salon-backup\.service"):
            host.make()

    def test_what_ends_without_a_word_has_failed(self, host, monkeypatch):
        host.credentials = host.root

        def killed():
            assert host.state()["error"] == "The last backup was interrupted."
            raise program.TroubleError("The disk is full.")

        monkeypatch.setattr(host, "_make", killed)
        with pytest.raises(program.TroubleError):
            host.make()
        assert host.state()["error"] == "The disk is full."

    def test_an_operators_command_is_told_why(self, host, tmp_path):
        host.note(error="The disk is full.")
        host.config["commands"]["failure"] = f'printf %s "$SALON_BACKUP_MESSAGE" >{tmp_path}/told'
        host.tell("failure")
        assert (tmp_path / "told").read_text() == "Salon's backup on chat has failed: The disk is full."

    def test_a_command_that_fails_is_named(self, host):
        host.config["commands"]["failure"] = "echo no route >&2; exit 3"
        with pytest.raises(program.TroubleError, match="backup_failure_command: no route"):
            host.tell("failure")


class TestPuttingTheLogAside:
    @pytest.fixture
    def put_aside(self, tmp_path):
        """The program, as PostgreSQL calls it: with the path of a file of its log, and the file's name."""
        (tmp_path / "aside").mkdir()
        text = (ROOT / "templates/usr/local/sbin/salon-wal.j2").read_text()
        script = tmp_path / "salon-wal"
        script.write_text(text.replace("{{ postgresql_wal_directory }}", str(tmp_path / "aside")))

        def put_aside(content, name="000000010000000000000001"):
            (tmp_path / name).write_bytes(content)
            return subprocess.run(["sh", script, tmp_path / name, name], capture_output=True, text=True, check=False)

        return put_aside

    def test_it_is_there_whole_and_again_is_no_mistake(self, put_aside, tmp_path):
        for _ in range(2):
            assert put_aside(b"log" * 1000).returncode == 0
        [kept] = (tmp_path / "aside").iterdir()
        assert kept.name == "000000010000000000000001.gz"
        assert gzip.decompress(kept.read_bytes()) == b"log" * 1000
        assert program.SEGMENT.fullmatch(kept.name)

    def test_another_one_of_that_name_is_refused_and_the_first_stays(self, put_aside, tmp_path):
        put_aside(b"one")
        refused = put_aside(b"other")
        assert refused.returncode == 1
        assert "is there already, and another one" in refused.stderr
        assert gzip.decompress((tmp_path / "aside/000000010000000000000001.gz").read_bytes()) == b"one"


def test_the_first_file_of_the_log_that_a_copy_needs():
    ranges = [{"Timeline": 2, "Start-LSN": "1A/2B000028", "End-LSN": "1A/2B000100"}]
    assert program.first_segment({"WAL-Ranges": ranges}) == "000000020000001A0000002B"
