"""What a line of the log says, and what it never does."""

import asyncio
import json
import logging
import os
import subprocess
import sys

import pytest
from django.db import DataError, IntegrityError, OperationalError
from django.test import RequestFactory

from chat import follow
from salon import logs

WORDS = "what somebody has written"


@pytest.fixture
def logger():
    """A logger, and the records that it was given, each with its `text`."""
    records = []

    class Handler(logging.Handler):
        def emit(self, record):
            record.text = logs.JSONFormatter().format(record)
            records.append(record)

    logger = logging.getLogger("chat.somewhere")
    logger.addHandler(handler := Handler())
    yield logger, records
    logger.removeHandler(handler)


def line(record):
    return json.loads(record.text if hasattr(record, "text") else logs.JSONFormatter().format(record))


def error_line(logger, error):
    logger, records = logger
    try:
        raise error
    except Exception:
        logger.exception("It failed")
    return line(records[-1])


def test_a_line_says_what_it_is_about(logger):
    logger, records = logger
    logger.warning("Room %d is full", 7, extra=logs.about("room.full", room=7, user=None, duration=0.12345678))
    found = line(records[0])
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "warning",
        "logger": "chat.somewhere",
        "event": "room.full",
        "message": "Room 7 is full",
        "room": 7,
        "duration": 0.123457,
    }


def test_a_line_that_names_no_event_is_known_by_where_it_is_from(logger):
    logger, records = logger
    logger.info("So\nit is")
    text = logs.JSONFormatter().format(records[0])
    assert "\n" not in text
    assert (
        json.loads(text)["event"]
        == f"chat.somewhere.{test_a_line_that_names_no_event_is_known_by_where_it_is_from.__name__}"
    )


async def test_a_line_names_who_it_is_written_for_and_nobody_else(logger):
    logger, records = logger

    async def works():
        logger.info("background")

    async def is_served():
        logs.caller.set(logs.Caller("connection", "c1"))
        logs.is_for(7)
        logger.info("hers")
        logger.info("not hers", extra=logs.apart("service.lost"))
        await asyncio.create_task(works(), context=logs.nobodys())

    await asyncio.create_task(is_served())
    logger.info("elsewhere")
    found = [(each["message"], each.get("connection"), each.get("user")) for each in map(line, records)]
    assert found == [
        ("hers", "c1", 7),
        ("not hers", None, None),
        ("background", None, None),
        ("elsewhere", None, None),
    ]


@pytest.mark.parametrize(
    "text",
    [
        f"eyJ{'hbGciOiJIUzI1NiJ9'}.eyJzdWIiOiI3In0.abc123",
        "GET /ws/chat/?token=abc123 failed",
        "Authorization: Bearer abc123",
        "{'token': 'abc123'}",
        "Cookie: sessionid=abc123; csrftoken=abc123",
        f"redis://:{'abc123'}@localhost/0 is away",
        f"postgresql://salon:{'abc123'}@db/salon",
    ],
)
def test_secrets_are_cut_out(logger, text):
    logger, records = logger
    logger.info("%s", text)
    said = logs.JSONFormatter().format(records[0])
    assert "abc123" not in said
    assert "eyJ" not in said
    assert "[…]" in said


def test_a_line_that_cannot_be_made_is_told_all_the_same():
    wrong = logging.makeLogRecord({"name": "chat.somewhere", "msg": "%d messages", "args": (WORDS,)})
    assert line(wrong)["message"].startswith("A line of chat.somewhere cannot be told: TypeError: %d format: ")
    assert WORDS not in json.dumps(line(wrong))
    odd = logging.makeLogRecord({"name": "chat.somewhere", "msg": "Surrogate \ud800", "fields": {"odd": object()}})
    assert line(odd)["logger"] == "salon.logs"


def test_what_is_no_secret_stays():
    text = "The database is away: connection to server on socket /run/postgresql/.s.PGSQL.5432 failed; password"
    assert logs.scrubbed(text) == text


@pytest.mark.parametrize(
    "error",
    [
        ValueError(f"invalid: {WORDS}"),
        KeyError(WORDS),
        DataError(WORDS),
        UnicodeEncodeError("ascii", WORDS, 0, 1, WORDS),
        json.JSONDecodeError("bad", WORDS, 0),
        ExceptionGroup("two", [ValueError(WORDS), LookupError(WORDS)]),
    ],
)
def test_an_exception_is_told_without_the_value_that_it_quotes(logger, error):
    found = error_line(logger, error)
    assert WORDS not in json.dumps(found)
    assert type(error).__name__ in found["error"]
    assert "in error_line: raise error" in found["trace"]


def test_other_exceptions_say_what_they_say(logger):
    found = error_line(logger, OSError(28, "No space left on device", "/var/lib/salon"))
    assert found["error"] == "OSError: [Errno 28] No space left on device: '/var/lib/salon'"


class RefusedError(Exception):
    def __init__(self, sqlstate, primary):
        super().__init__(f"{primary}\nDETAIL:  Failing row contains ({WORDS}).")
        self.sqlstate = sqlstate
        self.diag = type("Diagnostic", (), {"message_primary": primary})


