"""Whatever is sent to the HTTP API ends in an answer that its OpenAPI document describes, and in no traceback.

The calls go to the ASGI application itself, with a database of their own. `SALON_FUZZ_INPUTS`: how many inputs each
property is tried with (400).
"""

import asyncio
import json
import logging
import os
import uuid
from dataclasses import dataclass
from datetime import timedelta
from email.message import Message
from urllib.parse import quote, unquote_to_bytes, urlencode

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import connections
from django.test import override_settings
from drf_spectacular.generators import SchemaGenerator
from http_document import HttpDocument
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schema_strategies import ANYTHING, values

from chat import auth, rooms
from chat.models import Attachment, ChatMessage, ChatRoom, Role, User
from salon.asgi import application
from salon.settings import Rate

inputs = settings(
    max_examples=int(os.environ.get("SALON_FUZZ_INPUTS", "400")),
    database=None,
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)

DOCUMENT = SchemaGenerator().get_schema(request=None, public=True)
HTTP = HttpDocument(DOCUMENT)
CALLS = [
    (method.upper(), path, call)
    for path, calls in DOCUMENT["paths"].items()
    for method, call in calls.items()
    if method != "parameters"
]
WRITES = [(method, path, call["requestBody"]["content"]) for method, path, call in CALLS if "requestBody" in call]
PARAMETERS = sorted({each["name"] for _, _, call in CALLS for each in call.get("parameters", ())})
FIELDS = sorted(
    {
        field
        for schema in DOCUMENT["components"]["schemas"].values()
        for field in schema.get("properties", ())
        if "New" in schema.get("description", "new").title()
    }
)
KINDS = {"json": "application/json", "form": "application/x-www-form-urlencoded", "multipart": "multipart/form-data"}
BOUNDARY = "b0und4ry"


@dataclass
class Answer:
    status: int
    headers: Message
    body: bytes


class World:
    """The application with two people, a room that both are in, one that is the second's alone, messages and a file."""

    def __init__(self):
        self._runner = asyncio.Runner()
        call_command("migrate", verbosity=0)
        teacher = User.objects.create(username="tara", role=Role.TEACHER)
        pupil = User.objects.create(username="paul", role=Role.STUDENT)
        self.people = [teacher.pk, pupil.pk]
        self.tokens = [auth.create_token(user, timedelta(days=1)) for user in (teacher, pupil)]
        shared, other = rooms.create_room("Shared", [teacher, pupil]), rooms.create_room("Other", [pupil])
        self.shared, self.keys = shared.pk, [str(key) for room in (shared, other) for key in (room.pk, room.uuid)]
        self.messages, self.files = [], []
        for room in (shared, other):
            answer = self.post("/chats/messages/", {"chat": room.pk, "content": "said"}, self.tokens[1])
            self.messages.append(answer["id"])
            self.files.append(Attachment.objects.get(message=answer["id"]))

    def post(self, path, data, token):
        """The answer to a message with a file."""
        body = multipart(data, [("attachment", "a.txt", "text/plain", b"a text")])
        headers = [bearer(token), (b"content-type", f"multipart/form-data; boundary={BOUNDARY}".encode())]
        answer = self.call("POST", path, b"", headers, body)
        assert answer.status == 201, answer.body
        return json.loads(answer.body)

    def close(self):
        self._runner.close()
        connections.close_all()

    def restore(self):
        """What the calls may have deleted or changed counts again."""
        ChatRoom.objects.filter(pk=self.shared).update(is_deleted=False, name="Shared")
        ChatMessage.objects.filter(pk__in=self.messages).update(is_deleted=False)

    def call(self, method, path, query, headers, body):
        """An answer of the application. `path` is percent-encoded."""
        return self._runner.run(self._call(method, path, query, headers, body))

    async def _call(self, method, path, query, headers, body):
        given_names = {name for name, _ in headers}
        # A server hands no body on whose length it does not know.
        added = [(b"host", b"localhost"), (b"content-length", str(len(body)).encode())]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote_to_bytes(path).decode(errors="replace"),
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query,
            "headers": headers + [each for each in added if each[0] not in given_names],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
        }
        arriving, leaving = asyncio.Queue(), []
        arriving.put_nowait({"type": "http.request", "body": body, "more_body": False})

        async def send(event):
            leaving.append(event)

        await application(scope, arriving.get, send)
        found = Message()
        for name, value in leaving[0]["headers"]:
            found[name.decode("latin-1")] = value.decode("latin-1")
        return Answer(leaving[0]["status"], found, b"".join(event.get("body", b"") for event in leaving[1:]))


class Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.found = []

    def emit(self, record):
        self.found.append(self.format(record))


@pytest.fixture(scope="module")
def world():
    unlimited = dict.fromkeys(django_settings.LIMITS, Rate(1e9, 1e9))
    with override_settings(LIMITS=unlimited):
        made = World()
        yield made
        made.close()


@pytest.fixture(scope="module")
def errors():
    handler = Errors()
    logging.getLogger().addHandler(handler)
    yield handler.found
    logging.getLogger().removeHandler(handler)


def bearer(token):
    return b"authorization", f"Bearer {token}".encode()


def multipart(data, files=(), boundary=BOUNDARY):
    parts = []
    for name, value in data.items():
        for item in value if isinstance(value, list) else [value]:
            text = item if isinstance(item, str) else json.dumps(item)
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
            parts.append((head + text + "\r\n").encode(errors="surrogatepass"))
    for name, filename, content_type, content in files:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        parts += [(head + f"Content-Type: {content_type}\r\n\r\n").encode(errors="surrogatepass"), content, b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode())
    return b"".join(parts)


def encoded(data, kind):
    """A body with this data, if it is an object; a form has texts."""
    if kind == "json" or not isinstance(data, dict):
        return json.dumps(data).encode()
    if kind == "multipart":
        return multipart(data)
    pairs = [
        (name, item if isinstance(item, str) else json.dumps(item))
        for name, value in data.items()
        for item in (value if isinstance(value, list) else [value])
    ]
    return urlencode(pairs, errors="surrogatepass").encode()


# What is sent

texts = st.one_of(
    st.text(max_size=30),
    st.text(st.characters(), max_size=10),
    st.sampled_from(
        [
            *["", " ", "\0", "null", "true", "{}", "[]", "[1]", '{"a":', "1", "-1", "1.5", "1e9", "NaN", "٣", "\ud800"],
            *["x" * 201, "x" * 2001, "x" * 5001, "9" * 30, "9" * 5000, "[" * 2000, '{"a":' * 2000, "../../etc", "%"],
        ]
    ),
)
numbers = st.one_of(
    st.integers(-2, 10), st.integers(), st.sampled_from([2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64]), st.floats()
)
odd = st.one_of(texts, numbers, ANYTHING, st.recursive(texts, lambda inner: st.lists(inner, max_size=2), max_leaves=4))
header_values = st.binary(max_size=30).map(lambda value: value.translate(None, b"\r\n\0"))
HEADERS = {
    b"accept": [b"text/html", b"application/xml;q=0.9", b"*/*; v=\xff"],
    b"accept-language": [b"fr", b"zz-ZZ;q=x"],
    b"range": [b"bytes=0-1", b"bytes=5-", b"bytes=-1", b"bytes=-0", b"bytes=9-1", b"bytes=99-", b"bytes=0-0,1-1"],
    b"if-range": [b'"x"'],
    b"if-modified-since": [b"Thu, 01 Jan 1970 00:00:00 GMT"],
    b"host": [b"evil.example", b"[::1", b"localhost:99999999", b"a b"],
    b"x-forwarded-host": [b"evil.example"],
    b"x-forwarded-proto": [b"https"],
    b"x-http-method-override": [b"DELETE"],
    b"origin": [b"http://evil.example", b"null", b"http://["],
    b"referer": [b"http://["],
    b"cookie": [b'sessionid="\\000aaaaaaaaaaaaaaaa"', b"sessionid=" + b"a" * 32, b"csrftoken=\xff", b";;=;"],
    b"authorization": [b"Bearer", b"Bearer a.b.c", b"Bearer \xff", b"Basic eDp5", b"bearer " + b"a" * 9000],
    b"content-encoding": [b"gzip"],
    b"content-length": [b"0", b"-1", b"x", b"99999999999999999999", b"5"],
    b"content-type": [
        b"",
        b"text/plain",
        b"application/json; charset=utf-8",
        b"application/xml",
        b"/",
        b"multipart/form-data",
        b"*/*",
        b"x; charset*=x''y",
    ],
}
# A known value of the name, or bytes.
headers = st.dictionaries(st.sampled_from(list(HEADERS)), st.integers(0, 20), max_size=3).flatmap(
    lambda chosen: st.tuples(
        *(
            st.tuples(st.just(name), st.just(HEADERS[name][at]) if at < len(HEADERS[name]) else header_values)
            for name, at in chosen.items()
        )
    ).map(list)
)
charsets = st.sampled_from(
    [
        *["", "", "", "; charset=utf-8", "; charset=utf-16", "; charset=latin-1", "; charset=idna", "; charset=zip"],
        *["; charset=\xff", '; charset="', "; charset=undefined", "; charset=utf-7", "; charset*=x''y", ";;;"],
    ]
)
boundaries = st.sampled_from(
    [BOUNDARY] * 5 + ["", "other", '"', "\xff", "a" * 300, "b0und4ry b", "--", f'"{BOUNDARY}"']
)


