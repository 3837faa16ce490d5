"""Every screen of the page, with something on it: for screenshots, and for those who check them."""

import re
import struct
import zlib
from contextlib import asynccontextmanager

from playwright.async_api import expect
from talk import connected

PASSWORD = "a good long passphrase"
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 800}

SEED = """
import io
from datetime import timedelta
from asgiref.sync import async_to_sync
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from chat import conversation, files, rooms
from chat.journal import Draft
from chat.models import *
from chat.people import person

by = {user.username: user for user in User.objects.all()}
school = [by[name] for name in ("alice", "bob", "carol", "dora", "emil", "fatou")]

def say(room, username, text, minutes, extra=None, attached=()):
    kept = tuple(files.store(SimpleUploadedFile(name, data), kind) for name, data, kind in attached)
    draft = Draft(room_id=room.pk, sender=person(by[username]), content=text, extra_data=extra, files=kept)
    stored = async_to_sync(conversation.say)(draft).message
    at = timezone.now() - timedelta(minutes=minutes)
    ChatMessage.objects.filter(pk=stored.id).update(created_at=at, last_update=at)
    ChatRoom.objects.filter(pk=room.pk).update(last_update=at)
    return stored

def read(room, *usernames):
    room.refresh_from_db()
    theirs = Membership.objects.filter(room=room, user__username__in=usernames)
    theirs.update(read_seq=room.last_seq, delivered_seq=room.last_seq)

news = rooms.create_room("School news", school, room_type="announcement")
say(news, "alice", "The school is closed on Friday. See https://school.example/calendar for the term.", 60 * 24 * 3)
read(news, *by)
parents = rooms.create_room("Parents of 5B", [by["alice"], by["carol"], by["fatou"]], room_type="parent")
say(parents, "carol", "Thank you for the photos!", 60 * 27)
read(parents, *by)
arabic = rooms.create_room("نادي القراءة", [by["alice"], by["bob"], by["emil"]])
say(arabic, "emil", "متى نلتقي؟ At 15:00 in the library?", 60 * 5)
say(arabic, "bob", "أنا موافق", 60 * 4)
private, _ = rooms.open_private(by["alice"], [by["carol"].pk])
say(private, "alice", "Could you come by on Thursday at five?", 95)
say(private, "carol", "With pleasure. I will bring the form.", 90)
read(private, "carol")
club = rooms.create_room("Chess club", [by["alice"], by["emil"], by["bob"]])
say(club, "emil", "Who plays against me?", 40)
room = rooms.create_room("Class 5B", school, room_type="class", details="Mathematics and natural science, Ms Martin")
say(room, "alice", "Good morning everybody! Here is what we need for the trip to the botanical garden.", 60 * 24 + 30)
trip = b"Shoes for rain, a pencil, something to drink.\\n" * 40
say(room, "alice", "", 60 * 24 + 29, attached=[("Trip to the garden.txt", trip, "attachment")])
first = say(room, "bob", "Do we have to be there at eight or at half past?", 60 * 24 + 20)
say(room, "alice", "At eight, at the main gate. The bus does not wait 🚌", 60 * 24 + 18,
    {"reply_to": {"id": first.id, "seq": first.seq, "name": "Bob Diallo", "excerpt": first.content}})
say(room, "dora", "I can bring a first-aid kit.", 35)
say(room, "dora", "And umbrellas for those who forget theirs.", 34)
leaf = bytes.fromhex(PICTURE)
say(room, "emil", "This is the leaf that I have found:", 22, attached=[("leaf.png", leaf, "attachment")])
gone = say(room, "bob", "wrong room", 20)
ChatMessage.objects.filter(pk=gone.id).update(is_deleted=True)
say(room, "alice", "What a beautiful one. Bring it along on Monday, and we shall look at it under the microscope.", 12)
read(room, "alice", "dora", "emil", "carol", "fatou", "bob")
say(room, "bob", "Can I bring my little brother?", 3)
say(room, "bob", "He is very quiet, most of the time.", 2)
empty = rooms.create_room("Staff room", [by["alice"]])
ChatRoom.objects.filter(pk=empty.pk).update(last_update=timezone.now() - timedelta(days=9))
ChatRoom.objects.filter(pk=room.pk).update(last_update=timezone.now())
print(room.pk, news.pk, arabic.pk, private.pk, empty.pk)
"""


def leaf() -> bytes:
    """A picture of a leaf: 480 by 320 pixels."""
    rows = bytearray()
    for y in range(320):
        rows.append(0)
        for x in range(480):
            along = (x - 50) / 380
            inside = 0 < along < 1 and abs(y - 160) < 330 * along**0.6 * (1 - along)
            stalk = abs(y - 160) < 4 and 20 < x < 60
            vein = abs(y - 160) < 3 or (abs(y - 160) * 0.8 - x) % 44 < 3
            inside, vein = inside or stalk, vein and not stalk
            rows += bytes((150, 190, 120) if inside and vein else (86, 140, 78) if inside else (238, 232, 214))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 480, 320, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(rows), 9))
        + chunk(b"IEND", b"")
    )


