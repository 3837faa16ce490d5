"""A small ASGI application for the tests of the server: each path does one thing."""

import asyncio
import base64
import gc
import json
import os
import resource
from pathlib import Path

from salon import frames, measures
from salon.websocket import ANSWER_TIMEOUT, broadcast

crowd = set()
gate = asyncio.Event()
"""Opened and closed by requests for `/open` and `/shut`; the end of an `/opener` opens it too."""
taken = []
"""What `/gated` has taken."""
waiting = []
"""Requests that wait: for `/patient` until the gate is open, for `/stubborn` for ever."""


async def application(scope, receive, send):
    if scope["type"] == "http":
        await http(scope, send)
    elif scope["type"] == "websocket":
        if scope["path"] != "/silent":
            await receive()
        await PATHS.get(scope["path"], echo)(scope, receive, send)


async def http(scope, send):
    match scope["path"]:
        case "/open":
            gate.set()
        case "/shut":
            gate.clear()
            taken.clear()
        case "/patient":
            waiting.append(scope)
            await gate.wait()
        case "/stubborn":
            waiting.append(scope)
            await asyncio.Event().wait()
    gc.collect()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    state = {
        "cpu": usage.ru_utime + usage.ru_stime,
        "rss": resident(),
        "crowd": len(crowd),
        "queued": max((each.queued for each in crowd), default=0),
        "taken": len(taken),
        "waiting": len(waiting),
        "in_order": taken == sorted(taken),
        "slow_readers": measures.counts.slow_readers,
        "pid": os.getpid(),
        "loop": type(asyncio.get_running_loop()).__module__,
    }
    body = json.dumps(state).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def directory():
    """Where the test and the application leave something for each other."""
    return Path(os.environ["SALON_DATA_DIR"])


def resident():
    """Bytes of memory that the process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def echo(scope, receive, send):
    """Says what it hears; a message "close CODE" makes it close."""
    subprotocols = scope["subprotocols"]
    headers = [(b"X-Echo", b"yes")]
    await send(
        {"type": "websocket.accept", "subprotocol": subprotocols[0] if subprotocols else None, "headers": headers}
    )
    while (event := await receive())["type"] == "websocket.receive":
        if event.get("text", "").startswith("close "):
            _, code, reason = event["text"].split(" ", 2)
            await send({"type": "websocket.close", "code": int(code), "reason": reason})
        else:
            await send({**event, "type": "websocket.send"})


async def burden(scope, receive, send):
    """Answers each message with much."""
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        taken.append(event["text"])
        await send({"type": "websocket.send", "text": "x" * 200_000})


async def tell_scope(scope, receive, send):
    await send({"type": "websocket.accept"})
    shown = {name: value for name, value in scope.items() if name != "extensions"}
    shown["extensions"] = sorted(scope["extensions"])
    await send(
        {"type": "websocket.send", "text": json.dumps(shown, default=lambda value: base64.b64encode(value).decode())}
    )
    await receive()


async def member(scope, receive, send):
    """What one says is sent to all, at once; "big N" is N KiB to all."""
    await send({"type": "websocket.accept"})
    direct = scope["extensions"]["salon.direct"]["socket"]
    crowd.add(direct)
    try:
        while (event := await receive())["type"] == "websocket.receive":
            text = event["text"]
            broadcast(crowd, frames.text(b"x" * 1024 * int(text[4:]) if text.startswith("big ") else text.encode()))
    finally:
        crowd.discard(direct)


async def gated(scope, receive, send):
    """Takes nothing until the gate is open."""
    await send({"type": "websocket.accept"})
    await gate.wait()
    while (event := await receive())["type"] == "websocket.receive":
        taken.append(int(event["text"][:8]))
    taken.append(2**31)


async def recorder(scope, receive, send):
    """Notes what it is told, to the end."""
    await send({"type": "websocket.accept"})
    if scope["path"] == "/sleep":
        # Until a client that does not answer its close has been dropped.
        await asyncio.sleep(ANSWER_TIMEOUT + 0.5)
    told = {"type": ""}
    while told["type"] != "websocket.disconnect":
        told = await receive()
        with (directory() / "record").open("a") as record:
            record.write(json.dumps(told) + "\n")


async def opener(scope, receive, send):
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass
    gate.set()


async def stubborn(scope, receive, send):
    """Does not want to know of the end."""
    await send({"type": "websocket.accept"})
    await asyncio.Event().wait()


async def race(scope, receive, send):
    direct = scope["extensions"]["salon.direct"]["socket"]
    direct.send_frames(frames.text(b"too early"))
    broadcast([direct], frames.text(b"too early"))
    await send({"type": "websocket.accept"})
    direct.send_frames(frames.text(b"1"))
    broadcast([direct], frames.text(b"2") + frames.text(b"3"))
    await send({"type": "websocket.send", "text": "4"})
    direct.send_frames(frames.text(b"5"))
    direct.close(1012, "restart")
    direct.send_frames(frames.text(b"too late"))
    broadcast([direct], frames.text(b"too late"))


async def reject(scope, receive, send):
    await send({"type": "websocket.close"})


async def deny(scope, receive, send):
    await send({"type": "websocket.http.response.start", "status": 418, "headers": [(b"X-Why", b"tea")]})
    await send({"type": "websocket.http.response.body", "body": b"short ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"and stout"})


async def deny_twice(scope, receive, send):
    await send({"type": "websocket.http.response.start", "status": 418, "headers": []})
    await send({"type": "websocket.accept"})


async def deny_halfway(scope, receive, send):
    await send({"type": "websocket.http.response.start", "status": 418, "headers": []})
    await send({"type": "websocket.http.response.body", "body": b"half", "more_body": True})
    await send({"type": "websocket.close"})


async def fail(scope, receive, send):
    raise RuntimeError("before it is accepted")


async def fail_later(scope, receive, send):
    await send({"type": "websocket.accept"})
    await receive()
    raise RuntimeError("after it is accepted")


async def end(scope, receive, send):
    await send({"type": "websocket.accept"})


async def silent(scope, receive, send):
    await asyncio.Event().wait()


PATHS = {
    "/burden": burden,
    "/crowd": member,
    "/deny": deny,
    "/deny-halfway": deny_halfway,
    "/deny-twice": deny_twice,
    "/end": end,
    "/fail": fail,
    "/fail-later": fail_later,
    "/gated": gated,
    "/opener": opener,
    "/race": race,
    "/record": recorder,
    "/reject": reject,
    "/scope": tell_scope,
    "/silent": silent,
    "/sleep": recorder,
    "/stubborn": stubborn,
}
