"""What goes and comes is told once, to the log and to who wants to know."""

import asyncio

import pytest

from chat.services import Service


@pytest.fixture
def service():
    return Service("oracle")


def test_only_what_is_new_is_logged(service, caplog):
    for _ in range(3):
        service.failed("it is gone")
    assert service.is_away
    for _ in range(3):
        service.answered()
    assert not service.is_away
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    first, second = (record.getMessage() for record in caplog.records)
    assert first == "The oracle does not answer: it is gone"
    assert second.startswith("The oracle answers again, after ")


def test_who_wants_to_know_is_told_when_it_changes(service):
    told = []
    service.on_loss(lambda: told.append("loss"))
    service.on_return(lambda: told.append("return"))
    service.on_suspicion(lambda: told.append("suspicion"))
    service.answered()
    service.suspect()
    service.failed("x")
    service.failed("x")
    service.answered()
    service.answered()
    assert told == ["suspicion", "loss", "return"]


def test_that_it_was_heard_does_not_say_that_it_is_there(service):
    service.failed("x")
    service.heard()
    assert service.is_away
    assert service.heard_at > 0


async def test_it_is_waited_for(service):
    async with asyncio.timeout(5):
        await service.there(3600)
        service.failed("x")
        waiting = asyncio.create_task(service.there(3600))
        await service.there(0.01)
        assert not waiting.done()
        service.answered()
        await waiting
