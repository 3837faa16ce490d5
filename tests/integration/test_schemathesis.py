"""Schemathesis reads the OpenAPI document of a running server, and calls it in every way that it allows or forbids.

What it finds is printed with the seed and a command that repeats the call.
"""

import json
import subprocess
import sys

import pytest
from api import Api, File
from school import School
from services import PostgreSQL, Redis
from target import DEMO, salon

LIMITS = {f"SALON_LIMIT_{name}": "100000/100000" for name in ("REQUESTS", "MESSAGES", "SIGNALS")}
ROOMS = 15
"""Rooms of the caller, each with two messages and a file: some are deleted on the way."""

MAY_REFUSE = [
    "GET /chats/messages/",  # `offset` does not go with `before` and `after`
    "POST /chats/messages/",  # one of three fields names the room; only a message with a file may be empty
    "POST /chats/messages/create/",
    "PUT /chats/messages/{id}/",
    "PATCH /chats/messages/{id}/",
    "POST /chats/rooms/",  # whom it names must be there; a group has a name
    "POST /chats/rooms/create/",
    "POST /chats/rooms/create_group/",
    "PUT /chats/rooms/{key}/",
    "PATCH /chats/rooms/{key}/",
    "GET /chats/files/{uuid}/{name}",  # a file may be shorter than the range that is asked for (416)
]
"""Calls that may answer 400 although each of their fields is as described: it depends on others, or on what is kept."""

CONFIGURATION = """
headers = {{ Authorization = "Bearer {token}" }}
continue-on-failure = true

[checks]
# A form without fields can be made of nearly anything, and an empty field of a form or a query is one left out.
negative_data_rejection.enabled = false
# What is deleted stays readable, marked as deleted.
use_after_free.enabled = false

[generation]
database = "none"
max-examples = {examples}

[dictionaries]
rooms.values = {rooms}
messages.values = {messages}
people.values = {people}
uuids.values = {uuids}
names.values = ["a.txt"]
contents.values = ["said"]

[parameters]
"path.key" = {{ dictionary = "rooms", probability = 0.8 }}
"path.id" = {{ dictionary = "messages", probability = 0.8 }}
"path.uuid" = {{ dictionary = "uuids", probability = 0.8 }}
"path.name" = {{ dictionary = "names", probability = 0.8 }}
"query.room_id" = {{ dictionary = "rooms", probability = 0.8 }}
"query.chat" = {{ dictionary = "rooms", probability = 0.8 }}
"body.chat" = {{ dictionary = "rooms", probability = 0.8 }}
"body.room_id" = {{ dictionary = "rooms", probability = 0.8 }}
"body.chat_room_id" = {{ dictionary = "rooms", probability = 0.8 }}
"body.content" = {{ dictionary = "contents", probability = 0.5 }}
"body.participants[*]" = {{ dictionary = "people", probability = 0.8 }}
"body.participant_ids[*]" = {{ dictionary = "people", probability = 0.8 }}
"""
REFUSAL = """
[[operations]]
include-name = "{name}"
checks.positive_data_acceptance.enabled = false
"""


@pytest.fixture(scope="module")
def lenient_embedded(tmp_path_factory):
    """The embedded server with limits that nobody reaches."""
    with salon(tmp_path_factory.mktemp("embedded"), LIMITS, command=DEMO) as target:
        yield target


@pytest.fixture(scope="module")
def lenient_services(tmp_path_factory):
    """A server with PostgreSQL and Redis, and limits that nobody reaches."""
    with (
        Redis() as redis,
        PostgreSQL() as postgresql,
        salon(
            tmp_path_factory.mktemp("services"),
            {"REDIS_URL": redis.url, "DATABASE_URL": postgresql.url, **LIMITS},
        ) as target,
    ):
        yield target


def configuration(target, examples):
    """A teacher with rooms, messages and files, as the dictionaries that ids are drawn from."""
    school = School(target)
    teacher, pupil = school.person("Tara Teach", "teacher"), school.person("Paul Pupil")
    api, rooms, messages, uuids = Api(target, teacher), [], [], []
    for number in range(ROOMS):
        room = api.ok("POST", "/chats/rooms/", {"name": f"R{number}", "participants": [pupil.id]}, status=201)
        files = [("attachment", File("a.txt", b"a text"))]
        for sent in ({}, {"files": files}):
            said = api.ok("POST", "/chats/messages/", {"chat": room["id"], "content": "said"}, status=201, **sent)
            messages.append(said["id"])
        rooms += [str(room["id"]), room["uuid"]]
        uuids.append(said["attachment_url"].split("/")[-2])
    found = {"rooms": rooms, "messages": messages, "people": [teacher.id, pupil.id], "uuids": uuids}
    text = CONFIGURATION.format(token=teacher.token, examples=examples, **{k: json.dumps(v) for k, v in found.items()})
    return text + "".join(REFUSAL.format(name=name) for name in MAY_REFUSE)


@pytest.mark.parametrize(("kind", "examples"), [("embedded", 25), ("services", 8)])
def test_the_server_is_as_it_says(request, tmp_path, kind, examples):
    target = request.getfixturevalue(f"lenient_{kind}")
    (tmp_path / "schemathesis.toml").write_text(configuration(target, examples))
    done = subprocess.run(
        [
            *[sys.executable, "-m", "schemathesis.cli", "--no-color", "run", f"{target.urls[0]}/docs/openapi.json"],
            *["--warnings", "off", "--report", "json", "--report-json-path", tmp_path / "report.json"],
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    # Whatever the document allows was really answered, and not only refused for an id that is nobody's; with a few
    # examples that is left to chance.
    accepted = {
        name: sum(phase["accepted"] for phase in phases.values()) for name, phases in report["valid_rates"].items()
    }
    never = [name for name, count in accepted.items() if not count and name not in MAY_REFUSE]
    assert never == [] or examples < 25, f"seed {report['seed']}"
    assert len(accepted) == report["operations"]["total"] > 15
