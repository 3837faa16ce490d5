"""What holds a moment later, when somebody has changed the database behind the server's back."""

import asyncio

from client import DEADLINE

PAUSE = 0.1
"""Seconds between two questions whether it has come to pass."""

SQL = """
from django.db import connection
from django.utils import timezone
with connection.cursor() as cursor:
    cursor.execute(%r, %s)
"""


def sql(target, statement, *values):
    """Run a statement as another program would."""
    shown = ", ".join(value if value == "timezone.now()" else repr(value) for value in values)
    target.manage("shell", "--verbosity=0", "--command", SQL % (statement, f"[{shown}]"))


async def until(ask, expected):
    """Ask again and again until the answer is the expected one."""
    answer = None
    try:
        async with asyncio.timeout(DEADLINE):
            while True:
                if (answer := await ask()) == expected:
                    return
                await asyncio.sleep(PAUSE)
    except TimeoutError:
        raise AssertionError(f"still {answer!r}") from None


async def answer_to_typing(client, room):
    """The code of the error that comes of typing, or None."""
    await client.send("typing", {"room_id": room, "is_typing": True})
    await client.send("typing", {"room_id": room, "is_typing": False})
    await client.send("ping")
    errors = (event["data"]["code"] for event in await client.until("pong") if event["type"] == "error")
    return next(errors, None)


async def answer_to_message(client, room):
    """The code of the error that comes of a message, or how the sender is shown."""
    await client.say(room, "x")
    while (event := await client.receive())["type"] not in ("message", "error"):
        pass
    return event["data"]["sender_info"] if event["type"] == "message" else event["data"]["code"]
