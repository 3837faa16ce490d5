"""Requests that are nearly none, through the server's own front door: what cannot be read is refused in JSON."""

import json

import pytest
from api import ENCODINGS, Api, encoded
from school import School

FORM = "application/x-www-form-urlencoded"


@pytest.fixture(params=["embedded", "services"])
def target(request):
    return request.getfixturevalue(request.param)


def refused(target, method, path, status, headers, body=None):
    """The answer of somebody without a token."""
    answered, found, text = target.request(method, path, body, headers)
    assert (answered, found.get_content_type()) == (status, "application/json"), text
    problem = json.loads(text)
    assert {"detail", "code"} == problem.keys()
    return problem


@pytest.mark.parametrize("cookie", ['"\\000aaaaaaaaaaaaaaaa"', '"\\355\\240\\200aaaaaaaaaaaa"', "a" * 5000])
def test_a_session_that_no_database_takes(target, cookie):
    refused(target, "GET", "/chats/rooms/", 401, {"Cookie": f"sessionid={cookie}"})
    for path in ("/", "/admin/"):
        assert target.request("GET", path, headers={"Cookie": f"sessionid={cookie}"})[0] == 302


@pytest.mark.parametrize("parameter", ["charset=idna", "charset=zip", "charset*=x''y", "charset=\xff", "charset=utf-8"])
def test_a_charset_is_not_looked_at(target, parameter):
    headers = {"Content-Type": f"{FORM}; {parameter}"}
    refused(target, "POST", "/chats/rooms/?" + "&a=1" * 1001, 401, headers, b"name=x")


def test_an_address_that_is_no_text(target):
    refused(target, "GET", "/chats/rooms/?name=%FF%00", 401, {})


def test_a_host_that_is_not_this_one(target):
    detail = refused(target, "GET", "/chats/rooms/", 400, {"Host": "evil.example"})["detail"]
    assert "SALON_ALLOWED_HOSTS" in detail
    assert target.request("GET", "/", headers={"Host": "evil.example"})[0] == 400


@pytest.fixture
def teacher(target):
    return School(target).person("Tara Teach", "teacher")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_body_in_chunks(target, teacher, encoding):
    room = School(target).room("Chunks", teacher)
    body, content_type = encoded({"chat": room, "content": "in pieces"}, (), encoding)
    # What has no length is sent in chunks.
    status, _, text = target.request(
        "POST",
        "/chats/messages/",
        iter([body[:9], body[9:]]),
        {"Authorization": f"Bearer {teacher.token}", "Content-Type": content_type},
    )
    assert (status, json.loads(text).get("content")) == (201, "in pieces")
    assert [each["content"] for each in Api(target, teacher).ok("GET", "/chats/messages/")["results"]] == ["in pieces"]


def test_a_number_is_no_text(target, teacher):
    room = School(target).room("Numbers", teacher)
    refused = Api(target, teacher).refused("POST", "/chats/messages/", 400, {"chat": room, "content": 5})
    assert refused == {"content": ["Not a valid string."]}


@pytest.mark.parametrize("people", [["x"], [1, "x"], [0], [None], [2**63], "x", [[1]]])
def test_the_errors_of_a_list_are_a_list(target, teacher, people):
    refused = Api(target, teacher).refused("POST", "/chats/rooms/", 400, {"name": "R", "participants": people})
    assert refused == {"participants": [f"These are not all ids of people; an id is 1 to {2**63 - 1}."]}


def test_a_group_is_one_whatever_type_it_asks_for(target, teacher):
    room = Api(target, teacher).ok(
        "POST", "/chats/rooms/create_group/", {"name": "Choir", "room_type": "private"}, status=201
    )
    assert (room["is_group"], room["room_type"]) == (True, "group")
