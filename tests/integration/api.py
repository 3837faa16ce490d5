"""A person at the HTTP API, as the tests see her: in each encoding, and each answer held against its description."""

import json
import uuid
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import urlencode

ENCODINGS = ("json", "form", "multipart")


@dataclass
class Answer:
    """What came back, held against the server's own OpenAPI document."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class File:
    """A file to upload."""

    name: str
    content: bytes
    content_type: str = "application/octet-stream"


class Api:
    """Calls of one person, at one of the server's processes."""

    def __init__(self, target, person=None, *, process=0):
        self.target = target
        self.token = person.token if person else None
        self.process = process

    def call(self, method, path, data=None, *, encoding="json", files=(), headers=None):
        """`data`: a dict, of which a list is a repeated field; `files`: pairs of a field's name and a `File`."""
        sent = dict(headers or {})
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        body = None
        if data is not None or files:
            body, sent["Content-Type"] = encoded(data or {}, files, encoding)
        answer = Answer(*self.target.request(method, path, body, sent, process=self.process, raw=True))
        self.target.http_document.check(method, path, answer)
        return answer

    def ok(self, method, path, data=None, *, status=200, **options):
        """The body of an answer with this status."""
        answer = self.call(method, path, data, **options)
        assert answer.status == status, answer.body
        return answer.json if answer.body else None

    def refused(self, method, path, status, data=None, **options):
        """The `detail`, or the errors of the fields, of a call that must fail."""
        answer = self.call(method, path, data, **options)
        assert answer.status == status, answer.body
        return answer.json.get("detail", answer.json)


def encoded(data: dict[str, Any], files, encoding):
    """A body and its content type."""
    if files or encoding == "multipart":
        return _multipart(data, files)
    if encoding == "form":
        return urlencode(list(_fields(data))).encode(), "application/x-www-form-urlencoded"
    return json.dumps(data).encode(), "application/json"


def _fields(data):
    """The fields of a form; what is nested travels as a string of JSON, as frontends send it."""
    for name, value in data.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, bool):
                yield name, "true" if item else "false"
            else:
                yield name, json.dumps(item) if isinstance(item, dict) else str(item)


def _multipart(data, files):
    boundary = uuid.uuid4().hex
    parts = []
    for name, value in _fields(data):
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode())
    for name, file in files:
        parts += [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{file.name}"\r\n'.encode(),
            f"Content-Type: {file.content_type}\r\n\r\n".encode(),
            file.content,
            b"\r\n",
        ]
    parts.append(f"--{boundary}--\r\n".encode())
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"
