import asyncio

import pytest

from chat import database, journal
from chat.journal import Draft, Journal
from chat.protocol import SenderInfo

SENDER = SenderInfo(1, "Ann", "student", None)


@pytest.fixture
def written(monkeypatch):
    """Drafts that reached the database, which refuses the content `bad` with an error that nobody foresees."""
    batches = []

    def write(drafts):
        batches.append([draft.content for draft in drafts])
        if any(draft.content == "bad" for draft in drafts):
            raise ValueError("unforeseen")
        return [f"stored {draft.content}" for draft in drafts]

    async def query(function, *args):
        await asyncio.sleep(0)
        return function(*args)

    monkeypatch.setattr(journal, "write", write)
    monkeypatch.setattr(database, "query", query)
    return batches


async def test_what_arrives_during_a_commit_is_the_next_batch(written):
    log = Journal(tell=[].extend)
    first = asyncio.create_task(log.append(Draft(1, SENDER, "one")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rest = [log.append(Draft(1, SENDER, content)) for content in ("two", "three")]
    assert await asyncio.gather(first, *rest) == ["stored one", "stored two", "stored three"]
    assert written == [["one"], ["two", "three"]]


async def test_one_bad_draft_takes_no_other_with_it(written):
    log = Journal(tell=[].extend)
    outcomes = await asyncio.gather(
        *(log.append(Draft(1, SENDER, content)) for content in ("good", "bad", "better")), return_exceptions=True
    )
    assert outcomes[0] == "stored good"
    assert isinstance(outcomes[1], ValueError)
    assert outcomes[2] == "stored better"
    assert await log.append(Draft(1, SENDER, "after")) == "stored after"
