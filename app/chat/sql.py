"""Statements that every handshake makes, in plain SQL: Django's ORM takes several times as long to put one together as
a database takes to answer it.

A statement here means the same to PostgreSQL and to SQLite.
"""

import functools
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from django.db import connection


def rows(statement: str, **values: object) -> list[tuple]:
    """What a statement finds.

    In it, `{name}` stands for the value of that name: `IN ({name})` for that of a list, and for a list of tuples, these
    in brackets with commas between them. None of them is empty. Raises Django's `DatabaseError`.
    """
    with connection.cursor() as cursor:
        cursor.execute(*_bound(statement, values))
        return cursor.fetchall()


def execute(statement: str, **values: object) -> None:
    """Have a statement done that finds nothing; else as `rows`."""
    with connection.cursor() as cursor:
        cursor.execute(*_bound(statement, values))


def moment(value: datetime | str | None) -> datetime | None:
    """A moment as it came out of the database: SQLite leaves out that it is in UTC."""
    return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


def _bound(statement: str, values: dict[str, object]) -> tuple[str, list[object]]:
    texts, parameters = [], []
    has_arrays = connection.vendor == "postgresql"
    for number, part in enumerate(_parts(statement, has_arrays)):
        if number % 2 == 0:
            texts.append(part)
            continue
        value = values[part]
        if not isinstance(value, list):
            texts.append("%s")
            parameters.append(_stored(value))
        elif isinstance(value[0], tuple):
            texts.append(", ".join([_marks(value[0])] * len(value)))
            parameters += [_stored(each) for row in value for each in row]
        elif has_arrays:
            texts.append("%s")
            parameters.append(value)
        else:
            texts.append(", ".join(["%s"] * len(value)))
            parameters += value
    return "".join(texts), parameters


@functools.cache
def _parts(statement: str, has_arrays: bool) -> list[str]:
    """The statement, cut at its names: every second part is one."""
    if has_arrays:
        # One parameter, however many values: the text stays the same, and short.
        statement = re.sub(r"\bIN \((\{\w+\})\)", r"= ANY(\1)", statement)
    return re.split(r"\{(\w+)\}", statement)


def _marks(row: Sequence[object]) -> str:
    return f"({', '.join(['%s'] * len(row))})"


def _stored(value: object) -> object:
    """A value as the database's driver takes it."""
    return connection.ops.adapt_datetimefield_value(value) if isinstance(value, datetime) else value
