"""`manage.py follow`: what a person does, or what happens in a room, is told in the log for a while."""

import asyncio
import os
import signal
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path

import log_lines
import pytest
from client import connected
from school import School

from waiting import wait_until


@pytest.fixture(params=["embedded", "services"])
def target(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def school(target):
    return School(target)


def told(target, event=None, **wanted):
    """The lines about who is followed."""
    directory = Path(target.environment["SALON_DATA_DIR"])
    wanted |= {"logger": "chat.follow"} | ({"event": event} if event else {})
    return [line for line in log_lines.lines(directory) if wanted.items() <= line.items()]


async def all_have_told(target, event, **wanted):
    await asyncio.to_thread(
        wait_until, lambda: len(told(target, event, **wanted)) == len(target.urls), f"{event} of each process"
    )


@asynccontextmanager
async def followed(target, kind, name, number):
    """During the block, and until every process knows that it is over."""
    command = [*target.manage_command, "follow", f"--{kind}", str(name), "--for", "5m"]
    environment = {**os.environ, **target.environment}
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.PIPE)
    try:
        await all_have_told(target, "follow.began", **{kind: number})
        yield
    finally:
        process.send_signal(signal.SIGINT)
        said, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert f"The log tells of {kind} {number} for 300 s" in said.decode()
    await all_have_told(target, "follow.ended", **{kind: number})


async def test_a_room_is_followed_as_long_as_it_is_said(target, school):
    ann, ben = school.person("Ann"), school.person("Ben")
    room, other = school.room("Watched", ann, ben), school.room("Not watched", ann, ben)
    async with connected(target, ann.token) as anns, connected(target, ben.token, process=1) as bens:
        for client in (anns, bens):
            await client.join(room)
            await client.join(other)
        async with followed(target, "room", room, room):
            for each in (room, other):
                await anns.say(each, "Words that only the room hears")
                await bens.expect("message")
        await anns.say(room, "Words after that")
        await bens.expect("message")
    [received] = told(target, "event.received", room=room, type="message")
    assert (received["user"], received["outcome"], received["followed"]) == (ann.id, "ok", True)
    assert 0 < received["duration"] < 10
    delivered = told(target, "event.delivered", room=room, type="message")
    assert len(delivered) == len(target.urls)
    assert sum(line["connections"] for line in delivered) == 2
    assert {line["seq"] for line in delivered} == {1}
    assert told(target, room=other) == []


async def test_a_person_is_followed_wherever_she_is(target, school):
    ann, ben = school.person("Ann"), school.person("Ben")
    room = school.room("Hers", ann, ben)
    async with connected(target, ann.token) as anns, connected(target, ben.token, process=1) as bens:
        for client in (anns, bens):
            await client.join(room)
        async with followed(target, "user", ben.username, ben.id):
            await anns.say(room, "Words for him")
            await bens.expect("message")
            await bens.raw('{"type": "leave_room", "data": {"room_id": 1}}')
            await bens.expect("error")
    assert [line["seq"] for line in told(target, "event.delivered", user=ben.id, type="message")] == [1]
    assert [line["outcome"] for line in told(target, "event.received", user=ben.id)] == ["not_joined"]
    assert told(target, "event.received", user=ann.id) == []


@pytest.mark.parametrize(
    ("arguments", "clue"),
    [
        (["--user", "nobody-like-her"], "There is no user 'nobody-like-her'"),
        (["--room", "999999999"], "There is no room 999999999."),
        (["--room", "1", "--for", "ever"], "'ever' is not like 90s, 10m or 1h"),
        (["--room", "1", "--for", "25h"], "a day at most"),
        ([], "one of the arguments --user --room is required"),
    ],
)
def test_what_cannot_be_followed_is_said(embedded, arguments, clue):
    done = embedded.try_manage("follow", *arguments)
    assert done.returncode != 0
    assert clue in done.stderr
    assert "Traceback" not in done.stderr
