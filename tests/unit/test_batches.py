"""Many are answered together, and each gets her own answer."""

import asyncio

import pytest

from chat.batches import Batches


class Answers:
    """Doubles numbers, and keeps the batches that it was asked in; `gate` holds it up."""

    def __init__(self):
        self.batches = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, items):
        self.batches.append(items)
        await self.gate.wait()
        return [ValueError(item) if item < 0 else 2 * item for item in items]


async def test_one_bad_item_is_its_own():
    batches = Batches(Answers(), 10)
    first, bad, last = await asyncio.gather(*map(batches.ask, (1, -1, 2)), return_exceptions=True)
    assert (first, last) == (2, 4)
    assert isinstance(bad, ValueError)


@pytest.mark.parametrize("linger", [0.0, 0.05])
async def test_what_comes_meanwhile_is_asked_together(linger):
    answers = Answers()
    batches = Batches(answers, 3, linger)
    answers.gate.clear()
    asked = [asyncio.create_task(batches.ask(number)) for number in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked += [asyncio.create_task(batches.ask(number)) for number in range(2, 7)]
    await asyncio.sleep(0)
    answers.gate.set()
    assert await asyncio.gather(*asked) == [2 * number for number in range(7)]
    assert answers.batches == [[0, 1], [2, 3, 4], [5, 6]]


async def test_who_comes_alone_does_not_linger():
    answers = Answers()
    batches = Batches(answers, 10, linger=3600)
    for number in range(3):
        async with asyncio.timeout(5):
            assert await batches.ask(number) == 2 * number


async def test_after_company_more_is_waited_for():
    answers = Answers()
    batches = Batches(answers, 10, linger=0.1)
    await asyncio.gather(batches.ask(1), batches.ask(2))
    third = asyncio.create_task(batches.ask(3))
    await asyncio.sleep(0.01)
    assert await asyncio.gather(third, batches.ask(4)) == [6, 8]
    assert answers.batches == [[1, 2], [3, 4]]


async def test_who_goes_while_a_batch_lingers_is_not_asked_for():
    answers = Answers()
    batches = Batches(answers, 10, linger=0.05)
    await asyncio.gather(batches.ask(1), batches.ask(2))
    gone = asyncio.create_task(batches.ask(3))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0.1)
    assert answers.batches == [[1, 2]]
    assert await batches.ask(4) == 8
