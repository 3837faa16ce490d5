"""Twisted's reactor on uvloop: fewer instructions for each event and timer than asyncio's own loop.

And what keeps the loop from standing still while others in the process work.
"""

import gc
import os
import sys
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


SWITCH_INTERVAL = 0.0002
"""Seconds after which a thread that computes lets the loop go on, when it has something to do. With Python's own 0.005,
each message would wait so long, and several times, whenever a thread makes something long of what a database says."""


COLLECT_AFTER = (2_000, 10, 50)
"""For `gc.set_threshold`. Garbage that needs a collection is rare here, and most of it is young. Python's own numbers
look through all of 2,000 connections, and find nothing, each time some hundreds more have come."""


def favour() -> None:
    """Let the loop wait for nothing longer than it must. To be called once everything is loaded."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    # What is loaded stays. To look through all of it for garbage again and again stops the process for longer than a
    # message is under way.
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    gc.enable()
