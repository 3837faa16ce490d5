"""What an error of the database says about it: it is away, it does not write, or somebody else is in the way.

Django's classes do not tell these apart, but the SQLSTATE does (PostgreSQL's documentation, appendix A), and where
there is none, the connection failed before the server could send one.
"""

import sqlite3
from enum import Enum, auto

import psycopg
from django.db import DatabaseError, Error, InterfaceError, OperationalError

from salon import logs


class Trouble(Enum):
    """What kind of trouble an error is."""

    AWAY = auto()
    """The connection cannot be made, or was lost: whether what was under way is done, nobody has said."""
    REFUSED = auto()
    """It answers and does not do it: its disk is full, it may only be read, it has no connection left."""
    BUSY = auto()
    """Somebody else has a lock on it, and it was given up. Nothing is done."""
    OTHER = auto()
    """It is nothing of the kind."""


AWAY = ("08", "57P01", "57P02", "57P03", "57P05", "25P03")
"""Connection exceptions; the server shuts down, has crashed, starts, or has ended an idle session or transaction."""
REFUSED = ("25006", "53", "58")
"""A transaction that may only read; no disk, memory or connection left; errors of its file system."""
BUSY = ("55P03", "57014", "40001", "40P01")
"""A lock that was not to be had in time; a statement that took too long; two who waited for each other."""

SQLITE = {
    sqlite3.SQLITE_CANTOPEN: Trouble.AWAY,
    sqlite3.SQLITE_READONLY: Trouble.REFUSED,
    sqlite3.SQLITE_FULL: Trouble.REFUSED,
    sqlite3.SQLITE_IOERR: Trouble.REFUSED,
    sqlite3.SQLITE_BUSY: Trouble.BUSY,
    sqlite3.SQLITE_LOCKED: Trouble.BUSY,
}


def trouble(error: BaseException) -> Trouble:
    """What kind of trouble an error of Django's, or of a driver's, is."""
    cause = error.__cause__ if isinstance(error, Error) and error.__cause__ is not None else error
    if isinstance(cause, sqlite3.Error):
        # The low byte is the error, the others say more of it.
        return SQLITE.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF, Trouble.OTHER)
    if isinstance(cause, TimeoutError | psycopg.InterfaceError | InterfaceError):
        return Trouble.AWAY
    state = getattr(cause, "sqlstate", None)
    if state is None:
        return Trouble.AWAY if isinstance(cause, psycopg.OperationalError) else Trouble.OTHER
    for kind, states in ((Trouble.AWAY, AWAY), (Trouble.REFUSED, REFUSED), (Trouble.BUSY, BUSY)):
        if state.startswith(states):
            return kind
    return Trouble.OTHER


def is_passing(error: BaseException) -> bool:
    """Whether the same may work in a moment; else somebody has made a mistake."""
    if isinstance(error, OperationalError | InterfaceError):
        return True
    return isinstance(error, DatabaseError) and trouble(error) is not Trouble.OTHER


def reason(error: BaseException) -> str:
    """What the error says, in one line for the log, without what somebody has written."""
    return logs.reason(error) or type(error).__name__