def populate(server):
    """People and what they say; the ids of the rooms, by what is in them."""
    for username, name, role in (
        ("dora", "Dora Klein", "teacher"),
        ("emil", "Émile Traoré", "student"),
        ("fatou", "Fatou N’Diaye", "parent"),
        ("nobody", "Nina New", "student"),
    ):
        arguments = ("--name", name, "--role", role, "--password-stdin")
        server.manage("create_user", username, *arguments, stdin=f"{PASSWORD}\n")
    code = SEED.replace("PICTURE", repr(leaf().hex()))
    found = server.manage("shell", "--command", code).split()
    return dict(zip(("class", "news", "arabic", "private", "empty"), map(int, found), strict=True))


@asynccontextmanager
async def signed_in(at_a_browser, username, rooms, name=None, **options):
    path = f"/?room={rooms[name]}" if name else "/"
    async with at_a_browser(username, **options) as page:
        # Signed in, the path is what counts: the form forgets what it was asked for on a phone's first screen.
        await page.goto(path)
        await connected(page)
        yield page


async def screens(at_a_browser, rooms, **options):
    """Each screen as `(name, page)`, in the language and colours of `options`."""
    is_phone = options.get("viewport", DESKTOP)["width"] < 700
    async with at_a_browser(**options) as page:
        yield "sign-in", page
        await page.locator("[name=username]").fill("alice")
        await page.locator("[name=password]").fill("wrong")
        await page.locator("main button.primary").click()
        await expect(page.get_by_role("alert")).to_be_visible()
        yield "sign-in-refused", page
    async with signed_in(at_a_browser, "nobody", rooms, **options) as page:
        yield "no-rooms", page
    async with signed_in(at_a_browser, "carol", rooms, **options):
        async with signed_in(at_a_browser, "alice", rooms, **options) as page:
            if is_phone:
                yield "rooms", page
            await page.locator("#me summary").click()
            yield "account", page
        async with signed_in(at_a_browser, "alice", rooms, "class", **options) as page:
            await expect(page.locator("#messages > li").last).to_be_in_viewport()
            await page.locator("#messages img").evaluate("image => image.decode()")
            yield "conversation", page
            await page.locator("#messages > li").last.focus()
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("menu")).to_be_visible()
            yield "message-menu", page
            await page.get_by_role("menuitem").first.click()
            await page.locator("#files").set_input_files(
                [
                    {"name": "leaf.png", "mimeType": "image/png", "buffer": leaf()},
                    {"name": "list.txt", "mimeType": "text/plain", "buffer": b"a\n" * 900},
                ]
            )
            await page.locator("#content").fill("Of course, if he brings his boots.\nWe leave at eight.")
            await expect(page.locator("#tray canvas")).to_be_visible()
            yield "writing", page
            await page.locator("#about").click()
            await expect(page.locator(".member").first).to_be_visible()
            await expect(page.locator(".person, .search .quiet:not(:empty)").first).to_be_visible()
            yield "about-room", page
        async with signed_in(at_a_browser, "alice", rooms, "arabic", **options) as page:
            yield "right-to-left", page
        async with signed_in(at_a_browser, "alice", rooms, "private", **options) as page:
            yield "private", page
            await page.context.set_offline(True)
            await page.locator("#content").fill("Thank you!")
            await page.locator("#send").click()
            await expect(page.locator("#banner")).to_be_visible()
            yield "offline", page
            await page.context.set_offline(False)
            await expect(page.locator("#banner")).to_be_hidden()
            # Said once only, whoever asks next.
            item = page.locator("#messages > li").last
            await expect(item.locator(".state.sent, .state.seen")).to_be_visible()
            await page.evaluate(
                "() => document.querySelector('#messages > li:last-child .more').click()",
            )
            await page.locator(".menu .danger").click()
            yield "question", page
            await page.locator("dialog .danger").click()
            await expect(item.locator(".deleted")).to_be_visible()
        async with signed_in(at_a_browser, "bob", rooms, "news", **options) as page:
            yield "announcements", page
        async with signed_in(at_a_browser, "alice", rooms, "empty", **options) as page:
            yield "empty-room", page
            if is_phone:
                await page.locator("#back").click()
            await page.locator("#new-room").click()
            await expect(page.locator(".person").first).to_be_visible()
            await page.locator(".person").first.click()
            await expect(page.locator(".chips .chip")).to_have_count(1)
            yield "new-room", page
        async with signed_in(at_a_browser, "alice", rooms, "class", **options) as page:
            await page.locator("#record").click()
            await expect(page.locator("#recorded")).to_have_text(re.compile("0:0[1-9]"))
            yield "recording", page
            await page.locator("#cancel-recording").click()
