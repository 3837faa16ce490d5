"""Files of messages: up, to the members of their room only, and gone with their message."""

import struct
import zlib

import pytest
from api import Api, File
from client import connected

MEGABYTE = 1024 * 1024


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PNG = b"\x89PNG\r\n\x1a\n" + b"".join(
    _chunk(kind, data)
    for kind, data in (
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0\xff")),
        (b"IEND", b""),
    )
)
OGG = b"OggS\0\x02" + b"\0" * 20 + b"\x01\x13OpusHead\x01\x01" + b"\0" * 40
HTML = b"<!doctype html><script>alert(1)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'


@pytest.fixture
def stranger(target, carol):
    return Api(target, carol)


def path_of(url):
    return url[url.index("/chats") :]


def send(api, room, *files, **fields):
    data = {"chat_room_id": room, "content": "", **fields}
    return api.ok("POST", "/chats/messages/create/", data, files=files, status=201)


async def test_an_image_reaches_the_room(target, teacher, pupil, bob, room):
    async with connected(target, bob.token, process=1) as b:
        await b.join(room)
        sent = send(teacher, room, ("attachment", File("class photo.png", PNG)), message_type="image", content="Look!")
        heard = (await b.expect("message"))["data"]
    assert heard == {name: sent[name] for name in heard}
    assert (sent["message_type"], sent["content"], sent["voice_note_url"]) == ("image", "Look!", None)
    assert sent["attachments"] == [
        {
            "url": sent["attachment_url"],
            "name": "class photo.png",
            "content_type": "image/png",
            "size": len(PNG),
            "kind": "attachment",
        }
    ]
    assert sent["attachment_url"].startswith("http")
    got = pupil.call("GET", path_of(sent["attachment_url"]))
    assert (got.status, got.body) == (200, PNG)
    assert got.headers["Content-Type"] == "image/png"
    assert got.headers["Content-Disposition"] == 'inline; filename="class photo.png"'
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in got.headers["Content-Security-Policy"]


def test_several_files_in_the_order_of_their_names(teacher, room):
    names = ["attachment_1", "attachment_10", "attachment_0", "attachment", "attachment_2"]
    files = [(name, File(f"{name}.txt", name.encode())) for name in names]
    sent = send(teacher, room, *files, ("voice_note", File("note.ogg", OGG)))
    assert [each["name"] for each in sent["attachments"]] == [
        "attachment.txt",
        "attachment_0.txt",
        "attachment_1.txt",
        "attachment_2.txt",
        "attachment_10.txt",
        "note.ogg",
    ]
    assert path_of(sent["attachment_url"]).endswith("/attachment.txt")
    assert path_of(sent["voice_note_url"]).endswith("/note.ogg")


def test_only_members_get_a_file(target, teacher, stranger, alice, room):
    url = path_of(send(teacher, room, ("attachment", File("a.txt", b"between us")))["attachment_url"])
    assert stranger.refused("GET", url, 404)
    assert Api(target).refused("GET", url, 401)
    # An <img> sends no headers.
    assert Api(target).call("GET", f"{url}?token={alice.token}").body == b"between us"
    assert Api(target).refused("GET", f"{url}?token=nonsense", 401)


@pytest.mark.parametrize(
    ("name", "content"), [("page.html", HTML), ("drawing.svg", SVG), ("run.exe", b"MZ\x90\0" + bytes(60))]
)
def test_what_a_browser_would_run_is_only_for_download(teacher, room, name, content):
    got = teacher.call("GET", path_of(send(teacher, room, ("attachment", File(name, content)))["attachment_url"]))
    assert got.body == content
    assert got.headers["Content-Disposition"].startswith("attachment")
    assert got.headers.get_content_type() in ("text/plain", "application/octet-stream")
    assert got.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("field", "file", "fields"),
    [
        ("attachment", File("photo.png", HTML, "image/png"), {}),
        ("attachment", File("empty.txt", b""), {}),
        ("voice_note", File("note.ogg", PNG, "audio/ogg"), {}),
        ("attachment", File("a.txt", b"text"), {"message_type": "image"}),
    ],
    ids=["name", "empty", "voice", "type"],
)
def test_a_file_that_is_not_what_it_says(teacher, room, field, file, fields):
    data = {"chat_room_id": room, "content": "x", **fields}
    assert teacher.refused("POST", "/chats/messages/create/", 400, data, files=[(field, file)])


def test_the_largest_file_and_one_that_is_larger(teacher, room):
    largest = bytes(10 * MEGABYTE)
    url = path_of(send(teacher, room, ("attachment", File("big.bin", largest)))["attachment_url"])
    assert teacher.call("GET", url).body == largest
    data, larger = {"chat_room_id": room, "content": "x"}, File("bigger.bin", bytes(10 * MEGABYTE + 1))
    detail = teacher.refused("POST", "/chats/messages/create/", 413, data, files=[("attachment", larger)])
    assert "bigger.bin" in detail
    assert "10 MB" in detail


def test_too_many_files(teacher, room):
    files = [(f"attachment_{number}", File(f"{number}.txt", b"x")) for number in range(11)]
    detail = teacher.refused("POST", "/chats/messages/create/", 400, {"chat_room_id": room}, files=files)
    assert "10 files" in detail


def test_a_message_without_a_file_still_needs_words(teacher, room):
    assert "empty" in teacher.refused("POST", "/chats/messages/create/", 400, {"chat_room_id": room, "content": ""})


def test_with_its_message_the_file_goes(teacher, room):
    sent = send(teacher, room, ("attachment", File("a.txt", b"oops")))
    url = path_of(sent["attachment_url"])
    assert teacher.call("GET", url).status == 200
    teacher.ok("DELETE", f"/chats/messages/{sent['id']}/", status=204)
    assert teacher.refused("GET", url, 404)
    seen = teacher.ok("GET", f"/chats/messages/{sent['id']}/")
    assert (seen["attachment_url"], seen["attachments"]) == (None, [])


def test_a_part_of_a_file(teacher, room):
    url = path_of(send(teacher, room, ("attachment", File("a.txt", b"0123456789")))["attachment_url"])
    got = teacher.call("GET", url, headers={"Range": "bytes=2-4"})
    assert (got.status, got.body, got.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")


@pytest.mark.parametrize("name", ["../../etc/passwd", "%2e%2e%2f", "x"])
def test_the_name_in_an_address_leads_nowhere_else(teacher, name):
    teacher.refused("GET", f"/chats/files/00000000-0000-4000-8000-000000000000/{name}", 404)


def test_a_file_under_another_name_is_not_lost_without_a_word(teacher, room):
    data, files = {"chat_room_id": room, "content": "x"}, [("file", File("a.txt", b"text"))]
    errors = teacher.refused("POST", "/chats/messages/create/", 400, data, files=files)
    assert "attachment" in errors["file"][0]
