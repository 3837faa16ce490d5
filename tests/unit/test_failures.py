"""What an error says of the database."""

import sqlite3

import psycopg
import pytest
from django.db import DataError, IntegrityError, InterfaceError, InternalError, OperationalError, ProgrammingError

from chat import failures
from chat.failures import Trouble


def wrapped(kind, cause):
    error = kind(str(cause))
    error.__cause__ = cause
    return error


def of_sqlite(code):
    error = sqlite3.OperationalError("x")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (wrapped(OperationalError, psycopg.OperationalError("connection refused")), Trouble.AWAY),
        (wrapped(OperationalError, TimeoutError()), Trouble.AWAY),
        (wrapped(InterfaceError, psycopg.InterfaceError("the connection is closed")), Trouble.AWAY),
        (InterfaceError("connection already closed"), Trouble.AWAY),
        (wrapped(OperationalError, psycopg.errors.AdminShutdown("x")), Trouble.AWAY),
        (wrapped(OperationalError, psycopg.errors.CannotConnectNow("x")), Trouble.AWAY),
        (wrapped(InternalError, psycopg.errors.IdleInTransactionSessionTimeout("x")), Trouble.AWAY),
        (wrapped(OperationalError, psycopg.errors.DiskFull("x")), Trouble.REFUSED),
        (wrapped(OperationalError, psycopg.errors.TooManyConnections("x")), Trouble.REFUSED),
        (wrapped(InternalError, psycopg.errors.ReadOnlySqlTransaction("x")), Trouble.REFUSED),
        (wrapped(OperationalError, psycopg.errors.LockNotAvailable("x")), Trouble.BUSY),
        (wrapped(OperationalError, psycopg.errors.DeadlockDetected("x")), Trouble.BUSY),
        (wrapped(OperationalError, psycopg.errors.QueryCanceled("x")), Trouble.BUSY),
        (wrapped(OperationalError, of_sqlite(sqlite3.SQLITE_BUSY)), Trouble.BUSY),
        (wrapped(OperationalError, of_sqlite(sqlite3.SQLITE_BUSY_SNAPSHOT)), Trouble.BUSY),
        (wrapped(OperationalError, of_sqlite(sqlite3.SQLITE_FULL)), Trouble.REFUSED),
        (wrapped(OperationalError, of_sqlite(sqlite3.SQLITE_CANTOPEN)), Trouble.AWAY),
    ],
)
def test_what_passes(error, trouble):
    assert failures.trouble(error) is trouble
    assert failures.is_passing(error)


@pytest.mark.parametrize(
    "error",
    [
        wrapped(ProgrammingError, psycopg.errors.UndefinedTable("x")),
        wrapped(IntegrityError, psycopg.errors.UniqueViolation("x")),
        wrapped(DataError, psycopg.errors.NumericValueOutOfRange("x")),
        ValueError("x"),
    ],
)
def test_what_is_a_mistake(error):
    assert failures.trouble(error) is Trouble.OTHER
    assert not failures.is_passing(error)


def test_the_reason_is_one_line():
    assert failures.reason(OperationalError("no route\n\tto host\n")) == "no route to host"
    assert failures.reason(TimeoutError()) == "TimeoutError"
