"""The page at `/` as two and three people use it."""

import asyncio
import re

import pytest
from playwright.async_api import expect
from talk import choose, connected, contents, enter, field, message, until, write

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.host
async def test_two_people_talk(at_a_browser, room):
    async with at_a_browser("alice") as alice, at_a_browser("bob", "fr-FR") as bob:
        await enter(alice, room)
        await enter(bob, room)
        await field(alice).press_sequentially("<b>Good</b> morning")
        await expect(bob.locator("#typing")).to_have_text("Alice Martin écrit…")
        await field(alice).press("Enter")
        await expect(bob.locator("#typing")).to_have_text("")
        for page in (alice, bob):
            # What somebody types is text, never markup.
            await expect(contents(page)).to_have_text(["<b>Good</b> morning"])
        await expect(message(alice, "<b>Good</b> morning").locator(".state")).to_have_text("Sent")

        await write(bob, "صباح الخير")
        await expect(contents(alice)).to_have_text(["<b>Good</b> morning", "صباح الخير"])
        shown = message(alice, "صباح الخير")
        await expect(shown).to_contain_text("Bob Diallo Student")
        assert await shown.locator(".content").evaluate("node => getComputedStyle(node).direction") == "rtl"

        await alice.reload()
        await expect(contents(alice)).to_have_text(["<b>Good</b> morning", "صباح الخير"])


async def test_messages_of_one_person_are_grouped_under_the_day(at_a_browser, room):
    async with at_a_browser("alice") as alice, at_a_browser("bob") as bob:
        await enter(alice, room)
        await enter(bob, room)
        for text in ("One", "Two"):
            await write(bob, text)
        await write(bob, "Line\nbreak 😀 https://example.org/a(b)? And javascript:alert(1)")
        await expect(alice.locator("#messages > li")).to_have_count(3)
        await expect(alice.locator("#messages > li.continued")).to_have_count(2)
        await expect(alice.locator(".sender")).to_have_count(1)
        await expect(alice.locator(".separator.day")).to_have_text(["Today"])
        link = alice.locator("#messages a")
        await expect(link).to_have_count(1)
        await expect(link).to_have_attribute("href", "https://example.org/a(b)")
        await expect(link).to_have_attribute("rel", re.compile("noopener.*noreferrer"))


@pytest.mark.host
async def test_edit_delete_and_moderate(at_a_browser, room):
    async with at_a_browser("alice") as alice, at_a_browser("bob") as bob:
        await enter(alice, room)
        await enter(bob, room)
        await write(bob, "A mistaek")
        await choose(bob, "A mistaek", "Edit")
        await field(bob).fill("A mistake")
        await field(bob).press("Enter")
        await expect(message(alice, "A mistake")).to_contain_text("edited")
        await expect(field(bob)).to_have_value("")

        await write(bob, "Gone soon")
        await choose(bob, "Gone soon", "Delete")
        await bob.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await expect(contents(alice)).to_have_text(["A mistake", "This message was deleted"])

        # A teacher deletes what a student wrote; a student has no such choice.
        await write(alice, "Read page 12")
        item = message(bob, "Read page 12")
        await item.hover()
        await item.locator(".more").click()
        await expect(bob.get_by_role("menuitem")).to_have_text(["Reply", "Copy the text"])
        await bob.keyboard.press("Escape")
        await choose(alice, "A mistake", "Delete")
        await alice.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await expect(contents(bob).first).to_have_text("This message was deleted")


async def test_reply_by_quoting(at_a_browser, room):
    async with at_a_browser("alice") as alice, at_a_browser("bob") as bob:
        await enter(alice, room)
        await enter(bob, room)
        await write(alice, "Who has the book?")
        await choose(bob, "Who has the book?", "Reply")
        await expect(bob.locator("#context")).to_contain_text("Reply to Alice Martin")
        await write(bob, "I have it")
        quote = message(alice, "I have it").locator(".quote")
        await expect(quote).to_contain_text("Alice Martin")
        await expect(quote).to_contain_text("Who has the book?")
        await quote.click()
        await expect(alice.locator("#messages > li").first).to_be_focused()
        await expect(bob.locator("#context")).to_be_hidden()


