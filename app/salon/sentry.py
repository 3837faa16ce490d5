"""Errors, and a sample of what was done, for Sentry. This module and its SDK are loaded where `SENTRY_DSN` is set only.

None of the SDK's integrations is used: they look into requests, frames and headers. What the log calls an error is
reported, and what leaves the host is made anew from what may leave it: the kinds of exceptions and the program's own
lines, the name of the event, the release, the environment, the id of the connection or the request (which the log has
too). No text of an exception, no value of a variable, no message, token, cookie, name or address.
"""

import logging
import os
import time
from typing import Any

import sentry_sdk
from sentry_sdk.utils import event_from_exception

from salon import logs, measures

MOST_A_MINUTE = 30
"""Errors that are reported in a minute: a thousand people can find the same one at once."""

FLUSH_TIMEOUT = 2.0
"""Seconds that the last reports have when the process ends."""

FRAME = ("filename", "function", "module", "lineno", "in_app", "pre_context", "context_line", "post_context")
EVENT = ("event_id", "timestamp", "platform", "level", "logger", "release", "environment", "sdk", "tags")
TRACE = ("trace_id", "span_id", "op", "status")
TRANSACTION = (*EVENT, "type", "transaction", "transaction_info", "start_timestamp")


class Handler(logging.Handler):
    """Reports what is logged; it begins with the process, and its end waits for what was not sent yet."""

    def __init__(self, dsn: str, release: str, environment: str, traces_sample_rate: float) -> None:
        super().__init__()
        self._window = 0
        self._reported = 0
        sentry_sdk.init(
            dsn,
            release=release,
            environment=environment,
            server_name="",
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[],
            send_default_pii=False,
            include_local_variables=False,
            max_breadcrumbs=0,
            max_request_body_size="never",
            auto_session_tracking=False,
            send_client_reports=False,
            enable_metrics=False,
            # It would start a thread that asks the machine how it is.
            enable_backpressure_handling=False,
            traces_sample_rate=traces_sample_rate or None,
            before_send=event_that_may_leave,
            before_send_transaction=transaction_that_may_leave,
            shutdown_timeout=FLUSH_TIMEOUT,
        )
        if traces_sample_rate:
            measures.on_done.append(Tracer(traces_sample_rate))

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and getattr(error, "is_reported", False):
            return
        if not self._has_room():
            return
        try:
            self._report(record, error)
        except Exception as failure:  # noqa: BLE001 (whoever has an error has enough of them)
            logging.getLogger(__name__).warning("An error could not be reported: %s", type(failure).__name__)

    def _report(self, record: logging.LogRecord, error: BaseException | None) -> None:
        said = logs.described(record)
        event: dict[str, Any] = {}
        if error is not None:
            event, _ = event_from_exception(error, client_options=sentry_sdk.get_client().options)
            # It may be logged again further up.
            error.is_reported = True
        event |= {"level": said["level"], "logger": record.name}
        event["tags"] = {name: said[name] for name in ("event", "connection", "request") if name in said}
        if error is None:
            event["message"] = said["event"]
        sentry_sdk.capture_event(event)

    def _has_room(self) -> bool:
        if (window := int(time.monotonic() // 60)) != self._window:
            self._window, self._reported = window, 0
        self._reported += 1
        return self._reported <= MOST_A_MINUTE

    def flush(self) -> None:
        sentry_sdk.flush(FLUSH_TIMEOUT)


class Tracer:
    """Reports some of what was done (`measures.on_done`), as a transaction without anything in it."""

    def __init__(self, sample_rate: float) -> None:
        self._step = sample_rate
        self._part = 0.0

    def __call__(self, kind: str, name: str, duration: float, outcome: str) -> None:
        # Evenly, and without asking chance each time.
        self._part += self._step
        if self._part < 1:
            return
        self._part -= 1
        end = time.time()
        transaction = sentry_sdk.start_transaction(op=kind, name=name, start_timestamp=end - duration, sampled=True)
        transaction.set_status(outcome)
        transaction.finish(end_timestamp=end)


def event_that_may_leave(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
    """What of an event leaves the host."""
    cleaned = _only(event, EVENT)
    if "exception" in event:
        cleaned["exception"] = {"values": [_exception(each) for each in event["exception"].get("values", ())]}
    else:
        cleaned["message"] = event.get("message", "")
    cleaned["contexts"] = {"trace": _only(event.get("contexts", {}).get("trace", {}), TRACE)}
    return cleaned


def transaction_that_may_leave(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
    """What of a transaction leaves the host."""
    return {
        **_only(event, TRANSACTION),
        "contexts": {"trace": _only(event.get("contexts", {}).get("trace", {}), TRACE)},
        "spans": [],
    }


def _exception(found: dict[str, Any]) -> dict[str, Any]:
    frames = (found.get("stacktrace") or {}).get("frames", ())
    return {
        **_only(found, ("type", "module")),
        # Whatever it says may quote somebody.
        "value": "",
        "stacktrace": {"frames": [{**_only(frame, FRAME), "filename": _file(frame)} for frame in frames]},
    }


def _file(frame: dict[str, Any]) -> str:
    """The path in the project or in the package, whoever's home it lies in."""
    path = frame.get("filename") or ""
    return os.path.basename(path) if os.path.isabs(path) else path  # noqa: PTH119, PTH117 (a text, and no file)


def _only(whole: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: whole[name] for name in names if whole.get(name) is not None}
