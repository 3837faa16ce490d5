"""What is logged: one line of JSON for an event, or at a terminal a line for a person to read.

A line says when, how bad, by whom in the program (`logger`) and what (`event`, the same for each of its kind, and
`message`, a sentence); and where it is known, for which WebSocket (`connection`) or request (`request`), for which
person (`user`) and room (`room`), after how many seconds (`duration`) and with which `outcome`. It never has a token, a
cookie, a query string, or what somebody has written: an exception whose text quotes a value is told without that text.

The standard library does all of it: Django, Daphne, Twisted and redis-py log by it, and a formatter is less than a
package between them and the line.
"""

import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextvars import Context, ContextVar
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.db import DataError, InternalError

LONGEST_TRACE = 16_000
"""Characters of a trace: the journal cuts a line at 48 KB, and half an object is none."""

LONGEST_REASON = 300
"""Characters of what an exception says."""

PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""syslog(3)'s, for sd-daemon(3): `journalctl -p warning` finds what is at least that bad."""

COLOURS = {logging.DEBUG: "2", logging.INFO: "32", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}

QUOTES_VALUES = (ValueError, LookupError, DataError, InternalError)
"""Exceptions that say what was wrong by quoting it; what is decoded, validated or looked up may be somebody's words."""

REQUEST_NAME = re.compile(r"[0-9a-f]{32}")

SECRET = re.compile(
    r"eyJ[\w-]{4,}(?:\.[\w-]+)*"  # a JWT, whole or cut off
    r"|(?i:\b(?:bearer|basic)\s+)[^\s\"',]+"
    r"|(?i:\b(?:token|password|passwd|secret|sessionid|csrftoken|cookie|authorization)[\"']?\s*[=:]\s*(?:(?:bearer|basic)\s+)?)[\"']?[^\s\"',;&]+"
    r"|(?<=://)[^\s/@]*:[^\s/@]+(?=@)"  # who logs in at a service, and by what
    r"|(?<=[\w/])\?[^\s\"']+=[^\s\"']*"  # a query string
)


class Caller:
    """For whom something is done: a WebSocket or a request, and the person, once that is known."""

    __slots__ = ("id", "kind", "user")

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.id = name
        self.user: int | None = None


caller: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""Whose task or thread this is."""


def is_for(user_id: int | None) -> None:
    """It is known for whom this is done."""
    if who := caller.get():
        who.user = user_id


def request_name(text: str) -> str | None:
    """What a proxy calls a request, if that is a name as nginx gives it: nobody writes into the log by a header."""
    return text if REQUEST_NAME.fullmatch(text) else None


def nobodys() -> Context:
    """For a task that works for everybody, whoever has made it begin."""
    return Context()


def about(event: str, **fields: Any) -> dict[str, Any]:
    """For `extra`: the name of an event, and what its line says beside its sentence. None is left out."""
    return {"event": event, "fields": fields}


def apart(event: str, **fields: Any) -> dict[str, Any]:
    """The same for an event that is not the doing of whoever's task it is found in."""
    return {"event": event, "fields": fields, "is_apart": True}


def scrubbed(text: str) -> str:
    """The text without what looks like a secret."""
    return SECRET.sub("[…]", text)


def reason(error: BaseException) -> str:
    """What an exception says, in one line, without the values that it is about."""
    cause = error.__cause__ if getattr(error.__cause__, "sqlstate", None) else error
    if state := getattr(cause, "sqlstate", None):
        # Of data exceptions (22), and of what somebody's own function raises (P0), the first line may hold data too; of
        # others only those behind it do.
        if state.startswith(("22", "P0")):
            return f"SQLSTATE {state}"
        text = getattr(getattr(cause, "diag", None), "message_primary", None) or str(cause).partition("\n")[0]
    elif isinstance(error, QUOTES_VALUES):
        return ""
    else:
        text = str(error)
    return scrubbed(" ".join(text.split()))[:LONGEST_REASON]


