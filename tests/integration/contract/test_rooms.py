"""`/chats/rooms/`: every call of the contract, by whom it may be made, in each encoding."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from api import ENCODINGS, Api
from client import connected, settled

ROOM_FIELDS = {
    "id",
    "uuid",
    "name",
    "details",
    "is_group",
    "room_type",
    "is_deleted",
    "created_at",
    "last_update",
    "last_seq",
    "extra_data",
    "participants",
    "last_message",
    "recipient",
    "unread_count",
    "school",
}


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_teacher_creates_a_room(target, teacher, alice, bob, encoding):
    async with settled(target, bob.token, process=1) as b:
        wanted = {"name": "Physics", "details": "Year 5", "is_group": True, "participants": [bob.id]}
        extra = {"colour": "blue", "levels": [1, 2]}
        room = teacher.ok("POST", "/chats/rooms/", {**wanted, "extra_data": extra}, encoding=encoding, status=201)
        told = (await b.expect("room_update"))["data"]
    assert room.keys() == ROOM_FIELDS | {"messages", "mmessages"}
    assert (told["room_id"], told["kind"]) == (room["id"], "participants_added")
    assert {name: room[name] for name in ("name", "details", "is_group", "room_type", "extra_data")} == {
        "name": "Physics",
        "details": "Year 5",
        "is_group": True,
        "room_type": "group",
        "extra_data": extra,
    }
    assert room["participants"] == [
        {"id": person.id, "username": person.username, "full_name": person.name, "email": "", "image_url": None}
        for person in (alice, bob)
    ]
    assert (room["is_deleted"], room["last_message"], room["recipient"], room["unread_count"]) == (False, None, None, 0)
    assert (room["school"], room["messages"], room["mmessages"]) == (None, [], [])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_extra_data_may_be_a_string_of_json(teacher, encoding):
    room = teacher.ok("POST", "/chats/rooms/", {"name": "R", "extra_data": '{"a": 1}'}, encoding=encoding, status=201)
    assert room["extra_data"] == {"a": 1}
    assert teacher.ok("GET", f"/chats/rooms/{room['id']}/")["extra_data"] == {"a": 1}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("form", ["repeated", "list", "string"])
def test_create_with_a_first_message(target, teacher, pupil, bob, encoding, form):
    people = {"repeated": {"participants": [bob.id]}, "list": {"participant_ids": [bob.id]}}
    people["string"] = {"participant_ids": f"[{bob.id}]"}
    data = {"name": "Chess", "is_group": True, "initial_message": "Welcome!", **people[form]}
    room = teacher.ok("POST", "/chats/rooms/create/", data, encoding=encoding, status=201)
    assert [message["content"] for message in room["messages"]] == ["Welcome!"]
    seen = pupil.ok("GET", f"/chats/rooms/{room['id']}/")
    assert (seen["unread_count"], seen["last_message"]["content"]) == (1, "Welcome!")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_create_group(teacher, bob, encoding):
    data = {"name": "Choir", "is_group": False, "participants": [bob.id], "room_type": "class"}
    room = teacher.ok("POST", "/chats/rooms/create_group/", data, encoding=encoding, status=201)
    assert (room["is_group"], room["room_type"]) == (True, "class")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("path", ["/chats/rooms/create/", "/chats/rooms/"])
def test_a_private_room_of_two_people_is_one(target, school, encoding, path):
    teacher, pupil = school.person("Tara Teach", "teacher"), school.person("Paul Pupil")
    school.room("Shared", teacher, pupil)
    data = {"name": "", "is_group": False, "participants": [pupil.id]}
    first = Api(target, teacher).ok("POST", path, data, encoding=encoding, status=201)
    assert (first["is_group"], first["room_type"]) == (False, "private")
    assert (first["recipient"]["id"], first["name"]) == (pupil.id, "Paul Pupil")
    again = Api(target, pupil, process=1).ok("POST", path, {**data, "participants": [teacher.id]}, encoding=encoding)
    assert again["id"] == first["id"]
    assert (again["recipient"]["id"], again["name"]) == (teacher.id, "Tara Teach")
    # Once it is deleted, they can have another.
    Api(target, teacher).ok("DELETE", f"/chats/rooms/{first['id']}/", status=204)
    assert Api(target, teacher).ok("POST", path, data, encoding=encoding, status=201)["id"] != first["id"]


@pytest.mark.parametrize("role", ["student", "parent"])
@pytest.mark.parametrize("path", ["/chats/rooms/", "/chats/rooms/create/", "/chats/rooms/create_group/"])
def test_who_may_not_create_groups(target, school, bob, role, path):
    person = school.person("Nora Not", role)
    detail = Api(target, person).refused("POST", path, 403, {"name": "Mine", "participants": [bob.id]})
    assert "teachers" in detail


@pytest.mark.parametrize("role", ["teacher", "school_admin", "super_admin", "admin"])
def test_who_may_create_groups(target, school, bob, role):
    person = school.person("Mia May", role)
    Api(target, person).ok("POST", "/chats/rooms/", {"name": "Mine", "participants": [bob.id]}, status=201)


@pytest.mark.parametrize("role", ["student", "parent"])
def test_a_private_room_needs_a_room_that_is_shared(target, school, alice, role):
    person = school.person("Nora Not", role)
    data = {"is_group": False, "participants": [alice.id]}
    detail = Api(target, person).refused("POST", "/chats/rooms/create/", 403, data)
    assert "shares a room" in detail
    # Somebody who does not exist looks the same.
    data["participants"] = [2**40]
    assert Api(target, person).refused("POST", "/chats/rooms/create/", 403, data) == detail
    school.room("Shared", person, alice)
    data["participants"] = [alice.id]
    Api(target, person).ok("POST", "/chats/rooms/create/", data, status=201)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"name": "x" * 201}, "name"),
        ({"name": ""}, "name"),
        ({}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"name": "R", "extra_data": "not JSON"}, "extra_data"),
        ({"name": "R", "extra_data": "[1]"}, "extra_data"),
        ({"name": "R", "extra_data": '{"a": "\\u0000"}'}, "extra_data"),
        ({"name": "R", "extra_data": '{"a": NaN}'}, "extra_data"),
        ({"name": "R", "extra_data": '{"a": %s}' % ("[" * 50 + "]" * 50)}, "extra_data"),
        ({"name": "R", "extra_data": '{"a": "%s"}' % ("x" * 9000)}, "extra_data"),
        ({"name": "R", "participants": ["nobody"]}, "participants"),
        ({"name": "R", "participants": [-1]}, "participants"),
        ({"name": "R", "participants": [2**70]}, "participants"),
        ({"name": "R", "is_group": "perhaps"}, "is_group"),
        ({"name": "R", "room_type": "palace"}, "room_type"),
        ({"name": "R", "is_group": False, "room_type": "class"}, "is_group"),
        ({"name": "R", "initial_message": "x" * 2001}, "initial_message"),
    ],
    ids=str,
)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_room_that_is_not_as_it_should_be(teacher, data, field, encoding):
    errors = teacher.refused("POST", "/chats/rooms/", 400, data, encoding=encoding)
    assert list(errors) == [field]
    assert errors[field]


def test_people_who_do_not_exist_are_named(teacher):
    assert str(2**40) in teacher.refused("POST", "/chats/rooms/", 400, {"name": "R", "participants": [2**40]})


@pytest.mark.parametrize("others", [0, 2])
def test_a_private_room_is_for_two(teacher, bob, carol, others):
    data = {"is_group": False, "participants": [bob.id, carol.id][:others]}
    assert "one other person" in teacher.refused("POST", "/chats/rooms/create/", 400, data)


async def test_my_rooms_newest_activity_first(target, school):
    teacher, pupil = school.person("Tara Teach", "teacher"), school.person("Paul Pupil")
    api = Api(target, teacher)
    names = ["Algebra", "Biology", "Algebra II"]
    made = [
        api.ok("POST", "/chats/rooms/", {"name": name, "details": f"of {name}", "participants": [pupil.id]}, status=201)
        for name in names
    ]
    async with connected(target, pupil.token, process=1) as p:
        await p.say(made[0]["id"], "newest")
        await p.expect("message")
    page = api.ok("GET", "/chats/rooms/")
    assert page.keys() == {"count", "next", "previous", "results"}
    assert (page["count"], page["next"], page["previous"]) == (3, None, None)
    assert [room["name"] for room in page["results"]] == ["Algebra", "Algebra II", "Biology"]
    first = page["results"][0]
    assert first.keys() == ROOM_FIELDS
    assert first["unread_count"] == 1
    assert first["last_message"]["sender"] == {
        "id": pupil.id,
        "username": pupil.username,
        "full_name": pupil.name,
        "email": "",
    }
    found = api.ok("GET", "/chats/rooms/?name=algebra")
    assert [room["name"] for room in found["results"]] == ["Algebra", "Algebra II"]
    assert [room["name"] for room in api.ok("GET", "/chats/rooms/?details=of%20bio")["results"]] == ["Biology"]
    seen = []
    address = "/chats/rooms/?limit=2"
    while address:
        page = api.ok("GET", address[address.index("/chats") :])
        seen += [room["name"] for room in page["results"]]
        address = page["next"]
    assert seen == ["Algebra", "Algebra II", "Biology"]
    assert page["previous"]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "offset=-1", "name=%00", "offset=99999999999999999999"])
def test_a_query_that_is_not_as_it_should_be(teacher, query):
    errors = teacher.refused("GET", f"/chats/rooms/?{query}", 400)
    assert list(errors) == [query.partition("=")[0]]


async def test_a_room_by_id_and_uuid_with_its_messages(target, teacher, alice, bob, school):
    room_id = school.room("With messages", alice, bob)
    async with connected(target, bob.token, process=1) as b:
        for content in ("one", "two"):
            await b.say(room_id, content)
            await b.expect("message")
    room = teacher.ok("GET", f"/chats/rooms/{room_id}/")
    assert teacher.ok("GET", f"/chats/rooms/{room['uuid']}/")["id"] == room_id
    assert [message["content"] for message in room["messages"]] == ["one", "two"]
    assert room["mmessages"] == room["messages"]
    assert room["messages"][-1] == room["last_message"]
    assert room["messages"][0]["sender"] == {"id": bob.id, "username": bob.username, "full_name": bob.name, "email": ""}


NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("key", ["0", "999999999", "99999999999999999999", NOBODY, "nonsense", "-1", "1.5"])
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_a_room_that_there_is_not(teacher, key, method):
    data = {"name": "x"} if method in ("PUT", "PATCH") else None
    assert teacher.refused(method, f"/chats/rooms/{key}/", 404, data) == "Invalid room ID"


@pytest.mark.parametrize(
    ("method", "path", "data"),
    [
        ("GET", "", None),
        ("PUT", "", {"name": "x"}),
        ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None),
        ("POST", "mark_as_read/", {}),
    ],
)
def test_a_room_of_others_looks_like_none(teacher, carols_room, method, path, data):
    assert teacher.refused(method, f"/chats/rooms/{carols_room}/{path}", 404, data) == "Invalid room ID"


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_room_is_changed(target, teacher, alice, bob, carol, school, method, encoding):
    room_id = school.room("Before", alice, bob)
    async with (
        connected(target, bob.token, process=1) as b,
        settled(target, carol.token) as c,
    ):
        await b.join(room_id)
        change = {"name": "After", "details": "changed", "extra_data": {"a": 1}, "participants": [alice.id, carol.id]}
        room = teacher.ok(method, f"/chats/rooms/{room_id}/", change, encoding=encoding)
        assert (room["name"], room["details"], room["extra_data"]) == ("After", "changed", {"a": 1})
        assert {person["id"] for person in room["participants"]} == {alice.id, carol.id}
        told = []
        while not told or told[-1]["kind"] != "participants_removed":
            told.append((await b.expect("room_update"))["data"])
        # That she is removed may be read in the log of changes before the rest is told.
        assert {each["kind"] for each in told} <= {"renamed", "participants_added", "participants_removed"}
        assert all(each["name"] == "After" for each in told if each["kind"] == "renamed")
        assert (await c.expect("room_update"))["data"]["kind"] == "participants_added"
        await b.send("message", {"room_id": room_id, "content": "still here?"})
        await b.error("invalid_room")


def test_what_is_left_out_stays(teacher, alice, bob, school):
    room_id = school.room("Stays", alice, bob)
    room = teacher.ok("PATCH", f"/chats/rooms/{room_id}/", {"details": "new"})
    assert (room["name"], room["details"], len(room["participants"])) == ("Stays", "new", 2)


def test_a_pupil_changes_and_deletes_no_room(pupil, room):
    for method, data in (("PUT", {"name": "Ours"}), ("PATCH", {"participants": []}), ("DELETE", None)):
        assert "teachers" in pupil.refused(method, f"/chats/rooms/{room}/", 403, data)


def test_a_private_room_stays_with_its_two(target, teacher, bob, carol):
    room = teacher.call("POST", "/chats/rooms/create/", {"is_group": False, "participants": [bob.id]}).json
    detail = teacher.refused("PATCH", f"/chats/rooms/{room['id']}/", 403, {"participants": [bob.id, carol.id]})
    assert "group" in detail


async def test_a_room_is_deleted(target, teacher, alice, bob, school):
    room_id = school.room("Short-lived", alice, bob)
    async with connected(target, bob.token, process=1) as b:
        await b.join(room_id)
        assert teacher.ok("DELETE", f"/chats/rooms/{room_id}/", status=204) is None
        assert (await b.expect("room_update"))["data"] == {"room_id": room_id, "kind": "deleted"}
    assert teacher.refused("GET", f"/chats/rooms/{room_id}/", 404) == "Invalid room ID"
    assert room_id not in [room["id"] for room in teacher.ok("GET", "/chats/rooms/?limit=200")["results"]]
    assert teacher.refused("GET", f"/chats/messages/?room_id={room_id}", 404) == "Invalid room ID"


def test_in_an_announcement_room_only_moderators_write(teacher, pupil, bob):
    room = teacher.ok(
        "POST", "/chats/rooms/", {"name": "News", "room_type": "announcement", "participants": [bob.id]}, status=201
    )
    teacher.ok("POST", "/chats/messages/", {"chat": room["id"], "content": "Snow day"}, status=201)
    detail = pupil.refused("POST", "/chats/messages/", 403, {"chat": room["id"], "content": "Hooray"})
    assert "announcements" in detail


async def test_in_an_announcement_room_nobody_else_writes_over_the_wire(target, teacher, alice, bob):
    room = teacher.ok(
        "POST", "/chats/rooms/", {"name": "News", "room_type": "announcement", "participants": [bob.id]}, status=201
    )
    async with connected(target, bob.token) as b, connected(target, alice.token, process=1) as a:
        await b.join(room["id"])
        for kind, data in (("message", {"content": "Hooray"}), ("typing", {"is_typing": True})):
            await b.send(kind, {"room_id": room["id"], **data})
            await b.error("forbidden")
        await a.say(room["id"], "Snow day")
        assert (await b.expect("message"))["data"]["content"] == "Snow day"


def test_two_who_open_their_private_room_at_once_get_the_same(target, school):
    first, second = school.person("Tara Teach", "teacher"), school.person("Tim Teach", "teacher")
    start = threading.Barrier(4)

    def open_room(number):
        me, other = (first, second) if number % 2 else (second, first)
        start.wait()
        data = {"is_group": False, "participants": [other.id]}
        return Api(target, me, process=number // 2).call("POST", "/chats/rooms/create/", data)

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(open_room, range(4)))
    assert sorted(answer.status for answer in found) == [200, 200, 200, 201]
    assert len({answer.json["id"] for answer in found}) == 1


def test_a_private_room_is_called_after_the_other(target, school, alice):
    other = school.person("Pia Privat")
    teacher, pupil = Api(target, alice), Api(target, other, process=1)
    data = {"name": "Pia Privat", "is_group": False, "participants": [other.id]}
    room = teacher.ok("POST", "/chats/rooms/create/", data, status=201)
    assert pupil.ok("GET", f"/chats/rooms/{room['id']}/")["name"] == "Alice Martin"
    assert teacher.ok("PUT", f"/chats/rooms/{room['id']}/", {"name": "Something"})["name"] == "Pia Privat"
    for api, name in ((teacher, "pia priv"), (pupil, "ice mart")):
        found = api.ok("GET", f"/chats/rooms/?name={name.replace(' ', '%20')}")["results"]
        assert [each["id"] for each in found] == [room["id"]]
    assert pupil.ok("GET", "/chats/rooms/?name=Pia")["count"] == 0


def test_what_was_read_can_be_sent_back(teacher, alice, bob, school):
    room_id = school.room("Round trip", alice, bob)
    room = teacher.ok("GET", f"/chats/rooms/{room_id}/")
    again = teacher.ok("PUT", f"/chats/rooms/{room_id}/", room)
    assert {name: again[name] for name in ("name", "details", "participants")} == {
        name: room[name] for name in ("name", "details", "participants")
    }


def test_null_says_as_much_as_nothing(teacher):
    data = {"name": "Nulls", "details": None, "is_group": None, "initial_message": None, "extra_data": None}
    assert teacher.ok("POST", "/chats/rooms/", data, status=201)["details"] == ""


def test_more_than_a_page_holds_is_a_page(teacher):
    assert len(teacher.ok("GET", "/chats/rooms/?limit=1000")["results"]) <= 200


def test_a_room_whose_first_message_is_refused_is_not_made(teacher):
    before = teacher.ok("GET", "/chats/rooms/")["count"]
    data = {"name": "Half", "initial_message": "a\u2028" + "x" * 1999 + "y"}
    assert teacher.call("POST", "/chats/rooms/create/", data).status == 400
    assert teacher.ok("GET", "/chats/rooms/")["count"] == before