async def test_the_keyboard_is_enough(at_a_browser, room):
    async with at_a_browser("alice") as alice:
        await enter(alice, room)
        await write(alice, "First")
        await write(alice, "Second")
        await expect(message(alice, "Second").locator(".state")).to_have_text("Sent")
        # Up in an empty field edits one's last message.
        await field(alice).press("ArrowUp")
        await expect(field(alice)).to_have_value("Second")
        await field(alice).press("Escape")
        await expect(field(alice)).to_have_value("")
        # The list is one stop; arrows go through it, Enter opens what can be done.
        await message(alice, "Second").focus()
        await alice.keyboard.press("ArrowUp")
        await expect(message(alice, "First")).to_be_focused()
        await alice.keyboard.press("Enter")
        await expect(alice.get_by_role("menuitem", name="Reply")).to_be_focused()
        await alice.keyboard.press("Escape")
        await expect(message(alice, "First")).to_be_focused()


@pytest.mark.host
async def test_files_with_previews_and_what_is_too_large(at_a_browser, room):
    picture = (
        "const canvas = document.createElement('canvas'); canvas.width = canvas.height = 64;"
        "canvas.getContext('2d').fillRect(9, 9, 40, 40);"
        "new Promise(resolve => canvas.toBlob(async blob => resolve([...new Uint8Array(await blob.arrayBuffer())])))"
    )
    async with at_a_browser("alice") as alice, at_a_browser("bob") as bob:
        await enter(alice, room)
        await enter(bob, room)
        data = bytes(await alice.evaluate(picture))
        await alice.locator("#files").set_input_files(
            [
                {"name": "<img src=x onerror=alert(1)>.png", "mimeType": "image/png", "buffer": data},
                {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"Read this"},
                {"name": "huge.txt", "mimeType": "text/plain", "buffer": b"x" * (10 * 1024 * 1024 + 1)},
            ]
        )
        await expect(alice.locator("#tray .chip")).to_have_count(2)
        await expect(alice.get_by_role("alert")).to_contain_text("huge.txt is too large")
        await expect(alice.locator("#tray canvas")).to_be_visible()
        await write(alice, "For tomorrow")
        shown = message(bob, "For tomorrow")
        await expect(shown.locator(".picture img")).to_be_visible()
        assert (
            await shown.locator(".picture img").evaluate(
                "async image => { await image.decode(); return image.naturalWidth }"
            )
            == 64
        )
        await expect(shown.locator("a.file")).to_contain_text("notes.txt")
        await expect(alice.locator(".outgoing")).to_have_count(0)
        await expect(message(alice, "For tomorrow")).to_have_count(1)


async def test_an_upload_shows_how_far_it_is_and_can_be_cancelled(at_a_browser, room):
    async with at_a_browser("alice") as alice:
        await enter(alice, room)
        network = await alice.context.new_cdp_session(alice)
        await network.send(
            "Network.emulateNetworkConditions",
            {"offline": False, "latency": 20, "downloadThroughput": 1e6, "uploadThroughput": 200_000},
        )
        file = {"name": "long.txt", "mimeType": "text/plain", "buffer": b"A line of text\n" * 60_000}
        await alice.locator("#files").set_input_files([file])
        await field(alice).press("Enter")
        progress = alice.locator(".outgoing progress")
        await expect(progress).to_be_visible()
        await until(alice, "document.querySelector('.outgoing progress')?.value > 10")
        await alice.locator(".outgoing").get_by_role("button", name="Cancel").click()
        await expect(alice.locator("#messages > li")).to_have_count(0)


@pytest.mark.host
async def test_a_voice_note(at_a_browser, room):
    async with at_a_browser("alice", permissions=["microphone"]) as alice, at_a_browser("bob") as bob:
        await enter(alice, room)
        await enter(bob, room)
        await alice.get_by_role("button", name="Record a voice note").click()
        await expect(alice.locator("#recorded")).to_have_text("0:01")
        await alice.locator("#stop-recording").click()
        sound = bob.locator("audio")
        await expect(sound).to_be_visible()
        assert await sound.evaluate(
            "async audio => { audio.muted = true; await audio.play(); return audio.readyState > 0 }"
        )
        await expect(alice.locator("#writing")).to_be_visible()


