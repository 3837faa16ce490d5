"""Files of messages on a real disk: what is accepted, as what it is kept, and how it is served."""

import contextlib
import io
import os
import struct
import uuid
import wave
import zipfile
import zlib
from urllib.parse import unquote

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile
from django.db import transaction
from django.db.models.signals import post_delete
from django.http import Http404
from django.test import RequestFactory
from hypothesis import HealthCheck, example, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from chat import files
from chat.models import Attachment
from chat.protocol import ChatError, ErrorCode

MB = 1024 * 1024


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def archive(*entries, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, content in entries:
            # At no moment in particular: a test's name has the bytes in it.
            made.writestr(zipfile.ZipInfo(name), content, compression)
    return file.getvalue()


def office(directory):
    return archive(("_rels/.rels", "<r/>"), ("[Content_Types].xml", "<t/>"), (f"{directory}/document.xml", "<d/>"))


def opendocument(kind):
    return archive(
        ("mimetype", f"application/vnd.oasis.opendocument.{kind}"),
        ("content.xml", "<c/>"),
        compression=zipfile.ZIP_STORED,
    )


def sound():
    file = io.BytesIO()
    with wave.open(file, "wb") as made:
        made.setparams((1, 2, 8000, 0, "NONE", ""))
        made.writeframes(b"\0\x10" * 100)
    return file.getvalue()


def box(brand):
    return struct.pack(">I", 24) + b"ftyp" + brand + b"\0\0\x02\0" + brand + b"mp41" + b"\0\0\0\x08moov"


def ebml(kind):
    return b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82\x84" + kind


PNG = b"\x89PNG\r\n\x1a\n" + b"".join(
    (
        chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)),
        chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")),
        chunk(b"IEND", b""),
    )
)
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xd9"
JPEG_OF_A_CAMERA = b"\xff\xd8\xff\xe1\x00\x18Exif\0\0MM\0*\0\0\0\x08\0\0\xff\xd9"
GIF = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xf9\x04\0\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"
WEBP = b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0/\0\0\0\x10\x07\x10\x11\x11\x88\x88\xfe\x07\0"
PDF = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
PDF_OF_LETTERS = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
MP3_WITH_TAG = b"ID3\x03\0\0\0\0\0\x15TIT2\0\0\0\x0b\0\0\0Lesson one\xff\xfb\x90\0" + bytes(64)
MP3 = b"\xff\xf3\x90\x64" + bytes(413)
AAC = b"\xff\xf1\x50\x80\x01\xff\xfc" + bytes(64)
FLAC = b"fLaC\x00\0\0\x22\x10\0\x10\0" + bytes(30)
OPUS = b"OggS\0\x02" + bytes(8) + b"\x01\0\0\0\0\0\0\0\x12\x34\x56\x78\x01\x13OpusHead\x01\x01\0\0\x80\xbb\0\0\0\0\0"
THEORA = b"OggS\0\x02" + bytes(8) + b"\x01\0\0\0\0\0\0\0\x12\x34\x56\x78\x01\x2a\x80theora\x03\x02\x01"
WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
SLIDES = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
WITH_PASSWORD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)
ZIP = archive(("a.txt", "a"))
HTML = b"<!DOCTYPE html><html><script>alert(1)</script></html>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
WINDOWS = b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0" + bytes(64)
LINUX = b"\x7fELF\x02\x01\x01" + bytes(64)
SCRIPT_IN_GIF = b"GIF89a/*\x01\0\x80\0\0*/=1;alert(1)//\xff;"
LATIN_1 = "prénom;note\nZoé;12\n".encode("latin-1")


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """Where files are kept, for one test."""
    monkeypatch.setattr(settings, "FILES_DIR", tmp_path / "files")
    return tmp_path / "files"


@pytest.fixture
def kept(directory):
    """Every file that is kept."""
    return lambda: sorted(path for path in directory.rglob("*") if path.is_file())


def store(name, content, kind="attachment", claimed="application/octet-stream"):
    return files.store(SimpleUploadedFile(name, content, claimed), kind)


def refusal(name, content, kind="attachment"):
    with pytest.raises(ChatError) as refused:
        store(name, content, kind)
    assert refused.value.sentence.endswith(".")
    return refused.value


def row(stored):
    return Attachment(
        uuid=stored.uuid, kind=stored.kind, name=stored.name, content_type=stored.content_type, size=stored.size
    )


