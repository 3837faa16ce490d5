"""The AsyncAPI document describes all that the protocol knows, and is one that tools can read."""

import inspect
import json
from io import StringIO

import jsonschema
import pytest
from django.core.management import call_command
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from schema_strategies import values

import salon
from chat import asyncapi, protocol
from chat.protocol import AnyClientEvent, ChatError, CloseCode, ErrorCode, SendMessage, ServerEvent

CLIENT_EVENTS = AnyClientEvent.__args__
SERVER_EVENTS = ServerEvent.__args__
DOCUMENT = asyncapi.document()
SCHEMAS = DOCUMENT["components"]["schemas"]
MESSAGES = DOCUMENT["components"]["messages"]


def references(node):
    """Every `$ref` below a node."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolve(reference):
    node = DOCUMENT
    for name in reference.removeprefix("#/").split("/"):
        node = node[name]
    return node


@pytest.mark.parametrize("event", CLIENT_EVENTS + SERVER_EVENTS)
def test_every_event_is_a_message_and_described(event):
    message = MESSAGES[event.__name__]
    assert message["name"] == event.__struct_config__.tag
    assert message["title"]
    assert message["summary"]
    assert inspect.cleandoc(event.__doc__).startswith(message["summary"])
    assert resolve(message["payload"]["$ref"])["properties"]["type"] == {"enum": [message["name"]]}
    assert DOCUMENT["channels"]["chat"]["messages"][event.__name__] == {
        "$ref": f"#/components/messages/{event.__name__}"
    }


def test_the_codes_are_listed_with_what_they_mean():
    assert DOCUMENT["x-error-codes"].keys() == set(ErrorCode)
    assert DOCUMENT["x-close-codes"].keys() == {str(code) for code in [1002, 1007, 1009, *map(int, CloseCode)]}
    meanings = [*DOCUMENT["x-error-codes"].values(), *DOCUMENT["x-close-codes"].values()]
    for meaning in meanings:
        assert len(meaning.split()) > 3
        assert meaning.endswith(".")
    assert len(set(DOCUMENT["x-error-codes"].values())) == len(ErrorCode)
    assert SCHEMAS["ErrorCode"]["enum"] == list(ErrorCode)
    for code in ErrorCode:
        assert f"- `{code}`: {code.meaning}" in SCHEMAS["ErrorCode"]["description"]


def test_every_reference_leads_somewhere():
    found = set(references(DOCUMENT))
    assert len(found) > len(MESSAGES)
    for reference in found:
        assert resolve(reference)


def test_every_schema_is_used():
    assert {f"#/components/schemas/{name}" for name in SCHEMAS} <= set(references(DOCUMENT))


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one_of_both_dialects(name):
    """AsyncAPI reads draft 7 unless it is told otherwise; msgspec writes 2020-12."""
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    jsonschema.Draft7Validator.check_schema(SCHEMAS[name])
    assert "    " not in SCHEMAS[name].get("description", "")


def test_the_document_has_the_shape_of_asyncapi_3():
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert DOCUMENT["info"]["title"] == "Salon"
    assert DOCUMENT["info"]["version"] == salon.__version__
    # Fields that the specification does not know must be extensions.
    known = {"asyncapi", "info", "defaultContentType", "servers", "channels", "operations", "components"}
    assert {name for name in DOCUMENT.keys() - known if not name.startswith("x-")} == set()
    (server,) = DOCUMENT["servers"].values()
    assert {"host", "protocol"} <= server.keys() <= {"host", "protocol", "description", "security"}
    for scheme in DOCUMENT["components"]["securitySchemes"].values():
        expected = {"httpApiKey": {"type", "in", "name"}, "http": {"type", "scheme", "bearerFormat"}}[scheme["type"]]
        assert scheme.keys() == expected | {"description"}
    (channel,) = DOCUMENT["channels"].values()
    assert channel["address"] == "/ws/chat/"
    binding = channel["bindings"]["ws"]
    assert binding["method"] == "GET"
    assert binding["query"]["properties"].keys() == {"token"}
    for message in MESSAGES.values():
        assert message.keys() <= {"name", "title", "summary", "description", "contentType", "payload"}


def test_each_event_is_an_operation_of_its_direction():
    taken = {"receive": set(), "send": set()}
    of_channel = {f"#/channels/chat/messages/{name}" for name in DOCUMENT["channels"]["chat"]["messages"]}
    for operation in DOCUMENT["operations"].values():
        assert operation.keys() <= {"action", "channel", "summary", "messages", "reply"}
        assert operation["channel"] == {"$ref": "#/channels/chat"}
        named = {message["$ref"] for message in operation["messages"]}
        assert named <= of_channel
        taken[operation["action"]] |= named
        if "reply" in operation:
            assert operation["reply"]["channel"] == operation["channel"]
            assert {message["$ref"] for message in operation["reply"]["messages"]} <= of_channel
    assert taken["receive"] == {f"#/channels/chat/messages/{event.__name__}" for event in CLIENT_EVENTS}
    assert taken["send"] == {f"#/channels/chat/messages/{event.__name__}" for event in SERVER_EVENTS}


@pytest.mark.parametrize(
    ("asked", "answer"), [("receive_join_room", "History"), ("receive_message", "Message"), ("receive_ping", "Pong")]
)
def test_what_has_an_answer_names_it(asked, answer):
    replies = [message["$ref"] for message in DOCUMENT["operations"][asked]["reply"]["messages"]]
    assert replies == [f"#/channels/chat/messages/{answer}", "#/channels/chat/messages/Error"]


def test_the_limits_are_told():
    content = SCHEMAS["MessageContent"]["properties"]["content"]
    assert (content["minLength"], content["maxLength"]) == (1, 2000)
    assert "white space" in content["description"]
    assert str(131072) in DOCUMENT["channels"]["chat"]["description"]
    assert DOCUMENT["channels"]["chat"]["x-max-frame-size"] == 131072


@pytest.mark.parametrize(
    ("url", "host", "scheme"),
    [("http://localhost:9000", "localhost:9000", "ws"), ("https://chat.example.org", "chat.example.org", "wss")],
)
def test_the_server_is_where_people_reach_it(url, host, scheme):
    with override_settings(PUBLIC_URL=url):
        server = asyncapi.document()["servers"]["salon"]
    assert (server["host"], server["protocol"]) == (host, scheme)


def test_the_command_prints_it():
    printed = StringIO()
    call_command("asyncapi", stdout=printed)
    assert json.loads(printed.getvalue()) == DOCUMENT


def limits():
    """Each limit of what a client sends: the event, where in it, the last value allowed and the first beyond it."""
    for event in CLIENT_EVENTS:
        fields = {(name,): field for name, field in SCHEMAS[event.__name__]["properties"].items()}
        if data := fields.pop(("data",), None):
            fields |= {("data", name): field for name, field in resolve(data["$ref"])["properties"].items()}
        for path, field in fields.items():
            for schema in field.get("anyOf", [field]):
                for word, last, beyond in (
                    ("minimum", lambda n: n, lambda n: n - 1),
                    ("maximum", lambda n: n, lambda n: n + 1),
                    ("minLength", lambda n: "x" * n, lambda n: "x" * (n - 1)),
                    ("maxLength", lambda n: "👍" * n, lambda n: "👍" * (n + 1)),
                ):
                    if word in schema:
                        name = f"{event.__name__}-{'.'.join(path)}-{word}"
                        yield pytest.param(event, path, last(schema[word]), beyond(schema[word]), id=name)


@pytest.mark.parametrize(("event", "path", "last", "beyond"), list(limits()))
def test_the_limits_of_the_document_are_those_that_are_enforced(event, path, last, beyond):
    def take(value):
        frame = {"type": event.__struct_config__.tag, "data": {"content": "x", "is_typing": True, "status": "away"}}
        (frame["data"] if path[0] == "data" else frame)[path[-1]] = value
        taken = protocol.decode(json.dumps(frame))
        if isinstance(taken, SendMessage):
            protocol.clean_content(taken.data.content)

    take(last)
    with pytest.raises(ChatError):
        take(beyond)


@pytest.mark.parametrize("event", CLIENT_EVENTS)
def test_what_the_document_allows_is_decoded(event):
    @settings(max_examples=100, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(values({"$ref": f"#/components/schemas/{event.__name__}"}, DOCUMENT))
    def check(frame):
        assert type(protocol.decode(json.dumps(frame))) is event

    check()
