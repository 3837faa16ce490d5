"""Messages become durable in batches, and each ends as one of: stored, refused, or not known yet."""

import asyncio
from uuid import uuid4

import psycopg
import pytest
from django.conf import settings
from django.db import OperationalError

from chat import batches, database, files, journal, services
from chat.files import StoredFile
from chat.journal import Draft, Journal, PendingError, Stored
from chat.postgresql import LostError, Written
from chat.protocol import ChatError, ErrorCode, SenderInfo

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

    async def finish(function, *args):
        await asyncio.sleep(0)
        return function(*args)

    monkeypatch.setattr(journal, "write", write)
    monkeypatch.setattr(database, "finish", finish)
    return batches


async def test_what_arrives_during_a_commit_is_the_next_batch(written):
    log = Journal(tell=lambda messages, moments: None)
    first = asyncio.create_task(log.append(Draft(1, SENDER, "one")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rest = [log.append(Draft(1, SENDER, content)) for content in ("two", "three")]
    assert await asyncio.gather(first, *rest) == ["stored one", "stored two", "stored three"]
    assert written == [["one"], ["two", "three"]]


async def test_one_bad_draft_takes_no_other_with_it(written):
    log = Journal(tell=lambda messages, moments: None)
    outcomes = await asyncio.gather(
        *(log.append(Draft(1, SENDER, content)) for content in ("good", "bad", "better")), return_exceptions=True
    )
    assert outcomes[0] == "stored good"
    assert isinstance(outcomes[1], ValueError)
    assert outcomes[2] == "stored better"
    assert await log.append(Draft(1, SENDER, "after")) == "stored after"


class Line:
    """The connection on which messages are stored: `script` says what comes of each try, None that it is stored."""

    def __init__(self, script):
        self.script, self.tries = list(script), []

    async def store(self, writings):
        self.tries.append([writing.content for writing in writings])
        await asyncio.sleep(0)
        if error := self.script.pop(0) if self.script else None:
            raise error
        return {writing.uuid: Written(len(self.tries), len(self.tries), "now") for writing in writings}

    def give_up(self, seconds):
        pass

    async def close(self):
        pass


@pytest.fixture
def journal_of(monkeypatch):
    """A journal on PostgreSQL, which the test plays: `answers` are the tries, `found` what is there after a loss."""
    monkeypatch.setattr(settings, "HAS_POSTGRESQL", True)

    def make(answers, found=()):
        asked = []

        async def look_up(function, drafts, backend):
            assert function is journal.recovered
            asked.append(([draft.content for draft in drafts], backend))
            return {
                draft.uuid: Stored(journal._data(draft, Written(9, 9, "before")))
                for draft in drafts
                if draft.content in found
            }

        monkeypatch.setattr(database, "look_up", look_up)
        told = []
        log = Journal(tell=lambda messages, moments: told.extend(messages))
        log._line = Line(answers)
        return log, asked, told

    return make


LOST = LostError("lost", 42)


async def test_what_was_stored_before_the_answer_was_lost_is_told_and_not_stored_again(journal_of):
    log, asked, told = journal_of([LOST], found=["one"])
    first, second = await asyncio.gather(*(log.append(Draft(1, SENDER, content)) for content in ("one", "two")))
    assert asked == [(["one", "two"], 42)]
    assert log._line.tries == [["one", "two"], ["two"]]
    assert (first.message.created_at, second.message.created_at) == ("before", "now")
    assert [message.content for message in told] == ["one", "two"]


async def test_an_answer_may_be_lost_again_and_again(journal_of):
    log, asked, told = journal_of([LOST, LostError("lost", 43), None])
    assert (await log.append(Draft(1, SENDER, "one"))).is_new
    assert asked == [(["one"], 42), (["one"], 43)]
    assert len(log._line.tries) == 3
    assert len(told) == 1


async def test_what_ends_every_connection_is_refused(journal_of):
    log, _, told = journal_of([LOST] * 100)
    with pytest.raises(ChatError) as refused:
        await log.append(Draft(1, SENDER, "one"))
    assert refused.value.code is ErrorCode.INTERNAL
    assert not isinstance(refused.value, PendingError)
    assert len(log._line.tries) == journal.MAX_LOSSES
    assert told == []


async def test_what_ends_every_connection_takes_no_other_with_it(journal_of):
    log, _, told = journal_of([])

    async def store(writings):
        log._line.tries.append([writing.content for writing in writings])
        await asyncio.sleep(0)
        if any(writing.content == "poison" for writing in writings):
            raise LOST
        return {writing.uuid: Written(len(log._line.tries), len(log._line.tries), "now") for writing in writings}

    log._line.store = store
    drafts = [Draft(1, SENDER, content) for content in ("one", "poison", "two")]
    one, poison, two = await asyncio.gather(*(log.append(draft) for draft in drafts), return_exceptions=True)
    assert one.is_new
    assert two.is_new
    assert poison.code is ErrorCode.INTERNAL
    assert [message.content for message in told] == ["one", "two"]
    assert (await log.append(Draft(1, SENDER, "three"))).is_new


async def test_what_nobody_waits_for_any_more_is_not_begun_again(journal_of, monkeypatch):
    log, _, told = journal_of([LOST])
    gate, asks = asyncio.Event(), asyncio.Event()

    async def look_up(*_):
        asks.set()
        await gate.wait()
        return {}

    monkeypatch.setattr(database, "look_up", look_up)
    with pytest.raises(PendingError) as refused:
        await log.append(Draft(1, SENDER, "one"), patience=0.05)
    assert refused.value.code is ErrorCode.UNAVAILABLE
    assert refused.value.retry_after > 0
    assert asks.is_set()
    gate.set()
    assert (await log.append(Draft(1, SENDER, "two"))).is_new
    assert log._line.tries == [["one"], ["two"]]
    assert [message.content for message in told] == ["two"]


async def test_what_is_away_is_not_waited_for(journal_of):
    log, _, _ = journal_of([])
    services.database.failed("the test says so")
    try:
        with pytest.raises(ChatError) as refused:
            await log.append(Draft(1, SENDER, "one"))
    finally:
        services.database.answered()
    assert refused.value.code is ErrorCode.UNAVAILABLE
    assert not isinstance(refused.value, PendingError)
    assert log._line.tries == []


async def test_who_waits_when_it_goes_waits_no_longer(journal_of):
    log, _, _ = journal_of([])
    gate, begun = asyncio.Event(), asyncio.Event()

    async def store(writings):
        begun.set()
        await gate.wait()
        return {writing.uuid: Written(1, 1, "late") for writing in writings}

    log._line.store = store
    waiting = asyncio.create_task(log.append(Draft(1, SENDER, "one")))
    await begun.wait()
    services.database.failed("the test says so")
    try:
        with pytest.raises(PendingError):
            await waiting
    finally:
        gate.set()
        services.database.answered()


async def test_storage_that_refuses_is_told_once(journal_of, caplog):
    full = OperationalError("no space left")
    full.__cause__ = psycopg.errors.DiskFull("no space left")
    log, _, _ = journal_of([full, full])
    for _ in range(2):
        with pytest.raises(ChatError) as refused:
            await log.append(Draft(1, SENDER, "one"))
        assert refused.value.retry_after == settings.REFUSED_RETRY
    assert services.storage.is_away
    await log.append(Draft(1, SENDER, "two"))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert lines[0] == "The database stores no messages: no space left"
    assert lines[1].startswith("The database stores messages again, after ")


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Makes a file that was kept for a message, and says whether it still is."""
    monkeypatch.setattr(settings, "FILES_DIR", tmp_path, raising=False)

    def make():
        file = StoredFile(uuid4(), "file", "a.txt", "text/plain", 1)
        path = files._path(file.uuid)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a")
        return file, path.exists

    return make


@pytest.fixture
def pending(journal_of, monkeypatch):
    """A journal, a draft with a file of which nobody has heard for too long, and what lets it go on with an outcome."""

    async def make(file):
        log, _, _ = journal_of([])
        outcome = asyncio.get_running_loop().create_future()

        async def finish(function, drafts):
            assert function is journal.write
            return [await outcome for _ in drafts]

        monkeypatch.setattr(database, "finish", finish)
        draft = Draft(1, SENDER, "one", files=(file,))
        with pytest.raises(PendingError):
            await log.append(draft, patience=0.05)
        return log, draft, outcome

    return make


def stored(draft, *, is_new=True):
    return Stored(journal._data(draft, Written(1, 1, "now")), is_new=is_new)


@pytest.mark.parametrize(
    ("outcome", "is_kept"),
    [
        (lambda draft: stored(draft), True),
        (lambda draft: stored(draft, is_new=False), False),
        (lambda _: ChatError(ErrorCode.INVALID_ROOM, "gone"), False),
    ],
    ids=["stored", "known before", "refused"],
)
async def test_files_of_what_nobody_waits_for_are_kept_only_if_it_is_stored(kept, pending, outcome, is_kept):
    file, exists = kept()
    log, draft, future = await pending(file)
    assert exists()
    future.set_result(outcome(draft))
    await log.finish()
    assert exists() == is_kept


async def test_files_of_what_could_not_be_stored_go(kept, pending):
    file, exists = kept()
    log, _, future = await pending(file)
    future.set_exception(ValueError("unforeseen"))
    await log.finish()
    assert not exists()


async def test_files_of_what_may_be_stored_when_the_process_ends_are_kept(kept, pending):
    """It ends while the database is away, in the midst of a message: nobody knows what became of that."""
    file, exists = kept()
    log, _, future = await pending(file)
    services.database.failed("the test says so")
    try:
        future.set_exception(LOST)
        await log.finish()
    finally:
        services.database.answered()
    assert exists()


async def test_who_waits_no_longer_for_what_was_stored_a_moment_ago_leaves_its_files(journal_of, monkeypatch):
    """The database goes just after it has stored a batch, before everybody is told."""
    monkeypatch.setattr(batches, "TOGETHER", 1)
    log, _, told = journal_of([])
    tell = log._tell
    log._tell = lambda new, moments: (tell(new, moments), asyncio.get_running_loop().call_soon(log._let_nobody_wait))
    with pytest.raises(PendingError):
        await log.append(Draft(1, SENDER, "one"))
    assert [message.content for message in told] == ["one"]
