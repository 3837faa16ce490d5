"""Requests that are hardly any, through the server's own front door: each is refused in JSON."""

import json

import pytest

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