class TestTypes:
    @pytest.mark.parametrize(
        ("name", "content", "told"),
        [
            ("a.png", PNG, "image/png"),
            ("A.PNG", PNG, "image/png"),
            ("a.jpg", JPEG, "image/jpeg"),
            ("a.jpeg", JPEG_OF_A_CAMERA, "image/jpeg"),
            ("a.gif", GIF, "image/gif"),
            ("a.webp", WEBP, "image/webp"),
            ("a.heic", box(b"heic"), "image/heic"),
            ("a.avif", box(b"avif"), "image/avif"),
            ("a.pdf", PDF, "application/pdf"),
            ("a.pdf", PDF_OF_LETTERS, "application/pdf"),
            ("a.mp3", MP3_WITH_TAG, "audio/mpeg"),
            ("a.mp3", MP3, "audio/mpeg"),
            ("a.aac", AAC, "audio/aac"),
            ("a.flac", FLAC, "audio/flac"),
            ("a.wav", sound(), "audio/wav"),
            ("a.ogg", OPUS, "audio/ogg"),
            ("a.opus", OPUS, "audio/ogg"),
            ("a.ogv", THEORA, "video/ogg"),
            ("a.m4a", box(b"M4A "), "audio/mp4"),
            ("a.mp4", box(b"isom"), "video/mp4"),
            ("a.mp4", box(b"iso5"), "video/mp4"),
            ("a.mp4", box(b"mp42"), "video/mp4"),
            ("a.mov", box(b"qt  "), "video/quicktime"),
            ("a.3gp", box(b"3gp5"), "video/3gpp"),
            ("a.webm", ebml(b"webm"), "video/webm"),
            ("a.mkv", ebml(b"matroska"), "video/x-matroska"),
            ("a.docx", office("word"), WORD),
            ("a.xlsx", office("xl"), SHEET),
            ("a.pptx", office("ppt"), SLIDES),
            ("a.docx", WITH_PASSWORD, "application/octet-stream"),
            ("a.doc", WITH_PASSWORD, "application/octet-stream"),
            ("a.odt", opendocument("text"), "application/vnd.oasis.opendocument.text"),
            ("a.ods", opendocument("spreadsheet"), "application/vnd.oasis.opendocument.spreadsheet"),
            ("a.odp", opendocument("presentation"), "application/vnd.oasis.opendocument.presentation"),
            ("a.zip", ZIP, "application/zip"),
            # A document inside of an archive makes no document of it.
            ("a.zip", archive(("a.docx", office("word")), compression=zipfile.ZIP_STORED), "application/zip"),
            ("a.txt", "مرحبا, hello\n".encode(), "text/plain"),
            ("a.csv", b"name,grade\nZoe,12\n", "text/csv"),
            # A spreadsheet writes what the country's computers once spoke.
            ("a.csv", LATIN_1, "application/octet-stream"),
            ("notes", b"hello", "text/plain"),
            ("photo", PNG, "image/png"),
            ("BMW.txt", b"BMW is a car, ID3 a tag", "text/plain"),
            ("a.exe", WINDOWS, "application/octet-stream"),
            ("a", LINUX, "application/octet-stream"),
            # Never as themselves.
            ("a.html", HTML, "text/plain"),
            ("a.svg", SVG, "text/plain"),
            ("a.xml", b'<?xml version="1.0"?><a/>', "text/plain"),
            ("a.js", b"alert(1)", "text/plain"),
            ("a.html", HTML + b"\0\xff", "application/octet-stream"),
            ("a.gif", SCRIPT_IN_GIF, "image/gif"),
        ],
    )
    def test_the_content_tells(self, name, content, told):
        stored = store(name, content, claimed="text/html")
        assert (stored.content_type, stored.name, stored.size) == (told, name, len(content))

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.jpg", PNG),
            ("a.png", JPEG),
            ("a.png", HTML),
            ("a.gif", b"GIF89a/**/=1;alert(1)"),
            ("a.pdf", WINDOWS),
            ("a.pdf", b"hello"),
            ("a.mp3", WINDOWS),
            ("a.mp4", PNG),
            ("a.webm", box(b"isom")),
            ("a.docx", ZIP),
            ("a.xlsx", office("word")),
            ("a.odt", ZIP),
            ("a.zip", b"PK\x03\x04" + bytes(60)),
            ("a.zip", ZIP[:-30]),
            ("a.jpg", SVG),
            ("a.webp", sound()),
        ],
    )
    def test_a_name_that_claims_something_else_is_refused(self, kept, name, content):
        refused = refusal(name, content)
        assert refused.code == ErrorCode.INVALID_FILE
        assert refused.sentence.startswith(f'"{name}" ends with .{name[2:]}, but its content is something else (')
        assert kept() == []

    @pytest.mark.parametrize(
        ("name", "content", "told"),
        [
            ("voice.webm", ebml(b"webm"), "audio/webm"),
            ("voice.mp4", box(b"iso5"), "audio/mp4"),
            ("voice.3gp", box(b"3gp4"), "audio/3gpp"),
            ("blob", OPUS, "audio/ogg"),
            ("voice.mp3", MP3, "audio/mpeg"),
            ("voice.wav", sound(), "audio/wav"),
        ],
    )
    def test_a_voice_note_is_sound(self, name, content, told):
        stored = store(name, content, "voice_note")
        assert (stored.kind, stored.content_type) == ("voice_note", told)

    @pytest.mark.parametrize("content", [PNG, b"hello", WINDOWS, box(b"qt  "), PDF])
    def test_a_voice_note_that_is_none(self, content):
        assert refusal("voice", content, "voice_note").code == ErrorCode.INVALID_FILE

    def test_of_sound_and_video_in_one_container_the_sender_says_which(self):
        assert store("a.webm", ebml(b"webm"), claimed="audio/webm;codecs=opus").content_type == "audio/webm"
        assert store("a.png", PNG, claimed="audio/webm").content_type == "image/png"

    @limits(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        start=st.sampled_from(
            [b"", b"\xff", b"\xff\xfb", b"PK\x03\x04", b"PK\x05\x06", b"RIFF", b"OggS", b"\0\0\0\x08ftyp", b"\x1a\x45"]
        ),
        rest=st.binary(max_size=200),
        extension=st.sampled_from(["", ".mp3", ".aac", ".zip", ".docx", ".mp4", ".txt"]),
    )
    @example(start=b"PK\x03\x04", rest=b"PK\x05\x06" + b"\xff" * 18, extension="")
    @example(
        start=b"PK\x03\x04",
        rest=b"PK\x01\x02" + b"\xff" * 42 + b"PK\x05\x06" + bytes(8) + struct.pack("<2L", 46, 4) + b"\0\0",
        extension="",
    )
    def test_odd_content_is_kept_or_refused(self, start, rest, extension):
        with contextlib.suppress(ChatError):
            assert store(f"a{extension}", start + rest).size == len(start + rest)


