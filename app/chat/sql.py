"""Statements that every handshake makes, in plain SQL: Django's ORM takes several times as long to put one together as
a database takes to answer it.

A statement here means the same to PostgreSQL and to SQLite. PostgreSQL makes its plan once for each connection: to plan
one of these takes it longer than to do it. For that the text of a statement is always the same, however many values
there are.
"""

import functools
import re
from collections.abc import Sequence
from datetime import UTC, datetime

import psycopg
from django.db import NotSupportedError, OperationalError, connection

_PART = re.compile(r"\{(\w+)(?:: ([\w, ]+))?\}")
_LIST = re.compile(r"\bIN \((\{\w+\})\)")
_ROWS = re.compile(r"\bVALUES (\{\w+: [\w, ]+\})")
_TO_BE_ESCAPED = re.compile(r'(["\\])')


def rows(statement: str, **values: object) -> list[tuple]:
    """What a statement finds.

    In it, `{name}` stands for the value of that name: `IN ({name})` for that of a list, and for a list of tuples,
    `VALUES {name: bigint, text}` with the type of each column. None of them is empty. Raises Django's `DatabaseError`.
    """
    return _done(statement, values)


def execute(statement: str, **values: object) -> None:
    """Have a statement done that finds nothing; else as `rows`."""
    _done(statement, values)


def moment(value: datetime | str | None) -> datetime | None:
    """A moment as it came out of the database: SQLite leaves out that it is in UTC."""
    return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


def _done(statement: str, values: dict[str, object]) -> list[tuple]:
    try:
        return _executed(statement, values)
    except NotSupportedError as error:
        # A migration has overtaken the plan. A new connection makes another one.
        is_alone = not connection.in_atomic_block
        connection.close()
        if is_alone:
            return _executed(statement, values)
        # The same may work in a moment, which is what this one says.
        raise OperationalError(str(error)) from error.__cause__


def _executed(statement: str, values: dict[str, object]) -> list[tuple]:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # Django's own cursor would write the values into the text.
            cursor.cursor = psycopg.Cursor(connection.connection)
        cursor.execute(*_bound(statement, values))
        return cursor.fetchall() if cursor.description else []


def _bound(statement: str, values: dict[str, object]) -> tuple[str, list[object]]:
    return _bound_once(statement, values) if connection.vendor == "postgresql" else _written_out(statement, values)


def _bound_once(statement: str, values: dict[str, object]) -> tuple[str, list[object]]:
    """For PostgreSQL: a list is one parameter, and so is each column of rows."""
    text, names = _prepared(statement)
    parameters: list[object] = []
    for name in names:
        value = values[name]
        if not isinstance(value, list):
            parameters.append(_parameter(value))
        elif isinstance(value[0], tuple):
            parameters += map(_array, zip(*value, strict=True))
        else:
            parameters.append(_array(value))
    return text, parameters


@functools.cache
def _prepared(statement: str) -> tuple[str, list[str]]:
    """The statement with a mark for each parameter, and the names of the values."""
    statement = _LIST.sub(r"= ANY(\1)", statement)
    statement = _ROWS.sub(r"SELECT * FROM unnest(\1)", statement)
    names = [found[1] for found in _PART.finditer(statement)]

    def marks(found: re.Match) -> str:
        return "%s" if found[2] is None else ", ".join(f"%s::{kind.strip()}[]" for kind in found[2].split(","))

    return _PART.sub(marks, statement), names


def _parameter(value: object) -> object:
    """A value as its text, whose type the statement tells: that of a number would depend on how great it is, and there
    would be a plan for each."""
    return str(value) if isinstance(value, int) else value


def _array(values: Sequence[object]) -> str:
    """An array in PostgreSQL's own notation."""
    return f"{{{','.join(map(_element, values))}}}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(value)
    escaped = _TO_BE_ESCAPED.sub(r"\\\1", str(value))
    return f'"{escaped}"'


def _written_out(statement: str, values: dict[str, object]) -> tuple[str, list[object]]:
    """For SQLite: a parameter for each value."""
    texts, parameters = [], []
    for number, part in enumerate(_parts(statement)):
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
        else:
            texts.append(", ".join(["%s"] * len(value)))
            parameters += value
    return "".join(texts), parameters


@functools.cache
def _parts(statement: str) -> list[str]:
    """The statement, cut at its names: every second part is one."""
    return re.split(r"\{(\w+)\}", _PART.sub(r"{\1}", statement))


def _marks(row: Sequence[object]) -> str:
    return f"({', '.join(['%s'] * len(row))})"


def _stored(value: object) -> object:
    """A value as SQLite's driver takes it."""
    return connection.ops.adapt_datetimefield_value(value) if isinstance(value, datetime) else value