@pytest.mark.host
async def test_unread_counts_the_line_and_the_title(at_a_browser, server, room):
    other = int(server.manage("create_room", "Chess", "--member", "alice", "bob"))
    async with at_a_browser("alice") as alice, at_a_browser("bob") as bob:
        await enter(alice, other)
        await enter(bob, room)
        for text in ("One", "Two", "Three"):
            await write(bob, text)
        badge = alice.locator(f"[data-room='{room}'] .badge")
        await expect(badge).to_have_text("3 3 unread messages")
        await expect(alice.locator(f"[data-room='{room}'] .last")).to_have_text("Bob Diallo: Three")
        await expect(alice).to_have_title(re.compile(r"^\(\d+\) Chess · Salon$"))
        await enter(alice, room)
        await expect(alice.locator(".separator.new")).to_have_text("New messages")
        await expect(alice.locator("#messages > li", has=alice.locator(".separator.new"))).to_contain_text("One")
        await expect(badge).to_have_count(0)
        await write(alice, "Four")
        await expect(alice.locator(".separator.new")).to_have_count(0)


async def test_what_was_read_is_seen(at_a_browser, server):
    await_room = int(server.manage("create_room", "Two", "--member", "alice", "bob"))
    async with at_a_browser("alice") as alice:
        await enter(alice, await_room)
        await write(alice, "Have you seen it?")
        await expect(message(alice, "Have you seen it?").locator(".state")).to_have_text("Sent")
        async with at_a_browser("bob") as bob:
            await enter(bob, await_room)
            await expect(contents(bob)).to_have_text(["Have you seen it?"])
            await expect(message(alice, "Have you seen it?").locator(".state")).to_have_text("Seen")


@pytest.mark.host
async def test_presence(at_a_browser):
    async with at_a_browser("alice") as alice:
        await alice.get_by_role("button", name="New room").click()
        dialog = alice.get_by_role("dialog")
        await dialog.get_by_label("Add people").fill("carol")
        await dialog.get_by_role("button", name="Carol Weiss").click()
        await dialog.get_by_role("button", name="Create").click()
        await expect(alice.locator("#room-name")).to_have_text("Carol Weiss")
        await expect(alice.locator("#room-state")).to_have_text("Offline")
        async with at_a_browser("carol") as carol:
            await connected(carol)
            await expect(alice.locator("#room-state")).to_have_text("Online")
            await expect(alice.locator("[data-room] .presence.online")).to_have_count(1)
        await expect(alice.locator("#room-state")).to_contain_text("Last seen")


@pytest.mark.host
async def test_a_room_is_made_changed_left_and_deleted(at_a_browser):
    async with at_a_browser("alice") as alice, at_a_browser("bob") as bob, at_a_browser("carol") as carol:
        await connected(bob)
        await connected(carol)
        await alice.get_by_role("button", name="New room").click()
        dialog = alice.get_by_role("dialog")
        await dialog.get_by_label("Name of the room").fill("Trip <i>to</i> Lyon")
        await dialog.get_by_role("button", name="Bob Diallo").click()
        await dialog.get_by_role("button", name="Create").click()
        await expect(alice.locator("#room-name")).to_have_text("Trip <i>to</i> Lyon")
        await bob.get_by_role("link", name="Trip <i>to</i> Lyon").click()
        await write(alice, "Who comes?")
        await expect(contents(bob)).to_have_text(["Who comes?"])

        # Carol is invited, and has it without a reload; the room gets another name.
        await alice.get_by_role("button", name="About this room").click()
        await dialog.get_by_role("button", name="Carol Weiss").click()
        await expect(dialog.get_by_role("heading", name="3 members")).to_be_visible()
        await dialog.get_by_label("Name of the room").fill("Trip to Paris")
        await dialog.get_by_role("button", name="Rename").click()
        await carol.get_by_role("link", name=re.compile("Trip to Paris")).click()
        await expect(bob.locator("#room-name")).to_have_text("Trip to Paris")
        await dialog.get_by_role("button", name="Remove Carol Weiss").click()
        await alice.get_by_role("dialog").last.get_by_role("button", name="Remove", exact=True).click()
        await expect(carol.get_by_role("link", name=re.compile("Trip to Paris"))).to_have_count(0)

        # Bob may leave, and nothing more.
        await bob.get_by_role("button", name="About this room").click()
        theirs = bob.get_by_role("dialog")
        await expect(theirs.get_by_role("button", name="Leave the room")).to_be_visible()
        await expect(theirs.get_by_role("button", name="Delete the room")).to_have_count(0)
        await theirs.get_by_role("button", name="Leave the room").click()
        await bob.get_by_role("dialog").last.get_by_role("button", name="Leave the room").click()
        await expect(bob.get_by_role("link", name=re.compile("Trip to Paris"))).to_have_count(0)

        await dialog.get_by_role("button", name="Delete the room").click()
        await alice.get_by_role("dialog").last.get_by_role("button", name="Delete the room").click()
        await expect(alice.get_by_role("link", name=re.compile("Trip to Paris"))).to_have_count(0)


