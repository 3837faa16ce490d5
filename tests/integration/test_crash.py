"""A process that dies without a word."""

import os
import signal
from contextlib import AsyncExitStack

from client import connected, settled
from school import School
from target import salon

PATIENCE = 60
"""Seconds after which nobody may show online who is not."""


async def test_presence_ends_right(tmp_path, services):
    environment = {name: services.environment[name] for name in ("REDIS_URL", "DATABASE_URL")}
    with salon(tmp_path, environment, processes=3) as target:
        school = School(target)
        watcher, three_tabs, gone = (school.person(name) for name in ("Wanda W", "Tia Three", "Gus Gone"))
        room = school.room("R", watcher, three_tabs, gone)
        async with (
            settled(target, watcher.token, process=2) as w,
            connected(target, three_tabs.token) as first,
            connected(target, three_tabs.token) as second,
            connected(target, three_tabs.token, process=1) as third,
            connected(target, gone.token) as only,
        ):
            for client in (first, second, third, only):
                await client.settle()
            online = set()
            while online != {three_tabs.id, gone.id}:
                online.add((await w.expect("user_status"))["data"]["user_id"])
            os.kill(target.processes[0].pid, signal.SIGKILL)
            event = await w.expect("user_status", within=PATIENCE)
            # Nothing came before: she with the third tab has been online all the time.
            assert (event["data"]["user_id"], event["data"]["status"]) == (gone.id, "offline")
            async with settled(target, watcher.token, process=1) as late:
                await late.send("join_room", {"room_id": room})
                found = [(await late.expect("user_status"))["data"] for _ in range(2)]
                assert {each["user_id"]: each["status"] for each in found} == {
                    three_tabs.id: "online",
                    gone.id: "offline",
                }
        # The third tab has gone too, in a way that can be seen.
        async with settled(target, watcher.token, process=2) as w:
            await w.status(three_tabs, "offline")


async def test_who_has_many_connections_comes_back_with_all_of_them(tmp_path, services):
    """Those that ended with their process are not counted against her."""
    environment = {name: services.environment[name] for name in ("REDIS_URL", "DATABASE_URL")}
    with salon(tmp_path, environment, processes=2) as target:
        person = School(target).person("Mia Many")
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(settled(target, person.token)) for _ in range(15)]
            target.processes[0].terminate()
            for client in clients:
                assert await client.closed() == 1012
            assert target.processes[0].wait(PATIENCE) == 0
            for _ in clients:
                await stack.enter_async_context(settled(target, person.token, process=1))