class TestSize:
    def test_the_limit_itself_is_accepted(self, kept):
        stored = store("a.txt", b"a" * (10 * MB))
        assert stored.size == 10 * MB
        assert kept()[0].stat().st_size == 10 * MB

    def test_beyond_the_limit(self, kept):
        refused = refusal("film.mp4", bytes(11 * MB + 300_000))
        assert refused.code == ErrorCode.FILE_TOO_LARGE
        assert refused.sentence == '"film.mp4" has 11.3 MB; a file may have 10 MB at most. Send a smaller one.'
        assert kept() == []

    def test_one_byte_beyond_the_limit(self):
        assert refusal("a", bytes(10 * MB + 1)).code == ErrorCode.FILE_TOO_LARGE

    def test_an_empty_file(self):
        assert refusal("a.txt", b"").code == ErrorCode.INVALID_FILE


class TestNames:
    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\ann\\notes.txt", "notes.txt"),
            ("a\0b\r\n\x7f.txt", "ab.txt"),
            ("half\ud800.txt", "half.txt"),
            ("درس أول.pdf", "درس أول.pdf"),
            # Shown as "photo" and "exe.jpg" it would be.
            ("photo\u202egpj.exe", "photogpj.exe"),
            ("a\u2066b\u2069\u200f\u2028.txt", "ab.txt"),
            ("e\u0301te\u0301.txt", "été.txt"),
            ("👩‍🏫 plan.txt", "👩‍🏫 plan.txt"),
            ("  a.txt . ", "a.txt"),
            ("", "file"),
            ("..", "file"),
            ("a/", "file"),
            ("\u202e", "file"),
            ("x" * 300 + ".txt", "x" * 251 + ".txt"),
            ("x" * 300, "x" * 255),
            ("x." + "y" * 300, "x." + "y" * 253),
        ],
    )
    def test_cleaned(self, given, kept):
        assert files.clean_name(given) == kept

    @given(st.text(max_size=400))
    def test_always_storable_and_never_a_path(self, name):
        cleaned = files.clean_name(name)
        assert 1 <= len(cleaned) <= 255
        assert cleaned not in (".", "..")
        assert not set(cleaned) & set("/\\\0")
        cleaned.encode()

    def test_the_address_holds_the_name(self, monkeypatch):
        monkeypatch.setattr(settings, "PUBLIC_URL", "https://chat.example.org")
        stored = store("10 % درس?#.txt", b"a")
        data = files.attachment_data(stored)
        before, _, name = data.url.rpartition("/")
        assert before == f"https://chat.example.org/chats/files/{stored.uuid}"
        assert data.url.isascii()
        assert not set("?# ") & set(data.url)
        assert unquote(name) == "10 % درس?#.txt"
        assert (data.name, data.kind, data.content_type, data.size) == (stored.name, "attachment", "text/plain", 1)
        assert files.attachment_data(row(stored)) == data