async def test_rooms_are_searched(at_a_browser, room):
    async with at_a_browser("bob") as bob:
        await connected(bob)
        await bob.get_by_role("searchbox", name="Search rooms").fill("class")
        await expect(bob.locator(f"[data-room='{room}']")).to_be_visible()
        await bob.get_by_role("searchbox", name="Search rooms").fill("no such room")
        await expect(bob.get_by_text("No room is called like that.")).to_be_visible()


@pytest.mark.host
async def test_an_announcement_room_is_read_only_for_a_student(at_a_browser, server):
    code = (
        "from chat import rooms; from chat.models import User; "
        "print(rooms.create_room('News', User.objects.filter(username__in=['alice', 'bob']), "
        "room_type='announcement').pk)"
    )
    news = int(server.manage("shell", "--command", code))
    async with at_a_browser("alice") as alice, at_a_browser("bob") as bob:
        await enter(alice, news)
        await enter(bob, news)
        await expect(bob.locator("#compose")).to_be_hidden()
        await write(alice, "No school on Friday")
        await expect(contents(bob)).to_have_text(["No school on Friday"])


@pytest.mark.host
async def test_nothing_that_anybody_types_is_markup(at_a_browser, server):
    attack = '"><img src=x onerror=alert(1)><script>alert(1)</script>{{7*7}}</script>'
    server.manage("create_user", "mallory", "--name", attack, "--password-stdin", stdin="a good long passphrase\n")
    room = int(server.manage("create_room", attack, "--member", "alice", "mallory"))
    async with at_a_browser("mallory") as mallory, at_a_browser("alice") as alice:
        await enter(mallory, room)
        await enter(alice, room)
        await write(mallory, attack)
        await expect(contents(alice)).to_have_text([attack])
        # What a program of hers sends: a quote that is not one, and one with an attack in every field.
        for extra in ({"reply_to": attack}, {"reply_to": {"name": attack, "excerpt": attack, "seq": attack}}):
            sent = await mallory.evaluate(
                """async ([room, extra_data, content]) => {
                    const { csrf } = JSON.parse(document.getElementById("start").textContent);
                    const headers = { "Content-Type": "application/json", "X-CSRFToken": csrf };
                    const body = JSON.stringify({ chat: room, content, extra_data });
                    return (await fetch("/chats/messages/", { method: "POST", headers, body })).status;
                }""",
                [room, extra, attack],
            )
            assert sent == 201
        await expect(contents(alice)).to_have_count(3)
        await expect(alice.locator(".quote")).to_contain_text(attack)
        await alice.get_by_role("button", name="About this room").click()
        await expect(alice.get_by_role("dialog")).to_contain_text(attack)
        await alice.keyboard.press("Escape")
        await alice.reload()
        await expect(contents(alice)).to_have_count(3)
        await field(alice).press_sequentially("x")
        assert await alice.locator("main img[src='x'], dialog img[src='x'], main script").count() == 0


