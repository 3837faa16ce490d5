"""What leaves a host for Sentry: a server that is told to report, and somebody who listens in Sentry's place."""

import asyncio
import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg
import pytest
from client import connected
from school import School
from target import salon

from waiting import wait_until

ROOM = "The room of the exploding words"
CONTENT = "explode: these words are nobody's business"

EXPLODING = """
CREATE FUNCTION explode() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'cannot take %', NEW.content USING ERRCODE = '22023'; END $$;
CREATE TRIGGER explode BEFORE INSERT ON chat_chatmessage FOR EACH ROW
WHEN (NEW.content LIKE 'explode:%') EXECUTE FUNCTION explode();
"""
"""A database that puts what was said into its error."""

EVENT_KEYS = {
    *("event_id", "timestamp", "platform", "level", "logger", "release", "environment", "sdk", "tags"),
    *("exception", "message", "contexts"),
}


class Sentry:
    """Takes envelopes, and keeps them as they came."""

    def __init__(self):
        self.requests = []
        received = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                received.append((self.path, str(self.headers), body.decode()))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.dsn = f"http://publickey@127.0.0.1:{self._server.server_port}/7"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    @property
    def everything(self):
        return "\n".join("\n".join(each) for each in self.requests)

    def items(self, kind):
        """The items of this type in all envelopes."""
        found = []
        for _, _, body in list(self.requests):
            lines = body.splitlines()
            for header, item in zip(lines[1::2], lines[2::2], strict=True):
                if json.loads(header)["type"] == kind:
                    found.append(json.loads(item))
        return found


@pytest.fixture
def sentry():
    with Sentry() as server:
        yield server


@pytest.fixture
def explosive(backends):
    """The others' database, and what it does not take."""
    yield
    with psycopg.connect(backends["DATABASE_URL"]) as connection:
        connection.execute("DROP FUNCTION IF EXISTS explode() CASCADE")


async def test_what_leaves_the_host(tmp_path, backends, sentry, explosive):
    environment = {
        **backends,
        "SENTRY_DSN": sentry.dsn,
        "SENTRY_ENVIRONMENT": "test-environment",
        "SENTRY_TRACES_SAMPLE_RATE": "1",
    }
    with salon(tmp_path, environment) as target:
        with psycopg.connect(backends["DATABASE_URL"]) as connection:
            connection.execute(EXPLODING)
        school = School(target)
        ann = school.person("Annabella Explosiva")
        room = school.room(ROOM, ann)
        async with connected(target, ann.token, additional_headers={"Cookie": "sessionid=cookiesecret"}) as client:
            await client.join(room)
            await client.say(room, CONTENT)
            assert (await client.expect("error"))["data"]["code"] == "internal"
        await asyncio.to_thread(wait_until, lambda: sentry.items("event"), "the error of a message")
        headers = {"Cookie": "sessionid=cookiesecret", "User-Agent": "somebodys-browser/1"}
        status, _, _ = await asyncio.to_thread(
            target.request,
            "POST",
            "/chats/messages/?q=querysecret",
            json.dumps({"chat": room, "content": CONTENT}),
            {**headers, "Content-Type": "application/json", "Authorization": f"Bearer {ann.token}"},
        )
        assert status == 500
    # At its end, a process waits for what was not sent yet.
    events, transactions = sentry.items("event"), sentry.items("transaction")
    assert len(events) == 2
    check_events(events)
    check_transactions(transactions)
    secrets = [CONTENT, "nobody's business", ROOM, "Annabella", ann.username, ann.token, "eyJ", "cookiesecret"]
    secrets += ["querysecret", "somebodys-browser", "sessionid", "Bearer", f'"{ann.id}"']
    assert [secret for secret in secrets if secret in sentry.everything] == []
    bodies = "\n".join(body for _, _, body in sentry.requests)
    # The one that stands there is the address of Sentry itself.
    assert not re.search(r"\d+\.\d+\.\d+\.\d+|::1", bodies.replace(sentry.dsn, ""))
    assert "localhost" not in bodies
    # And the host's own log is as it should be, too.
    [log] = tmp_path.glob("server-*.log")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len([line for line in lines if line.get("error") == "django.db.utils.DataError"]) >= 2
    assert CONTENT not in log.read_text()


def check_events(events):
    for event in events:
        assert event.keys() <= EVENT_KEYS
        assert event["environment"] == "test-environment"
        assert event["release"]
        assert event["level"] == "error"
        exceptions = event["exception"]["values"]
        assert "DataError" in {each["type"] for each in exceptions}
        assert {each["value"] for each in exceptions} == {""}
        frames = [frame for each in exceptions for frame in each["stacktrace"]["frames"]]
        assert [frame for frame in frames if "vars" in frame or frame["filename"].startswith("/")] == []
        assert "chat/journal.py" in {frame["filename"] for frame in frames}
    assert "connection" in events[0]["tags"] or "request" not in events[0]["tags"]


def check_transactions(transactions):
    names = {(each["contexts"]["trace"]["op"], each["transaction"]) for each in transactions}
    assert ("websocket.server", "message") in names
    assert ("http.server", "POST /chats/messages/") in names
    for each in transactions:
        assert each["spans"] == []
        assert each["start_timestamp"] < each["timestamp"]
        assert each.keys() <= EVENT_KEYS | {"type", "transaction", "transaction_info", "start_timestamp", "spans"}


async def test_a_sentry_that_is_away_hinders_nobody(tmp_path, backends, sentry, explosive):
    with salon(tmp_path, {**backends, "SENTRY_DSN": "http://key@127.0.0.1:9/7"}) as target:
        with psycopg.connect(backends["DATABASE_URL"]) as connection:
            connection.execute(EXPLODING)
        school = School(target)
        ann = school.person("Ann")
        room = school.room("R", ann)
        async with connected(target, ann.token) as client:
            await client.join(room)
            for _ in range(3):
                await client.say(room, CONTENT)
                assert (await client.expect("error"))["data"]["code"] == "internal"
            await client.say(room, "harmless")
            await client.expect("message")
        [process] = target.processes
        process.terminate()
        assert await asyncio.to_thread(process.wait, 30) == 0
