"""The way to the database: what is taken for its silence."""

import asyncio
import threading
import time

import pytest
from django.conf import settings

from chat import database, services


@pytest.fixture(autouse=True)
async def there():
    services.database.answered()
    yield
    services.database.answered()


async def test_an_answer_of_which_a_busy_loop_has_not_heard_is_one(monkeypatch):
    """The time-out, and then what keeps the loop busy until the answer is there, come before whoever waits goes on."""
    monkeypatch.setattr(settings, "PROBE_TIMEOUT", 0.2)
    answers = threading.Event()
    loop = asyncio.get_running_loop()

    def be_answered():
        answers.set()
        deadline = time.monotonic() + 5
        while database._at_work and time.monotonic() < deadline:
            time.sleep(0.001)
        # The future of a thread is done a moment after its work.
        time.sleep(0.05)

    began = loop.time()
    probe = asyncio.create_task(database.probe(lambda: answers.wait(5)))
    # Both timers are due when this ends, the probe's first.
    loop.call_at(began + 0.1, time.sleep, 0.3)
    loop.call_at(began + 0.3, be_answered)
    assert await probe is True
    assert not services.database.is_away


async def test_a_silence_is_noticed(monkeypatch):
    monkeypatch.setattr(settings, "PROBE_TIMEOUT", 0.1)
    answers = threading.Event()
    with pytest.raises(database.ChatError):
        await database.probe(answers.wait, 5)
    assert services.database.is_away
    answers.set()
    async with asyncio.timeout(5):
        await services.database.there(5)
    assert not services.database.is_away
