"""The statements that PostgreSQL has run, as its own log tells (`log_statement=all`)."""

import math
import re
import time

HOUSEKEEPING = ("SELECT 1", "present.snapshot", "asked_by_the_test", "SELECT id, last_seq FROM chat_chatroom")
"""What the server asks for now and then, however many are there: whether a connection works, what has changed, which
rooms have newer messages."""


class Count:
    """The statements of the block, but for housekeeping."""

    def __init__(self, log):
        self._log = log

    def __enter__(self):
        self._start, self._began = self._log.stat().st_size, time.monotonic()
        return self

    def __exit__(self, *_):
        self._seconds = time.monotonic() - self._began
        with self._log.open() as log:
            log.seek(self._start)
            found = re.findall(r"LOG:  (?:statement|execute [^:]*): \s*(.*)", log.read())
        self.statements = [text for text in found if not any(name in text for name in HOUSEKEEPING)]

    def moments(self, seconds):
        """How many stretches of so many seconds the block has touched, at most."""
        return math.ceil(self._seconds / seconds) + 1
