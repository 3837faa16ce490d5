"""Twisted's reactor on uvloop: fewer instructions for each event and timer than asyncio's own loop."""

import os
from concurrent.futures import ThreadPoolExecutor

import uvloop
from twisted.internet import asyncioreactor


def install() -> None:
    """Install the reactor, before anything imports `daphne.server` or `twisted.internet.reactor`.

    Only the process's own loop becomes uvloop's: one that a thread makes for itself stays asyncio's.
    """
    loop = uvloop.new_event_loop()
    # Daphne heeds this for the loop that it would make.
    if threads := os.environ.get("ASGI_THREADS"):
        loop.set_default_executor(ThreadPoolExecutor(max_workers=int(threads)))
    asyncioreactor.install(loop)
