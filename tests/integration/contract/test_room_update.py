"""What is changed in the admin reaches the sockets that are open, on every process."""

import uuid

import pytest
from api import Api, File
from browser_session import BrowserSession
from client import connected

PASSWORD = "a good long passphrase"


@pytest.fixture(scope="module")
def admin(target):
    username = f"root-{uuid.uuid4().hex[:8]}"
    target.manage("create_user", username, "--superuser", "--password-stdin", stdin=f"{PASSWORD}\n")
    session = BrowserSession(target)
    session.login(username, PASSWORD)
    return session


def change(admin, path, changes, remove=()):
    status, answer, page = admin.submit(path, {**changes, **dict.fromkeys(remove, "on")})
    assert status == 302, page


async def test_every_list_and_form_opens(admin, alice, room):
    for path in ("", "user/", "school/", "chatroom/", "membership/", "chatmessage/"):
        status, _, _ = admin.get(f"/admin/chat/{path}")
        assert status == 200, path
    for path in (f"user/{alice.id}/change/", f"chatroom/{room}/change/", "user/add/", "chatroom/add/"):
        status, _, _ = admin.get(f"/admin/chat/{path}")
        assert status == 200, path


def test_what_the_admin_says_waits_in_the_session_and_in_no_cookie(admin, alice, bob, school):
    room = school.room("Spoken of", alice, bob)
    status, answer, page = admin.submit(f"/admin/chat/chatroom/{room}/change/", {"name": "Renamed here"})
    assert status == 302, page
    assert not any(cookie.startswith("messages=") for cookie in answer.get_all("Set-Cookie", []))
    assert "was changed successfully" in admin.get("/admin/chat/chatroom/")[2]


async def test_a_new_name_is_told(target, admin, school, alice, bob):
    room = school.room("Old name", alice, bob)
    async with connected(target, alice.token) as a, connected(target, bob.token, process=1) as b:
        await a.join(room)
        await b.join(room)
        change(admin, f"/admin/chat/chatroom/{room}/change/", {"name": "New name"})
        for client in (a, b):
            event = await client.expect("room_update")
            assert event["data"] == {"room_id": room, "kind": "renamed", "name": "New name"}
        await a.say(room, "and we go on")
        for client in (a, b):
            await client.expect("message")


async def test_a_deleted_room_is_told_and_silent(target, admin, school, alice, bob):
    room = school.room("Short-lived", alice, bob)
    async with connected(target, alice.token) as a, connected(target, bob.token, process=1) as b:
        await a.join(room)
        await b.join(room)
        change(admin, f"/admin/chat/chatroom/{room}/change/", {"is_deleted": "on"})
        for client in (a, b):
            assert (await client.expect("room_update"))["data"] == {"room_id": room, "kind": "deleted"}
        await a.say(room, "anybody?")
        await a.error("invalid_room")
        await b.send("join_room", {"room_id": room})
        await b.error("invalid_room")


async def test_who_is_removed_hears_no_more(target, admin, school, alice, bob, second_room):
    room = school.room("Smaller soon", alice, bob)
    async with connected(target, alice.token) as a, connected(target, bob.token, process=1) as b:
        await a.join(room)
        await b.join(room)
        await b.join(second_room)
        # The second inline of the form is bob's.
        change(admin, f"/admin/chat/chatroom/{room}/change/", {}, remove=["memberships-1-DELETE"])
        for client in (a, b):
            event = (await client.expect("room_update"))["data"]
            assert event["kind"] == "participants_removed"
            assert [person["id"] for person in event["participants"]] == [bob.id]
        await a.say(room, "without bob")
        await a.expect("message")
        await a.send("typing", {"room_id": room, "is_typing": True})
        await a.say(second_room, "with bob")
        assert (await b.expect("message"))["data"]["content"] == "with bob"
        for kind, data in (("message", {"content": "x"}), ("typing", {"is_typing": True}), ("join_room", {})):
            await b.send(kind, {"room_id": room, **data})
            await b.error("invalid_room")


async def test_a_membership_that_is_given_to_somebody_else(target, admin, school, alice, bob, second_room):
    room = school.room("Handed over", alice)
    async with connected(target, alice.token) as a, connected(target, bob.token, process=1) as b:
        await a.join(room)
        await a.join(second_room)
        await b.settle()
        change(admin, f"/admin/chat/chatroom/{room}/change/", {"memberships-0-user": str(bob.id)})
        event = (await a.expect("room_update"))["data"]
        assert (event["kind"], event["participants"][0]["id"]) == ("participants_removed", alice.id)
        event = (await b.expect("room_update"))["data"]
        assert (event["kind"], event["participants"][0]["id"]) == ("participants_added", bob.id)
        await b.join(room)
        await b.say(room, "mine now")
        await b.expect("message")
        await b.say(second_room, "for both")
        assert (await a.expect("message"))["data"]["content"] == "for both"


