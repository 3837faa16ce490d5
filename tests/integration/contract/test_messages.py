"""`/chats/messages/`: every call of the contract, by whom it may be made, in each encoding, and what sockets hear."""

import asyncio
import uuid

import pytest
from api import ENCODINGS, Api
from client import assert_timestamp, connected

PATHS = [("/chats/messages/", "chat"), ("/chats/messages/create/", "chat_room_id")]


def contents(page):
    return [message["content"] for message in page["results"]]


def say(api, room, *said):
    return [api.ok("POST", "/chats/messages/", {"chat": room, "content": each}, status=201) for each in said]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(("path", "name"), PATHS)
async def test_a_message_that_is_created_reaches_open_sockets(target, teacher, alice, bob, room, path, name, encoding):
    async with connected(target, bob.token, process=1) as b:
        await b.join(room)
        data = {name: room, "content": "  Hello! ", "extra_data": {"a": [1]}, "sender": bob.id}
        created = teacher.ok("POST", path, data, encoding=encoding, status=201)
        heard = await b.expect("message")
    assert created.pop("status") == "sent"
    assert created.pop("school") is None
    assert heard["data"] == created
    assert (heard["room_id"], type(created.pop("id")), type(created.pop("seq"))) == (room, int, int)
    assert str(uuid.UUID(created["uuid"])) == created.pop("uuid")
    assert_timestamp(created.pop("created_at"))
    assert_timestamp(created.pop("last_update"))
    assert created == {
        "content": "Hello!",
        "sender": alice.id,
        "chat": room,
        "is_deleted": False,
        "extra_data": {"a": [1]},
        "message_type": "text",
        "attachment_url": None,
        "voice_note_url": None,
        "attachments": [],
        "client_id": None,
        "sender_info": {"id": alice.id, "name": "Alice Martin", "role": "teacher", "avatar": None},
    }


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", [int, str, "uuid"])
def test_the_room_may_be_named_in_three_ways(teacher, room, encoding, kind):
    name = teacher.ok("GET", f"/chats/rooms/{room}/")["uuid"] if kind == "uuid" else kind(room)
    data = {"chat_room_id": name, "content": "x"}
    assert teacher.ok("POST", "/chats/messages/create/", data, encoding=encoding, status=201)["chat"] == room


async def test_what_was_said_over_a_socket_is_there_over_http(target, pupil, alice, own_room):
    async with connected(target, alice.token) as a:
        await a.say(own_room, "over the wire")
        said = (await a.expect("message"))["data"]
    page = pupil.ok("GET", f"/chats/messages/?room_id={own_room}")
    assert [{name: message[name] for name in said} for message in page["results"]] == [said]
    assert pupil.ok("GET", f"/chats/messages/{said['id']}/")["uuid"] == said["uuid"]


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "chat"),
        ({"chat": ""}, "chat"),
        ({"chat": "nonsense"}, "chat"),
        ({"chat": -1}, "chat"),
        ({"chat": 2**70}, "chat"),
        ({"message_type": "dance"}, "message_type"),
        ({"extra_data": "["}, "extra_data"),
        ({"client_id": "x" * 65}, "client_id"),
        ({"content": "a\0b"}, "content"),
    ],
    ids=str,
)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_message_that_is_not_as_it_should_be(teacher, room, data, field, encoding):
    whole = {"content": "x", **data} if field == "chat" else {"chat": room, "content": "x", **data}
    assert list(teacher.refused("POST", "/chats/messages/", 400, whole, encoding=encoding)) == [field]


@pytest.mark.parametrize(("content", "word"), [("", "empty"), (" \n ", "empty"), ("x" * 2001, "2001")])
def test_content_is_held_to_the_rules_of_the_wire(teacher, room, content, word):
    assert word in teacher.refused("POST", "/chats/messages/", 400, {"chat": room, "content": content})
    message = say(teacher, room, "before")[0]
    assert word in teacher.refused("PATCH", f"/chats/messages/{message['id']}/", 400, {"content": content})