@st.composite
def content_types(draw, kind):
    """The content type of such a body, or nearly."""
    name = draw(st.sampled_from([KINDS[kind]] * 8 + [*KINDS.values(), KINDS[kind].upper()]))
    boundary = f"; boundary={draw(boundaries)}" if name.lower().startswith("multipart") else ""
    return f"{name}{boundary}{draw(charsets)}".encode("latin-1")


@st.composite
def paths(draw, template, world):
    """A path of the document, its parameters mostly those of something that is there."""
    path = template
    for name in ("key", "id", "uuid", "name"):
        if f"{{{name}}}" not in path:
            continue
        known = {
            "key": world.keys,
            "id": [str(each) for each in world.messages],
            "uuid": [str(file.pk) for file in world.files],
            "name": ["a.txt"],
        }[name]
        value = draw(st.one_of(st.sampled_from(known), st.sampled_from(known), texts, st.uuids().map(str)))
        path = path.replace(f"{{{name}}}", quote(value, safe="", errors="surrogatepass") or "0")
    return path


@st.composite
def credentials(draw, world):
    """Nearly always somebody's token."""
    match draw(st.integers(0, 9)):
        case 0:
            return []
        case 1:
            return [bearer(world.tokens[1])]
    return [bearer(world.tokens[0])]


@st.composite
def bodies(draw, world, content):
    """Fields as the document describes them, some changed, some to what is really there."""
    schema = draw(st.sampled_from(list(content.values())))["schema"]
    body = draw(values(schema, DOCUMENT))
    real = {
        **dict.fromkeys(["chat", "chat_room_id", "room_id"], st.sampled_from([world.shared, *world.keys])),
        **dict.fromkeys(["participants", "participant_ids"], st.lists(st.sampled_from(world.people), max_size=2)),
        "content": st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=9),
    }
    for name in draw(st.sets(st.sampled_from(sorted(real)))):
        body[name] = draw(real[name])
    for _ in range(draw(st.sampled_from([0, 1, 1, 2, 3]))):
        name = draw(st.sampled_from(FIELDS) | st.sampled_from(sorted(body) or FIELDS))
        match draw(st.sampled_from(["change", "change", "remove", "repeat"])):
            case "change":
                body[name] = draw(odd)
            case "remove":
                body.pop(name, None)
            case "repeat":
                body[name] = [body.get(name, "1")] * draw(st.integers(0, 3))
    return body


# What must come back


def assert_answered(world, errors, method, path, query, sent_headers, body):
    """The call ends as the document says, in JSON where it is refused, and nothing is logged as an error."""
    errors.clear()
    answer = world.call(method, path, query, sent_headers, body)
    assert answer.status < 500, answer.body
    assert errors == []
    shown = quote(unquote_to_bytes(path).decode(errors="replace"), safe="/")
    HTTP.check(method, shown, answer)
    if answer.status >= 400 and answer.status != 416:
        assert answer.headers.get_content_type() == "application/json", answer.body
        problem = json.loads(answer.body)
        if "detail" in problem:
            assert {type(problem["detail"]), type(problem["code"])} == {str}
        else:
            assert problem
            assert all(isinstance(each, list) for each in problem.values()), problem
            assert {type(each) for found in problem.values() for each in found} == {str}, problem
    if method in ("DELETE", "PUT", "PATCH"):
        world.restore()
    return answer