async def test_a_long_message_is_counted(at_a_browser, room):
    async with at_a_browser("alice") as alice:
        await enter(alice, room)
        await field(alice).fill("x" * 2001)
        await field(alice).press("Enter")
        await expect(alice.get_by_role("alert")).to_contain_text("at most 2000 characters")
        await write(alice, "y" * 2000)
        await expect(message(alice, "y" * 2000).locator(".state")).to_have_text("Sent")


async def test_the_language_is_hers_to_choose(at_a_browser, room):
    async with at_a_browser("alice") as alice:
        await connected(alice)
        await alice.locator("#me summary").click()
        await alice.get_by_role("button", name="Français").click()
        await expect(alice.locator("html")).to_have_attribute("lang", "fr")
        await expect(alice.get_by_role("textbox", name="Message", exact=True)).to_be_visible()
        await expect(alice.get_by_placeholder("Écrivez un message…")).to_be_visible()


@pytest.mark.host
async def test_a_wrong_password_is_told_in_her_language(at_a_browser):
    async with at_a_browser(locale="fr-FR") as page:
        await page.get_by_label("Nom d’utilisateur").fill("alice")
        await page.get_by_label("Mot de passe").fill("wrong")
        await page.get_by_role("button", name="Se connecter").click()
        await expect(page.get_by_role("alert")).to_contain_text("n’est pas bon")


async def test_what_records_fits_a_phone(at_a_browser, room):
    phone = {"viewport": {"width": 360, "height": 640}, "permissions": ["microphone"]}
    async with at_a_browser("alice", "fr-FR", **phone) as alice:
        await alice.locator(f"[data-room='{room}']").click()
        await alice.locator("#record").click()
        await expect(alice.locator("#recorded")).to_have_text("0:01")
        for part in (".dot", "#recorded", "#cancel-recording", "#stop-recording"):
            await expect(alice.locator(f"#recording {part}")).to_be_in_viewport(ratio=1)
        await alice.locator("#cancel-recording").click()
        await expect(alice.locator("#recording")).to_be_hidden()


async def test_on_a_phone_one_half_is_shown_at_a_time(at_a_browser, room):
    async with at_a_browser("alice", viewport={"width": 360, "height": 640}, has_touch=True) as alice:
        await expect(alice.locator("#conversation")).to_be_hidden()
        await enter_on_phone(alice, room)
        await expect(alice.locator("#side")).to_be_hidden()
        await field(alice).fill("From the bus")
        await alice.get_by_role("button", name="Send").click()
        await expect(contents(alice)).to_have_text(["From the bus"])
        assert await alice.evaluate("document.documentElement.scrollWidth") == 360
        await alice.go_back()
        await expect(alice.locator("#side")).to_be_visible()
        await enter_on_phone(alice, room)
        await alice.get_by_role("button", name="Back to the rooms").click()
        await expect(alice.locator(f"[data-room='{room}']")).to_be_focused()


async def enter_on_phone(page, room):
    await page.locator(f"[data-room='{room}']").click()
    await expect(page.locator("#conversation")).to_be_visible()


@pytest.mark.host
async def test_signing_out_ends_it(at_a_browser):
    async with at_a_browser("alice") as alice:
        await alice.locator("#me summary").click()
        await alice.get_by_role("button", name="Sign out").click()
        await alice.goto("/")
        await expect(alice.get_by_role("button", name="Sign in")).to_be_visible()


@pytest.mark.host
async def test_three_at_once_all_see_the_same(at_a_browser, room):
    async with at_a_browser("alice") as alice, at_a_browser("bob") as bob, at_a_browser("carol") as carol:
        pages = (alice, bob, carol)
        for page in pages:
            await enter(page, room)
        for number in range(3):
            await asyncio.gather(*(write(page, f"{number}") for page in pages))
        for page in pages:
            await expect(contents(page)).to_have_count(9)
        orders = [await contents(page).all_inner_texts() for page in pages]
        assert orders[0] == orders[1] == orders[2]