def test_half_a_surrogate_pair_is_refused(teacher, room):
    body = b'{"chat": %d, "content": "\\ud800"}' % room
    answer = teacher.target.request(
        "POST",
        "/chats/messages/",
        body,
        {"Authorization": f"Bearer {teacher.token}", "Content-Type": "application/json"},
    )
    assert answer[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "data"),
    [
        ("GET", "/chats/messages/?room_id={room}", None),
        ("GET", "/chats/messages/?chat={room}", None),
        ("POST", "/chats/messages/", {"chat": "{room}", "content": "x"}),
        ("POST", "/chats/messages/create/", {"chat_room_id": "{room}", "content": "x"}),
        ("GET", "/chats/messages/{message}/", None),
        ("PUT", "/chats/messages/{message}/", {"content": "x"}),
        ("PATCH", "/chats/messages/{message}/", {"content": "x"}),
        ("DELETE", "/chats/messages/{message}/", None),
    ],
)
def test_what_is_said_in_other_rooms_is_not_there(target, teacher, carol, carols_room, method, path, data):
    message = say(Api(target, carol), carols_room, "between us")[0]["id"]
    names = {"room": carols_room, "message": message}
    data = data and {name: value.format(**names) for name, value in data.items()}
    teacher.refused(method, path.format(**names), 404, data)
    assert carols_room not in {each["chat"] for each in teacher.ok("GET", "/chats/messages/")["results"]}


@pytest.mark.parametrize("key", ["0", "999999999", "9" * 30, "nonsense"])
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_a_message_that_there_is_not(teacher, key, method):
    data = {"content": "x"} if method in ("PUT", "PATCH") else None
    assert teacher.refused(method, f"/chats/messages/{key}/", 404, data)


def test_pages_by_offset_newest_last(teacher, own_room):
    say(teacher, own_room, *"abcde")
    address, seen = f"/chats/messages/?room_id={own_room}&limit=2&offset=0", []
    while address:
        page = teacher.ok("GET", address[address.index("/chats") :])
        assert page["count"] == 5
        seen.append(contents(page))
        address = page["next"]
    assert seen == [["a", "b"], ["c", "d"], ["e"]]
    assert contents(teacher.ok("GET", page["previous"][page["previous"].index("/chats") :])) == ["c", "d"]


def test_without_an_offset_it_is_the_newest_page(teacher, own_room):
    say(teacher, own_room, *"abcde")
    address, seen = f"/chats/messages/?chat={own_room}&limit=2", []
    page = teacher.ok("GET", address)
    assert page["next"] is None
    while address:
        page = teacher.ok("GET", address[address.index("/chats") :])
        seen.append(contents(page))
        address = page["previous"]
    assert seen == [["d", "e"], ["b", "c"], ["a"]]
    while page["next"]:
        page = teacher.ok("GET", page["next"][page["next"].index("/chats") :])
    assert contents(page)[-1] == "e"


def test_pages_before_and_after_a_message(teacher, own_room):
    seqs = [message["seq"] for message in say(teacher, own_room, *"abcdef")]
    assert seqs == [1, 2, 3, 4, 5, 6]
    for query, found in [
        ("before=4&limit=2", "bc"),
        ("after=4", "ef"),
        ("after=1&limit=2", "bc"),
        ("after=1&before=5&limit=9", "bcd"),
        ("before=1", ""),
        ("after=6", ""),
        ("before=99&limit=2", "ef"),
    ]:
        assert contents(teacher.ok("GET", f"/chats/messages/?room_id={own_room}&{query}")) == list(found), query
    page, seen = teacher.ok("GET", f"/chats/messages/?room_id={own_room}&after=1&before=6&limit=2"), []
    while True:
        seen += contents(page)
        if not page["next"]:
            break
        page = teacher.ok("GET", page["next"][page["next"].index("/chats") :])
    assert seen == list("bcde")


