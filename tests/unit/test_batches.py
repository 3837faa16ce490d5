"""Many are answered together, and each gets her own answer."""

import asyncio

import pytest

from chat.batches import TOGETHER, Batches, Turns


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


@pytest.mark.parametrize("pace", [0.0, 0.05])
async def test_what_comes_meanwhile_is_asked_together(pace):
    answers = Answers()
    batches = Batches(answers, 3, pace)
    answers.gate.clear()
    asked = [asyncio.create_task(batches.ask(number)) for number in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked += [asyncio.create_task(batches.ask(number)) for number in range(2, 7)]
    await asyncio.sleep(0)
    answers.gate.set()
    assert await asyncio.gather(*asked) == [2 * number for number in range(7)]
    assert answers.batches == [[0, 1], [2, 3, 4], [5, 6]]


async def test_who_comes_after_a_rest_does_not_wait():
    answers = Answers()
    batches = Batches(answers, 10, pace=3600)
    async with asyncio.timeout(5):
        assert await batches.ask(1) == 2


async def test_what_comes_soon_after_a_batch_shares_the_next():
    answers = Answers()
    batches = Batches(answers, 10, pace=0.5)
    await batches.ask(1)
    second = asyncio.create_task(batches.ask(2))
    await asyncio.sleep(0)
    assert await asyncio.gather(second, batches.ask(3)) == [4, 6]
    assert answers.batches == [[1], [2, 3]]


async def test_who_goes_before_the_next_batch_is_not_asked_for():
    answers = Answers()
    batches = Batches(answers, 10, pace=0.05)
    await batches.ask(1)
    gone = asyncio.create_task(batches.ask(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await batches.ask(3) == 6
    assert answers.batches == [[1], [3]]


async def test_patience_ends_and_takes_back_what_was_not_begun():
    answers = Answers()
    batches = Batches(answers, 1, patience=0.05)
    answers.gate.clear()
    begun, waiting = (asyncio.create_task(batches.ask(number)) for number in (1, 2))
    for task in (begun, waiting):
        with pytest.raises(TimeoutError):
            await task
    answers.gate.set()
    assert await batches.ask(3) == 6
    assert answers.batches == [[1], [3]]


async def test_not_all_who_are_answered_go_on_in_one_turn_of_the_loop():
    count, here, most = 10 * TOGETHER, 0, 0

    async def ask(number):
        nonlocal here
        assert await batches.ask(number) == 2 * number
        here += 1

    batches = Batches(Answers(), count)
    asked = [asyncio.create_task(ask(number)) for number in range(count)]
    while here < count:
        before = here
        await asyncio.sleep(0)
        most = max(most, here - before)
    assert 0 < most <= TOGETHER
    await asyncio.gather(*asked)


async def test_more_than_one_batch_takes_does_not_wait_for_more_to_come():
    answers = Answers()
    batches = Batches(answers, 1000, pace=0.01, longest_pace=10)
    async with asyncio.timeout(5):
        await asyncio.gather(*map(batches.ask, range(5000)))
    assert list(map(len, answers.batches)) == [1000] * 5


async def test_few_go_on_in_one_turn_of_the_loop_and_all_in_their_order():
    turns, gone = Turns(2), []

    async def go(number):
        await turns.turn()
        gone.append(number)

    tasks = [asyncio.create_task(go(number)) for number in range(7)]
    tasks[3].cancel()
    before = 0
    while len(gone) < 6:
        await asyncio.sleep(0)
        assert len(gone) - before <= 2
        before = len(gone)
    assert gone == [0, 1, 2, 4, 5, 6]
    await asyncio.sleep(0)
    # Nothing goes on when nobody waits.
    assert not turns._is_counting


async def test_who_has_gone_takes_nobodys_turn():
    turns, gone = Turns(1), []

    async def go(number):
        await turns.turn()
        gone.append(number)

    tasks = [asyncio.create_task(go(number)) for number in range(4)]
    await asyncio.sleep(0)
    assert gone == [0]
    tasks[1].cancel()
    tasks[2].cancel()
    await asyncio.wait_for(tasks[3], 10)
    assert gone == [0, 3]
