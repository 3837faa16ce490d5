"""What may leave the host when something goes wrong; over the wire: integration/test_sentry.py."""

import os
import subprocess
import sys

import pytest

from salon.sentry import Tracer, event_that_may_leave, transaction_that_may_leave

WORDS = "what somebody has written"


def test_of_an_event_only_what_is_known_to_be_harmless_is_left():
    frame = {
        "filename": "chat/journal.py",
        "abs_path": "/home/somebody/app/chat/journal.py",
        "function": "_write",
        "lineno": 7,
        "context_line": "raise ValueError(draft.content)",
        "vars": {"draft": WORDS},
    }
    event = {
        "event_id": "e",
        "level": "error",
        "tags": {"event": "event.failed"},
        "server_name": WORDS,
        "user": {"id": WORDS},
        "request": {"url": WORDS, "cookies": WORDS, "data": WORDS},
        "extra": {"anything": WORDS},
        "breadcrumbs": {"values": [WORDS]},
        "logentry": {"message": WORDS, "params": [WORDS]},
        "modules": {WORDS: "1"},
        "a field of a later SDK": WORDS,
        "contexts": {"trace": {"trace_id": "t", "data": WORDS}, "runtime": WORDS},
        "exception": {
            "values": [
                {"type": "ValueError", "value": WORDS, "mechanism": {"data": WORDS}, "stacktrace": {"frames": [frame]}}
            ]
        },
    }
    assert event_that_may_leave(event, {}) == {
        "event_id": "e",
        "level": "error",
        "tags": {"event": "event.failed"},
        "contexts": {"trace": {"trace_id": "t"}},
        "exception": {
            "values": [
                {
                    "type": "ValueError",
                    "value": "",
                    "stacktrace": {
                        "frames": [{name: frame[name] for name in ("filename", "function", "lineno", "context_line")}]
                    },
                }
            ]
        },
    }


def test_of_a_transaction_only_what_it_took_is_left():
    event = {
        "type": "transaction",
        "transaction": "POST /chats/messages/",
        "start_timestamp": 1,
        "timestamp": 2,
        "request": {"url": WORDS},
        "user": {"id": WORDS},
        "spans": [{"description": f"INSERT {WORDS}"}],
        "contexts": {"trace": {"trace_id": "t", "op": "http.server", "data": {"url": WORDS}}},
    }
    assert transaction_that_may_leave(event, {}) == {
        "type": "transaction",
        "transaction": "POST /chats/messages/",
        "start_timestamp": 1,
        "timestamp": 2,
        "contexts": {"trace": {"trace_id": "t", "op": "http.server"}},
        "spans": [],
    }


@pytest.mark.parametrize(("rate", "told"), [(1.0, 1000), (0.25, 250), (0.001, 1)])
def test_of_what_is_done_a_share_is_told(rate, told, monkeypatch):
    count = []

    class Transaction:
        def set_status(self, status): ...

        def finish(self, end_timestamp):
            count.append(end_timestamp)

    monkeypatch.setattr("salon.sentry.sentry_sdk.start_transaction", lambda **_: Transaction())
    tracer = Tracer(rate)
    for _ in range(1000):
        tracer("websocket.server", "message", 0.01, "ok")
    assert abs(len(count) - told) <= 1


@pytest.mark.parametrize(("dsn", "is_loaded"), [(None, False), ("http://key@127.0.0.1:9/1", True)])
def test_without_an_address_nothing_of_it_is_loaded(dsn, is_loaded, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SENTRY_")}
    environment |= {"SALON_DATA_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= {"DJANGO_SETTINGS_MODULE": "salon.settings"} | ({"SENTRY_DSN": dsn} if dsn else {})
    program = "import sys, salon.asgi; print('sentry_sdk' in sys.modules, 'salon.sentry' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, [str(is_loaded)] * 2), done.stderr
