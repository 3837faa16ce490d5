"""A small ASGI application for the tests of the server: each path does one thing."""

import gc
import json
import resource
from pathlib import Path

from salon import frames
from salon.websocket import broadcast

crowd = set()


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    if scope["type"] == "http":
        await http(scope, send)
        return
    await receive()
    await PATHS.get(scope["path"], echo)(scope, receive, send)


async def http(scope, send):
    gc.collect()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    body = json.dumps({"cpu": usage.ru_utime + usage.ru_stime, "rss": resident(), "crowd": len(crowd)}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def echo(scope, receive, send):
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


async def member(scope, receive, send):
    """What one says is sent to all, at once."""
    await send({"type": "websocket.accept"})
    direct = scope["extensions"]["salon.direct"]["socket"]
    crowd.add(direct)
    try:
        while (event := await receive())["type"] == "websocket.receive":
            broadcast(crowd, frames.text(event["text"].encode()))
    finally:
        crowd.discard(direct)


PATHS = {"/crowd": member}