def named(error: BaseException) -> str:
    """The exception's class, and what it says."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{name}: {said}" if (said := reason(error)) else name


def trace(error: BaseException) -> str:
    """Where an exception came from: the lines of the program, and none of the values in them."""
    text = "\n".join(_trace(error, set()))
    return text if len(text) <= LONGEST_TRACE else f"…{text[-LONGEST_TRACE:]}"


def _trace(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen:
        yield from _trace(before, seen)
        yield "and then:"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"  {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
    yield named(error)
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _trace(each, seen)


def described(record: logging.LogRecord) -> dict[str, Any]:
    """What a line says, by name."""
    event = getattr(record, "event", None) or f"{record.name}.{record.funcName}"
    message = record.getMessage()
    if record.name == "asyncio":
        # Behind the first line it shows what failed, with its exception and all that this quotes.
        message = message.split("\n", 1)[0]
    elif (request := getattr(record, "request", None)) is not None and isinstance(record.args, tuple) and record.args:
        # Django's last word is the path, which may hold somebody's name.
        message = record.msg % (*record.args[:-1], _route(request))
    line = {
        "time": _time(record),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": event,
        "message": scrubbed(message),
    }
    if (who := caller.get()) and not hasattr(record, "is_apart"):
        line[who.kind] = who.id
        if who.user is not None:
            line["user"] = who.user
    line |= {name: value for name, value in getattr(record, "fields", {}).items() if value is not None}
    if isinstance(duration := line.get("duration"), float):
        line["duration"] = round(duration, 6)
    if record.exc_info and record.exc_info[1]:
        error = record.exc_info[1]
        line["error"], line["trace"] = named(error), trace(error)
    return line


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _route(request: object) -> str:
    match = getattr(request, "resolver_match", None)
    return f"/{match.route}" if match else "a request that leads nowhere"


class JSONFormatter(logging.Formatter):
    """A line of JSON; with the journal behind it, the priority in front of it (sd-daemon(3))."""

    def __init__(self) -> None:
        super().__init__()
        self._encode = msgspec.json.Encoder(enc_hook=str).encode
        self._has_journal = is_journal(sys.stderr.fileno()) if hasattr(sys.stderr, "fileno") else False

    def format(self, record: logging.LogRecord) -> str:
        try:
            text = self._encode(described(record)).decode()
        except Exception as error:  # noqa: BLE001 (whoever has something to tell goes on)
            # What the standard library would print instead has every value in it.
            failed = {"time": _time(record), "level": "error", "logger": __name__, "event": "log.failed"}
            text = self._encode(
                {**failed, "message": f"A line of {record.name} cannot be told: {named(error)}"}
            ).decode()
        return f"<{PRIORITIES.get(record.levelno, 6)}>{text}" if self._has_journal else text


class TextFormatter(logging.Formatter):
    """A line for a person at a terminal."""

    LATER = ("time", "level", "logger", "event", "message", "error", "trace")

    def __init__(self, *, has_colours: bool = True) -> None:
        super().__init__()
        self._has_colours = has_colours

    def format(self, record: logging.LogRecord) -> str:
        line = described(record)
        level, details = (
            line["level"].upper().ljust(8),
            " ".join(f"{name}={value}" for name, value in line.items() if name not in self.LATER),
        )
        moment = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        name = line["event"]
        if self._has_colours:
            level = f"\x1b[{COLOURS.get(record.levelno, '0')}m{level}\x1b[0m"
            moment, name, details = (f"\x1b[2m{text}\x1b[0m" if text else "" for text in (moment, name, details))
        # A terminal does what is in a text: nobody else may write to it.
        message = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line["message"])
        text = "  ".join(part for part in (f"{moment} {level}", message, name, details) if part)
        return f"{text}\n{line['trace']}" if "trace" in line else text


def is_journal(descriptor: int) -> bool:
    """Whether what is written there goes to systemd's journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def formatter(form: str) -> logging.Formatter:
    """The formatter of a form: `json`, `text`; or `auto`, the one or the other as somebody sits there."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if form == "text" or (form == "auto" and is_terminal):
        return TextFormatter(has_colours=is_terminal and "NO_COLOR" not in os.environ)
    return JSONFormatter()