class TestDisk:
    def test_bytes_are_kept_for_owner_and_group(self, directory, kept):
        before = os.umask(0o077)
        try:
            stored = store("a.png", PNG)
        finally:
            os.umask(before)
        [path] = kept()
        assert path == directory / stored.uuid.hex[:2] / str(stored.uuid)
        assert path.read_bytes() == PNG
        assert path.stat().st_mode & 0o7777 == 0o640
        assert path.parent.stat().st_mode & 0o7777 == 0o750
        assert directory.stat().st_mode & 0o7777 == 0o750

    def test_a_directory_hands_its_group_down(self, directory, kept):
        directory.mkdir()
        if os.geteuid() == 0:  # who else may give a directory to a group that she is not in?
            os.chown(directory, -1, 12345)
        directory.chmod(0o2750)
        store("a.png", PNG)
        [path] = kept()
        assert path.parent.stat().st_mode & 0o2000
        assert path.stat().st_gid == path.parent.stat().st_gid == directory.stat().st_gid

    def test_an_upload_that_lies_in_a_file(self, kept):
        upload = TemporaryUploadedFile("a.docx", "", 0, None)
        with upload:
            upload.write(office("word"))
            upload.size = upload.tell()
            assert files.store(upload, "attachment").content_type == WORD
        assert kept()[0].read_bytes() == office("word")

    @pytest.mark.parametrize("named", [False, True])
    def test_a_disk_that_does_not_take_it(self, kept, monkeypatch, named):
        """Neither before the bytes have their name nor after, which is when the directory is to be kept."""
        sync = os.fsync

        def full(descriptor):
            if [path.suffix == "" for path in kept()] == [named]:
                raise OSError(28, "No space left on device")
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", full)
        assert refusal("a.png", PNG).code == ErrorCode.UNAVAILABLE
        assert kept() == []

    def test_discarded_once_and_again(self, kept):
        one, other = store("a.png", PNG), store("b.png", PNG)
        files.discard(one)
        files.discard(one)
        files.discard(other.uuid)
        assert kept() == []
        files.discard(uuid.uuid4())

    def test_bytes_go_when_the_row_is_gone_for_good(self, kept):
        stored = store("a.png", PNG)
        with transaction.atomic():
            post_delete.send(Attachment, instance=row(stored))
            transaction.set_rollback(True)
        assert len(kept()) == 1
        with transaction.atomic():
            post_delete.send(Attachment, instance=row(stored))
            assert len(kept()) == 1
        assert kept() == []


class TestMessageTypes:
    @pytest.mark.parametrize(
        ("message_type", "name", "content"),
        [
            ("image", "a.png", PNG),
            ("audio", "a.mp3", MP3),
            ("audio", "a.webm", ebml(b"webm")),
            ("video", "a.webm", ebml(b"webm")),
            ("video", "a.mov", box(b"qt  ")),
            ("file", "a.png", PNG),
            ("text", "a.png", PNG),
        ],
    )
    def test_that_fit(self, message_type, name, content):
        files.check_message_type(message_type, [store("b.txt", b"b"), store(name, content)])

    @pytest.mark.parametrize(
        ("message_type", "name", "content"),
        [("image", "a.pdf", PDF), ("image", "a.svg", SVG), ("audio", "a.png", PNG), ("video", "a.mp3", MP3)],
    )
    def test_that_do_not(self, message_type, name, content):
        for stored in ([store(name, content)], []):
            with pytest.raises(ChatError) as refused:
                files.check_message_type(message_type, stored)
            assert refused.value.code == ErrorCode.INVALID_FILE
            assert message_type in refused.value.sentence

    def test_text_needs_none(self):
        files.check_message_type("text", [])