async def test_who_is_added_is_told_and_can_join(target, admin, school, alice, bob):
    room = school.room("Bigger soon", alice)
    async with connected(target, alice.token) as a, connected(target, bob.token, process=1) as b:
        await a.join(room)
        await b.settle()
        change(
            admin,
            f"/admin/chat/chatroom/{room}/change/",
            {"memberships-TOTAL_FORMS": "2", "memberships-1-user": str(bob.id), "memberships-1-room": str(room)},
        )
        for client in (a, b):
            event = (await client.expect("room_update"))["data"]
            assert (event["room_id"], event["kind"]) == (room, "participants_added")
            assert event["participants"] == [{"id": bob.id, "name": "Bob Diallo", "role": "student", "avatar": None}]
        await b.join(room)
        await a.say(room, "welcome")
        assert (await b.expect("message"))["data"]["content"] == "welcome"


async def test_an_edited_and_a_deleted_message_are_told(target, admin, alice, bob, room):
    async with connected(target, alice.token) as a, connected(target, bob.token, process=1) as b:
        await a.join(room)
        await b.join(room)
        await a.say(room, "frist")
        message = (await a.expect("message"))["data"]
        await b.expect("message")
        form = f"/admin/chat/chatmessage/{message['id']}/change/"
        change(admin, form, {"content": "first"})
        for client in (a, b):
            event = (await client.expect("room_update"))["data"]
            assert (event["kind"], event["message"]["uuid"]) == ("message_edited", message["uuid"])
            assert event["message"]["content"] == "first"
            assert event["message"]["last_update"] > message["last_update"]
        change(admin, form, {"is_deleted": "on"})
        for client in (a, b):
            event = (await client.expect("room_update"))["data"]
            assert (event["kind"], event["message"]["is_deleted"]) == ("message_deleted", True)
            assert event["message"]["content"] == ""


async def test_a_message_that_is_deleted_in_the_admin_loses_its_files(target, admin, alice, room):
    api = Api(target, alice)
    data = {"chat_room_id": room, "content": "with a file"}
    files = [("attachment", File("a.txt", b"text"))]
    message = api.ok("POST", "/chats/messages/create/", data, files=files, status=201)
    url = message["attachment_url"][message["attachment_url"].index("/chats") :]
    change(admin, f"/admin/chat/chatmessage/{message['id']}/change/", {"is_deleted": "on"})
    assert api.refused("GET", url, 404)


def test_the_rules_hold_in_the_admin_too(target, admin, school, alice, bob, carol):
    api = Api(target, alice)
    private = api.call("POST", "/chats/rooms/create/", {"is_group": False, "participants": [bob.id]}).json
    group = school.room("Group", alice, bob)
    message = api.ok("POST", "/chats/messages/", {"chat": group, "content": "x"}, status=201)
    private_form = f"/admin/chat/chatroom/{private['id']}/change/"
    for path, changes, sentence in [
        (f"/admin/chat/chatroom/{group}/change/", {"name": " "}, "A group needs a name"),
        (f"/admin/chat/chatroom/{group}/change/", {"room_type": "private"}, "A private room is opened by its two"),
        (private_form, {"room_type": "group", "name": "Now a group"}, "A private room is opened by its two"),
        (private_form, {"memberships-1-DELETE": "on"}, "stays with its two people"),
        (private_form, {"memberships-1-user": str(carol.id)}, "stays with its two people"),
        (f"/admin/chat/chatmessage/{message['id']}/change/", {"content": " "}, "write something"),
    ]:
        status, _, page = admin.submit(path, changes)
        assert (status, sentence in page) == (200, True), (path, changes)


async def test_tokens_are_revoked_in_the_admin(target, admin, school):
    person = school.person("Erin Ends")
    async with connected(target, person.token) as client:
        await client.settle()
        data = {"action": "revoke_tokens", "_selected_action": str(person.id)}
        status, _, page = admin.submit("/admin/chat/user/", data)
        assert status == 302, page
        await client.error("revoked")
        assert await client.closed() == 4401
