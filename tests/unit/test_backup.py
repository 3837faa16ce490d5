"""Backups without a host: which are kept, which damage is found, what is sealed, what is taken from an archive."""

import gzip
import io
import json
import os
import subprocess
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


def test_what_is_older_than_wanted_is_removed(host, backup):
    for name in ("20260302T013000Z", "20260303T013000Z"):
        (host.directory / name).mkdir()
    assert host.expire() == [ID]
    assert [each.id for each in host.backups()] == ["20260302T013000Z", "20260303T013000Z"]


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
