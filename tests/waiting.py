"""Waiting for what will be so in a moment."""

import http.client
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def wait_until(condition: Callable[[], Result], what: str, seconds: float = 30) -> Result:
    """Ask again and again until the answer is a true one, and return it; fail after the given seconds.

    An exception counts as a no, and is shown if the time runs out.
    """
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = answer = condition()
        except (OSError, http.client.HTTPException, AssertionError) as error:
            last = error
        else:
            if answer:
                return answer
        time.sleep(0.1)
    raise AssertionError(f"After {seconds:.0f} s still waiting for {what}; last: {last!r}")