def test_messages_of_all_my_rooms(target, school):
    person = school.person("Tara Teach", "teacher")
    api = Api(target, person)
    first, second = school.room("One", person), school.room("Two", person)
    say(api, first, "a")
    say(api, second, "b")
    say(api, first, "c")
    page = api.ok("GET", "/chats/messages/")
    assert (contents(page), page["count"]) == (["a", "b", "c"], 3)
    page = api.ok("GET", "/chats/messages/?limit=2")
    assert contents(page) == ["b", "c"]
    assert contents(api.ok("GET", page["previous"][page["previous"].index("/chats") :])) == ["a"]
    assert contents(api.ok("GET", "/chats/messages/?limit=2&offset=2")) == ["c"]
    assert contents(api.ok("GET", "/chats/messages/?offset=99")) == []


@pytest.mark.parametrize("query", ["before=x", "after=-1", "offset=1&after=1", "limit=0", "room_id=x", "chat=%00"])
def test_a_query_that_is_not_as_it_should_be(teacher, query):
    errors = teacher.refused("GET", f"/chats/messages/?{query}", 400)
    assert list(errors) == [query.partition("=")[0]]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_its_author_edits_a_message(target, pupil, alice, own_room, method, encoding):
    message = say(pupil, own_room, "frist")[0]
    async with connected(target, alice.token) as a:
        await a.join(own_room)
        edited = pupil.ok(method, f"/chats/messages/{message['id']}/", {"content": "first"}, encoding=encoding)
        assert edited["content"] == "first"
        assert edited["last_update"] > message["last_update"]
        assert edited["created_at"] == message["created_at"]
        told = (await a.expect("room_update"))["data"]
        assert (told["room_id"], told["kind"]) == (own_room, "message_edited")
        assert told["message"] == {name: edited[name] for name in told["message"]}
    assert pupil.ok("GET", f"/chats/messages/{message['id']}/")["content"] == "first"


def test_nobody_else_edits_it(teacher, pupil, own_room):
    message = say(pupil, own_room, "mine")[0]
    assert "wrote" in teacher.refused("PATCH", f"/chats/messages/{message['id']}/", 403, {"content": "theirs"})


@pytest.mark.parametrize("deletes", ["author", "moderator"])
async def test_a_message_is_deleted(target, teacher, pupil, alice, own_room, deletes):
    message = say(pupil, own_room, "oops")[0]
    path = f"/chats/messages/{message['id']}/"
    async with connected(target, alice.token) as a:
        await a.join(own_room)
        assert (pupil if deletes == "author" else teacher).ok("DELETE", path, status=204) is None
        told = (await a.expect("room_update"))["data"]
        assert (told["kind"], told["message"]["id"]) == ("message_deleted", message["id"])
        assert (told["message"]["content"], told["message"]["is_deleted"]) == ("", True)
    seen = teacher.ok("GET", path)
    assert (seen["is_deleted"], seen["content"], seen["extra_data"]) == (True, "", None)
    pupil.ok("DELETE", path, status=204)
    assert "deleted" in pupil.refused("PATCH", path, 403, {"content": "back"})


@pytest.mark.parametrize("role", ["student", "parent"])
def test_who_may_not_moderate_deletes_nothing_of_others(target, school, teacher, alice, role):
    person = school.person("Nora Not", role)
    room = school.room("Both", alice, person)
    message = say(teacher, room, "mine")[0]
    detail = Api(target, person).refused("DELETE", f"/chats/messages/{message['id']}/", 403)
    assert "teachers" in detail


async def test_sent_twice_under_one_client_id_is_sent_once(target, teacher, alice, bob, own_room):
    data = {"chat": own_room, "content": "once", "client_id": "my-name-1"}
    async with connected(target, bob.token, process=1) as b, connected(target, alice.token) as a:
        await b.join(own_room)
        first = teacher.ok("POST", "/chats/messages/", data, status=201)
        again = teacher.ok("POST", "/chats/messages/", {**data, "content": "again"})
        # Bob may have got it meanwhile.
        assert again | {"status": first["status"]} == first
        assert first["client_id"] == "my-name-1"
        await a.send("message", {"room_id": own_room, "content": "again", "client_id": "my-name-1"})
        assert (await a.expect("message"))["data"]["uuid"] == first["uuid"]
        heard = (await b.expect("message"))["data"]
        assert (heard["uuid"], heard["client_id"]) == (first["uuid"], "my-name-1")
        await b.settle()
    assert teacher.ok("GET", f"/chats/messages/?room_id={own_room}")["count"] == 1


