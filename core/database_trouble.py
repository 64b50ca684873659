"""Which errors of a database are trouble: away, busy, full, read-only, damaged, out of connections.

Owns the one translation of them into Unavailable. Knows no SQL and no store; what is not trouble
(a broken constraint, a statement that is wrong) is a fault of ours and passes as it is.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from core.errors import Unavailable

DATABASE_UNAVAILABLE = "database_unavailable"

_MESSAGE = "The server's database cannot be used now: nothing was changed. Try again in a moment."

_COOL_S = 0.5
_LOG_EVERY_S = 5.0

_OUR_SQLITE_FAULTS = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
    }
)
# Classes and codes of SQLSTATE. Source: PostgreSQL's manual, appendix A.
_TROUBLED_CLASSES = frozenset({"08", "25", "28", "3D", "3F", "40", "53", "55", "57", "58", "XX"})
_TROUBLED_CODES = frozenset({"42501", "42P01"})  # a right, or a table, that was there at the start
_OUR_CODES = frozenset({"25P02"})  # a statement after one that failed
_ONES_OWN = frozenset({"40", "42"})
_ONES_OWN_CODES = frozenset({"57014"})  # a statement that took too long


class Trouble:
    """Errors of one database, told as Unavailable. For several threads.

    Who comes just after somebody waited in vain for the database, a good part of `wait_s`, is
    refused at once: those who queue for a thread or a connection must not each wait the whole time
    after one another.
    """

    def __init__(self, wait_s: float) -> None:
        self._long_s = wait_s / 5
        self._refuse_until = 0.0
        self._log_after = 0.0

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raises Unavailable for trouble of the block's, and at once for trouble just seen."""
        began = time.monotonic()
        if began < self._refuse_until:
            raise Unavailable(_MESSAGE, code=DATABASE_UNAVAILABLE)
        try:
            yield
        except exc.SQLAlchemyError as error:
            if not is_trouble(error):
                raise
            self._note(error, began)
            raise Unavailable(_MESSAGE, code=DATABASE_UNAVAILABLE) from error
        self._refuse_until = 0.0

    def _note(self, error: exc.SQLAlchemyError, began: float) -> None:
        now = time.monotonic()
        if now - began >= self._long_s and not _is_ones_own(error):
            self._refuse_until = now + _COOL_S
        if now >= self._log_after:  # thousands may meet the same trouble
            self._log_after = now + _LOG_EVERY_S
            logging.getLogger("attune.database").error(
                "The database is in trouble: %s", _said(error)
            )


def speaks_sql(error: BaseException) -> bool:
    """Whether an error's text may hold a statement, or what a database said of one."""
    return isinstance(error, exc.SQLAlchemyError)


def is_trouble(error: exc.SQLAlchemyError) -> bool:
    """Whether it may be over when the database has recovered, whoever asked for what."""
    if isinstance(error, exc.TimeoutError):
        return True  # no connection of the pool came free
    if not isinstance(error, exc.DBAPIError):
        return False
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        missing = str(error.orig).startswith("no such table")  # migrations had made it
        return missing or code & 0xFF not in _OUR_SQLITE_FAULTS
    state = _sqlstate(error)
    if state:
        troubled = state in _TROUBLED_CODES or state[:2] in _TROUBLED_CLASSES
        return troubled and state not in _OUR_CODES
    if isinstance(error, exc.OperationalError | exc.InterfaceError | exc.InternalError):
        return True
    return error.connection_invalidated


def _is_ones_own(error: exc.SQLAlchemyError) -> bool:
    """Whether others may well be served: it was this one's statement that took too long."""
    state = _sqlstate(error)
    return state[:2] in _ONES_OWN or state in _ONES_OWN_CODES


def _sqlstate(error: exc.SQLAlchemyError) -> str:
    return str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")


def _said(error: exc.SQLAlchemyError) -> str:
    """What the database itself said, without the statement."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