@pytest.mark.parametrize(
    ("kind", "cause", "said"),
    [
        (IntegrityError, RefusedError("23514", "violates check"), "IntegrityError: violates check"),
        (OperationalError, RefusedError("P0001", f"no {WORDS}"), "OperationalError: SQLSTATE P0001"),
        (DataError, RefusedError("22P02", f'invalid input: "{WORDS}"'), "DataError: SQLSTATE 22P02"),
    ],
)
def test_an_error_of_the_database_is_told_without_the_row(logger, kind, cause, said):
    error = kind(*cause.args)
    error.__cause__ = cause
    found = error_line(logger, error)
    assert found["error"] == f"django.db.utils.{said}"
    assert WORDS not in json.dumps(found)


def test_a_long_trace_fits_into_a_line_of_the_journal(logger):
    def dig(depth):
        if depth:
            dig(depth - 1)
        else:
            raise OSError("at the bottom")

    logger, records = logger
    try:
        dig(900)
    except OSError:
        logger.exception("It failed")
    text = logs.JSONFormatter().format(records[0])
    assert len(text) < 48 * 1024
    assert json.loads(text)["trace"].endswith("OSError: at the bottom")


async def test_a_task_that_nobody_has_asked_is_told_without_its_exception(caplog):
    """asyncio shows the exception in the text."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    future.set_exception(ValueError(WORDS))
    del future
    [record] = caplog.records
    assert WORDS in record.getMessage()
    assert WORDS not in json.dumps(line(record))


def test_a_path_is_not_told(logger):
    logger, records = logger
    request = RequestFactory().get(f"/chats/files/{WORDS}")
    logger.error("%s: %s", "Internal Server Error", request.path, extra={"request": request})
    assert line(records[0])["message"] == "Internal Server Error: a request that leads nowhere"


def test_at_a_terminal_it_is_for_a_person(logger):
    logger, records = logger
    logger.error("It \x1b[2Jfailed", extra=logs.about("it.failed", room=7))
    text = logs.TextFormatter().format(records[0])
    assert "\x1b[31mERROR" in text
    assert r"It \x1b[2Jfailed" in text
    assert "room=7" in text
    assert "\x1b" not in logs.TextFormatter(has_colours=False).format(records[0])


def printed(environment, program, before=""):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SALON_LOG")}
    program = f"{before}import django; django.setup(); import logging; {program}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


PROGRAM = "[logging.getLogger(n).log(l, n) for n in ('chat.x', 'redis', 'chat.follow') for l in (10, 20, 30)]"


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("DEBUG", ["debug chat.x", "info chat.x", "warning chat.x", "info redis", "warning redis"]),
        ("info", ["info chat.x", "warning chat.x", "info redis", "warning redis"]),
        ("WARNING", ["warning chat.x", "warning redis"]),
    ],
)
def test_the_level_is_the_operators_and_who_is_followed_is_told(level, expected):
    pythonpath = {"PYTHONPATH": os.pathsep.join(sys.path)}
    found = [json.loads(each) for each in printed({"SALON_LOG_LEVEL": level, **pythonpath}, PROGRAM)]
    followed = ["info chat.follow", "warning chat.follow"]
    assert [f"{each['level']} {each['logger']}" for each in found] == expected + followed


def test_the_journal_learns_how_bad_it_is():
    """sd-daemon(3): so `journalctl --priority err` finds what is an error."""
    pythonpath = {"PYTHONPATH": os.pathsep.join(sys.path)}
    to_journal = "import os; found = os.fstat(2); os.environ['JOURNAL_STREAM'] = f'{found.st_dev}:{found.st_ino}'; "
    lines = printed(pythonpath, "[logging.getLogger('chat').log(l, 'x') for l in (20, 30, 40)]", before=to_journal)
    assert [line[: line.index("{")] for line in lines] == ["<6>", "<4>", "<3>"]
    assert [json.loads(line[3:])["level"] for line in lines] == ["info", "warning", "error"]


class TestFollow:
    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch):
        class Clock:
            now = 1_000_000.0

        monkeypatch.setattr(follow.time, "time", lambda: Clock.now)
        yield Clock
        follow.following.clear()

    def test_who_is_followed_is_so_until_the_end(self, clock):
        follow.heed([follow.mark("user", 7, clock.now + 50)])
        assert follow.concerns(7, 3)
        assert not follow.concerns(3, 7)
        clock.now += 51
        assert not follow.concerns(7, None)
        assert not follow.following

    def test_it_ends_when_it_is_told_no_more(self, clock):
        follow.heed([follow.mark("room", 7, clock.now + 3600)])
        assert follow.concerns(None, 7)
        clock.now += follow.LEASE + follow.RENEWAL + 1
        assert not follow.concerns(None, 7)

    def test_it_ends_when_that_is_told(self, clock):
        follow.heed([follow.mark("room", 7, clock.now + 50), follow.mark("room", 7, 0)])
        assert not follow.concerns(None, 7)

    def test_what_is_no_mark_is_passed_over(self):
        follow.heed(["follow", "follow everybody 1 2", "follow user x 9"])
        assert not follow.following

    def test_the_longest_mark_fits_into_the_log_of_changes(self):
        from chat.models import Change

        assert len(follow.mark("user", 2**63 - 1, 9_999_999_999)) <= Change._meta.get_field("digest").max_length

    def test_of_an_event_only_its_type_is_known(self):
        assert follow.event_type('{"type":"message","data":{"content":"\\"type\\":\\"x\\""}}') == "message"
        assert follow.event_type("x" * 500 + '"type":"late"') is None