class TestResponse:
    def get(self, stored, download=False, **headers):
        request = RequestFactory().get("/", headers={name.replace("_", "-"): value for name, value in headers.items()})
        return files.response(row(stored), request, download=download)

    @pytest.mark.parametrize(
        ("name", "content", "shown", "content_type"),
        [
            ("a.png", PNG, True, "image/png"),
            ("a.pdf", PDF, True, "application/pdf"),
            ("a.mp3", MP3, True, "audio/mpeg"),
            ("a.mp4", box(b"isom"), True, "video/mp4"),
            ("a.txt", b"hello", False, "text/plain; charset=utf-8"),
            ("a.csv", b"a,b", False, "text/csv; charset=utf-8"),
            ("a.html", HTML, False, "text/plain; charset=utf-8"),
            ("a.svg", SVG, False, "text/plain; charset=utf-8"),
            ("a.docx", office("word"), False, WORD),
            ("a.exe", WINDOWS, False, "application/octet-stream"),
        ],
    )
    def test_shown_or_downloaded(self, name, content, shown, content_type):
        stored = store(name, content)
        answer = self.get(stored)
        assert answer.status_code == 200
        assert answer.content == content
        assert answer["Content-Type"] == content_type
        how = "inline" if shown else "attachment"
        assert answer["Content-Disposition"] == f'{how}; filename="{name}"'
        assert self.get(stored, download=True)["Content-Disposition"] == f'attachment; filename="{name}"'

    def test_headers(self):
        answer = self.get(store("a.gif", SCRIPT_IN_GIF))
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
        assert answer["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert answer["Cache-Control"] == "private, max-age=86400, immutable"
        assert answer["Accept-Ranges"] == "bytes"

    def test_a_player_may_fetch_what_it_plays(self):
        policy = self.get(store("a.mp3", MP3))["Content-Security-Policy"]
        assert "media-src 'self'" in policy
        assert "default-src 'none'" in policy

    def test_a_name_in_any_script(self):
        shown = self.get(store('درس "1".pdf', PDF))["Content-Disposition"]
        assert shown == "inline; filename*=utf-8''%D8%AF%D8%B1%D8%B3%20%221%22.pdf"
        assert self.get(store('say "a".pdf', PDF))["Content-Disposition"] == 'inline; filename="say \\"a\\".pdf"'

    def test_without_a_request(self):
        assert files.response(row(store("a.png", PNG))).content == PNG

    @pytest.mark.parametrize(
        ("wanted", "got", "span"),
        [
            ("bytes=0-0", b"0", "0-0"),
            ("bytes=2-4", b"234", "2-4"),
            ("bytes=7-", b"789", "7-9"),
            ("bytes=7-99", b"789", "7-9"),
            ("bytes=-3", b"789", "7-9"),
            ("bytes=-99", b"0123456789", "0-9"),
            ("BYTES=9-9", b"9", "9-9"),
        ],
    )
    def test_a_range(self, wanted, got, span):
        answer = self.get(store("a", b"0123456789"), Range=wanted)
        assert (answer.status_code, answer.content, answer["Content-Range"]) == (206, got, f"bytes {span}/10")

    @pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=99-100", "bytes=-0"])
    def test_a_range_beyond_the_end(self, wanted):
        answer = self.get(store("a", b"0123456789"), Range=wanted)
        assert (answer.status_code, answer.content, answer["Content-Range"]) == (416, b"", "bytes */10")

    @pytest.mark.parametrize(
        "wanted",
        ["", "bytes=-", "bytes=4-2", "bytes=0-1,3-4", "bytes=a-b", "lines=1-2", "bytes=١-٢", f"bytes={'9' * 5000}-"],
    )
    def test_what_is_no_range_counts_as_none(self, wanted):
        answer = self.get(store("a", b"0123456789"), Range=wanted)
        assert (answer.status_code, answer.content) == (200, b"0123456789")
        assert "Content-Range" not in answer

    def test_a_range_of_another_version(self):
        answer = self.get(store("a", b"0123456789"), Range="bytes=1-2", If_Range='"old"')
        assert (answer.status_code, answer.content) == (200, b"0123456789")

    def test_nginx_sends_the_bytes(self, monkeypatch):
        monkeypatch.setattr(settings, "ACCEL_LOCATION", "/_files/")
        stored = store("a.png", PNG)
        answer = self.get(stored, Range="bytes=0-3")
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer["X-Accel-Redirect"] == f"/_files/{stored.uuid.hex[:2]}/{stored.uuid}"
        assert answer["Content-Type"] == "image/png"
        assert answer["Content-Disposition"] == 'inline; filename="a.png"'

    @pytest.mark.parametrize("location", ["", "/_files/"])
    def test_missing_bytes(self, monkeypatch, location):
        monkeypatch.setattr(settings, "ACCEL_LOCATION", location)
        stored = store("a.png", PNG)
        files.discard(stored)
        with pytest.raises(Http404):
            self.get(stored)
