"""Whom somebody may write to, and how she leaves a room."""

import uuid

import pytest
from api import Api


@pytest.fixture
def principal(school):
    return school.person("Paula Prinz", "school_admin")


def names(answer):
    return [person["name"] for person in answer["results"]]


def test_who_may_moderate_finds_everybody_by_any_part_of_the_name(target, school, principal):
    mark = f"Zz{uuid.uuid4().hex[:8]}"
    found = school.person(f"Ida {mark}", "parent")
    answer = Api(target, principal).ok("GET", f"/chats/people/?name={mark.lower()}%20ida")
    assert answer["results"] == [{"id": found.id, "name": f"Ida {mark}", "role": "parent", "avatar": None}]
    assert Api(target, principal).ok("GET", f"/chats/people/?name={mark}nobody")["results"] == []


def test_others_find_those_who_share_a_room_with_them(target, school):
    one, two, three = (school.person(f"{name} Quell", "student") for name in ("Una", "Dua", "Tria"))
    school.room("Shared", one, two)
    school.room("Not shared", three)
    assert names(Api(target, one).ok("GET", "/chats/people/?name=quell")) == ["Dua Quell"]


def test_nobody_is_found_without_a_token(target):
    assert Api(target).call("GET", "/chats/people/").status == 401


def test_a_group_is_left(target, school):
    one, two = school.person("Una Leaver"), school.person("Dua Stayer")
    room = school.room("A group", one, two)
    Api(target, one).ok("POST", f"/chats/rooms/{room}/leave/", status=204)
    assert Api(target, one).call("GET", f"/chats/rooms/{room}/").status == 404
    assert len(Api(target, two).ok("GET", f"/chats/rooms/{room}/")["participants"]) == 1
    assert Api(target, one).call("POST", f"/chats/rooms/{room}/leave/").status == 404


def test_a_class_is_left_by_those_who_may_moderate_and_a_private_room_by_nobody(target, school, principal):
    pupil = school.person("Una Pupil")
    admin = Api(target, principal)
    made = admin.ok(
        "POST", "/chats/rooms/", {"name": "5B", "room_type": "class", "participants": [pupil.id]}, status=201
    )
    refused = Api(target, pupil).call("POST", f"/chats/rooms/{made['id']}/leave/")
    assert (refused.status, refused.json["code"]) == (403, "forbidden")
    admin.ok("POST", f"/chats/rooms/{made['id']}/leave/", status=204)
    private = admin.ok("POST", "/chats/rooms/", {"is_group": False, "participants": [pupil.id]}, status=201)
    assert admin.call("POST", f"/chats/rooms/{private['id']}/leave/").status == 403
