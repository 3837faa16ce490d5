"""What a server has logged while tests talked to it: each line an event, and nothing in it that is somebody's own."""

import json
import re
from pathlib import Path

REQUIRED = {"time": str, "level": str, "logger": str, "event": str, "message": str}
OPTIONAL = {
    "connection": str,
    "request": str,
    "user": int,
    "room": int,
    "duration": float,
    "outcome": str,
    "error": str,
    "trace": str,
}
WRITTEN = """
import json
from django.contrib.sessions.models import Session
from chat.models import Attachment, ChatMessage, ChatRoom, User
columns = [
    User.objects.values_list("username", "first_name", "last_name"),
    ChatMessage.objects.values_list("content", "client_id"),
    ChatRoom.objects.values_list("name"),
    Attachment.objects.values_list("name"),
    Session.objects.values_list("session_key"),
]
print(json.dumps(sorted({text for rows in columns for row in rows for text in row if text})))
"""
"""What people have written, and are called."""

AUDIT = ("login.", "logout", "admin.")
"""Who has used the pages of this server, from where: the log is there to tell that."""

TOKEN = re.compile(r"eyJ[\w-]{8,}|\?\w+=|(?i:bearer|sessionid|csrftoken)")
ADDRESS = re.compile(r"\b\d{1,3}(\.\d{1,3}){3}\b|::1")


def lines(directory):
    """The lines of all processes that have logged there, decoded."""
    return [
        json.loads(line)
        for path in sorted(Path(directory).glob("server-*.log"))
        # The last one may be in the midst of being written.
        for line in path.read_text().splitlines(keepends=True)
        if line.endswith("\n") and not line.startswith(WELCOME)
    ]


WELCOME = ("Salon is running", "    alice", "    bob", "They share", "For your frontend", "NEXT_PUBLIC_", "\n")
"""What `make run` prints beside its log."""


def check(target, directory):
    """Every line is as it should be."""
    written = json.loads(target.manage("shell", "--verbosity=0", "--command", WRITTEN))
    found = lines(directory)
    assert found, "nothing was logged"
    texts = []
    for line in found:
        assert {name: type(line.get(name)) for name in REQUIRED} == REQUIRED, line
        for name, kind in OPTIONAL.items():
            assert isinstance(line.get(name, kind()), kind), line
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"])
        assert line["level"] in ("debug", "info", "warning", "error"), line
        text = json.dumps(line, ensure_ascii=False)
        assert not TOKEN.search(text), text
        if not line["event"].startswith(AUDIT):
            assert not ADDRESS.search(text), text
            texts.append(text)
    everything = "\n".join(texts)
    # A shorter word may be one of the log's own.
    telling = [text for text in written if len(text) >= 8 and not re.fullmatch(r"[a-z_.]+", text)]
    assert [text for text in telling if text in everything or json.dumps(text)[1:-1] in everything] == []