@inputs
@given(data=st.data())
def test_any_call(world, errors, data):
    _, template, _ = data.draw(st.sampled_from(CALLS))
    method = data.draw(st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "X"]))
    path = data.draw(paths(template, world))
    if data.draw(st.integers(0, 9)) == 0:
        path += quote(data.draw(texts), safe="/%", errors="surrogatepass")
    sent = {**dict(data.draw(credentials(world))), **dict(data.draw(headers))}
    body = data.draw(st.binary(max_size=50) | odd.map(lambda value: json.dumps(value).encode()))
    query = data.draw(st.sampled_from([b"", b"", b"limit=1", b"&a=1" * 1001, b"\xff", b"%FF=%00", b"token=x"]))
    assert_answered(world, errors, method, path, query, list(sent.items()), body)


@inputs
@given(data=st.data())
def test_fields(world, errors, data):
    method, template, content = data.draw(st.sampled_from(WRITES))
    kind = data.draw(st.sampled_from(list(KINDS)))
    body = encoded(data.draw(bodies(world, content)), kind)
    content_type = KINDS[kind] + (f"; boundary={BOUNDARY}" if kind == "multipart" else "")
    sent = [*data.draw(credentials(world)), (b"content-type", content_type.encode())]
    assert_answered(world, errors, method, data.draw(paths(template, world)), b"", sent, body)


@inputs
@given(data=st.data())
def test_bytes(world, errors, data):
    """A right body of which a piece was replaced, and a content type that is not quite its own."""
    method, template, content = data.draw(st.sampled_from(WRITES))
    kind = data.draw(st.sampled_from(list(KINDS)))
    body = encoded(data.draw(bodies(world, content)), kind)
    if kind == "multipart" and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(["attachment", "attachment_0", "attachment_9999999999999", "voice_note", "x"]))
        file = data.draw(st.tuples(texts, st.sampled_from(["text/plain", "\xff", ""]), st.binary(max_size=60)))
        body = multipart(
            {"chat": world.shared, "content": "with a file"}, [(name, *file)] * data.draw(st.integers(1, 12))
        )
    if data.draw(st.integers(0, 3)):
        start = data.draw(st.integers(0, len(body)))
        end = data.draw(st.integers(start, min(len(body), start + 20)))
        body = body[:start] + data.draw(st.binary(max_size=10) | st.just(body[:end])) + body[end:]
    sent = [*data.draw(credentials(world)), (b"content-type", data.draw(content_types(kind)))]
    assert_answered(world, errors, method, data.draw(paths(template, world)), b"", sent, body)


@inputs
@given(data=st.data())
def test_query_strings(world, errors, data):
    reads = [(path, call) for method, path, call in CALLS if method == "GET"]
    template, _ = data.draw(st.sampled_from([*reads, *[each for each in reads if "{" not in each[0]] * 3]))
    known = st.sampled_from([*world.keys, "1", "0", "50", "200", str(2**63 - 1)])
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(PARAMETERS) | texts, known | texts), max_size=4))
    query = urlencode(pairs, errors="surrogatepass").encode()
    if data.draw(st.integers(0, 4)) == 0:
        query += data.draw(st.binary(max_size=20) | st.sampled_from([b"&a=1" * 1001, b"&;&=", b"&token=" + b"%00"]))
    sent = data.draw(credentials(world))
    answer = assert_answered(world, errors, "GET", data.draw(paths(template, world)), query, sent, b"")
    if answer.status == 200 and template in ("/chats/messages/", "/chats/rooms/"):
        for link in ("next", "previous"):
            if address := json.loads(answer.body)[link]:
                path, _, more = address.partition("localhost")[2].partition("?")
                assert world.call("GET", path, more.encode(), sent, b"").status == 200, address


def test_a_random_uuid_is_no_room(world, errors):
    answer = assert_answered(world, errors, "GET", f"/chats/rooms/{uuid.uuid4()}/", b"", [bearer(world.tokens[0])], b"")
    assert answer.status == 404
