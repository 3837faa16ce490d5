"""A frontend of another origin calls the HTTP API from a browser, preflight included; a foreign site does not."""

import pytest
from api import Api, File

FRONTEND = "http://localhost:3000"


def preflight(target, origin, method, headers="authorization,content-type"):
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    status, answer, _ = target.request("OPTIONS", "/chats/messages/", headers=asked)
    return status, answer


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_an_allowed_origin_may_ask_and_call(target, alice, method):
    status, headers = preflight(target, FRONTEND, method)
    assert status == 200
    assert headers["Access-Control-Allow-Origin"] == FRONTEND
    assert method in headers["Access-Control-Allow-Methods"]
    assert {"authorization", "content-type"} <= set(headers["Access-Control-Allow-Headers"].split(", "))
    assert int(headers["Access-Control-Max-Age"]) > 0
    answer = Api(target, alice).call("GET", "/chats/rooms/", headers={"Origin": FRONTEND})
    assert answer.headers["Access-Control-Allow-Origin"] == FRONTEND
    # A cache keeps the answers to several origins apart.
    assert "origin" in ",".join(answer.headers.get_all("Vary")).lower()
    # Tokens are what a frontend has here; a visitor's cookie is nobody else's to use.
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_errors_can_be_read_too(target, alice):
    for api, path, status in ((Api(target), "/chats/rooms/", 401), (Api(target, alice), "/chats/nothing/", 404)):
        answer = api.call("GET", path, headers={"Origin": FRONTEND})
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (status, FRONTEND)


def test_files_can_be_read_too(target, alice, room):
    api = Api(target, alice)
    files = [("attachment", File("a.txt", b"text"))]
    sent = api.ok("POST", "/chats/messages/create/", {"chat_room_id": room}, files=files, status=201)
    url = sent["attachment_url"][sent["attachment_url"].index("/chats") :]
    answer = api.call("GET", url, headers={"Origin": FRONTEND})
    assert (answer.body, answer.headers["Access-Control-Allow-Origin"]) == (b"text", FRONTEND)


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost.evil.example", "null", "file://"])
def test_a_foreign_origin_may_not(target, alice, origin):
    _, headers = preflight(target, origin, "POST")
    assert "Access-Control-Allow-Origin" not in headers
    answer = Api(target, alice).call("GET", "/chats/rooms/", headers={"Origin": origin})
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_the_documents_can_be_read_by_everybody(target):
    for path in ("/docs/", "/docs/openapi.json", "/docs/asyncapi.json"):
        assert target.request("GET", path)[0] == 200, path