async def test_sent_from_two_processes_at_once_it_is_one_message(target, school, bob):
    person = school.person("Tia Twice")
    own_room = school.room("Twice", person, bob)
    async with (
        connected(target, person.token) as first,
        connected(target, person.token, process=1) as second,
        connected(target, bob.token, process=1) as b,
    ):
        await b.join(own_room)
        for number in range(20):
            data = {"room_id": own_room, "content": f"m{number}", "client_id": f"at-once-{number}"}
            await asyncio.gather(first.send("message", data), second.send("message", data))
            answers = [(await client.expect("message"))["data"] for client in (first, second)]
            assert answers[0] == answers[1]
            assert (await b.expect("message"))["data"] == answers[0]
        await b.settle()
    assert Api(target, person).ok("GET", f"/chats/messages/?room_id={own_room}")["count"] == 20


def test_the_same_name_elsewhere_is_another_message(target, teacher, pupil, own_room, room):
    data = {"content": "x", "client_id": f"shared-{uuid.uuid4()}"}
    found = {
        api.ok("POST", "/chats/messages/", {"chat": chat, **data}, status=201)["uuid"]
        for api in (teacher, pupil)
        for chat in (own_room, room)
    }
    assert len(found) == 4


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/chats/rooms/", "/chats/messages/"])
def test_without_a_token_nothing(target, path, method):
    data = {"name": "x"} if method == "POST" else None
    answer = Api(target).call(method, path, data)
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.json["detail"]


def test_with_a_wrong_token_nothing(target, alice):
    api = Api(target)
    for token in ("nonsense", alice.token[:-4] + "AAAA", "%00"):
        api.token = token
        assert "log in again" in api.refused("GET", "/chats/rooms/", 401)


def test_other_addresses_and_methods_answer_in_json(teacher, room):
    teacher.refused("GET", "/chats/", 404)
    teacher.refused("GET", "/chats/elsewhere/", 404)
    teacher.refused("PATCH", "/chats/rooms/", 405, {})
    teacher.refused("GET", "/chats/messages/create/", 405)
    teacher.refused("POST", f"/chats/rooms/{room}/", 405, {})


def test_a_body_that_cannot_be_read(target, alice):
    headers = {"Authorization": f"Bearer {alice.token}"}
    for kind, body, status in [
        ("application/json", b"{", 400),
        ("application/json", b"[1]", 400),
        ("application/json", b"[" * 100_000, 400),
        ("application/json", b'{"name": NaN}', 400),
        ("application/json", b'{"name": "%s"}' % (b"x" * 300_000), 413),
        ("multipart/form-data", b"no boundary", 400),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 400),
        ("text/plain", b"hello", 415),
    ]:
        answer = target.request("POST", "/chats/rooms/", body, {**headers, "Content-Type": kind})
        assert answer[0] == status, answer
        assert answer[2].startswith("{"), answer


async def test_other_extra_data_alone(target, pupil, alice, own_room):
    message = say(pupil, own_room, "words")[0]
    async with connected(target, alice.token) as a:
        await a.join(own_room)
        pupil.ok("PATCH", f"/chats/messages/{message['id']}/", {"extra_data": {"pinned": True}})
        told = (await a.expect("room_update"))["data"]
    assert (told["kind"], told["message"]["content"]) == ("message_edited", "words")
    assert told["message"]["extra_data"] == {"pinned": True}
    assert list(pupil.refused("PUT", f"/chats/messages/{message['id']}/", 400, {})) == ["content"]
