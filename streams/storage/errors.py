"""What can go wrong between the app and its database.

StorageError
├── DatabaseUnavailable   it cannot be reached or opened: an outage, tried again for ever
├── DatabaseBusy          another writer held the lock for too long, or was faster: contention, redone
├── DatabaseReadOnly      it can be read but not written: somebody must put right rights, or name the primary server
├── DriverMissing         PostgreSQL without its driver
└── SchemaMismatch        its tables are not those of this version: `payday db upgrade`
"""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

__all__ = [
    "DatabaseBusy",
    "DatabaseReadOnly",
    "DatabaseUnavailable",
    "DriverMissing",
    "SchemaMismatch",
    "StorageError",
    "is_contention",
    "is_read_only",
    "is_taken",
    "is_unusable",
]

CONTENTION_SQLSTATES = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "55P03",  # lock_not_available
        "57014",  # query_canceled: the statement time-out, or an administrator's hand
    }
)
"""A statement that took too long is nobody's record's fault: every statement is over a batch, and what makes it slow is
a loaded server or a missing index. It is redone; when that does not help, intake pauses."""
SQLITE_BUSY_TEXTS = ("database is locked", "database table is locked", "database is busy")
SQLITE_READ_ONLY_TEXT = "readonly database"
SQLITE_UNUSABLE_TEXTS = (
    "unable to open database file",
    "file is not a database",
    "disk image is malformed",
    "database or disk is full",
    "disk I/O error",
)
UNUSABLE_SQLSTATES = ("08", "25P03", "25P04", "28", "3D000", "42501", "53", "57P", "58")
"""PostgreSQL's classes and codes: connection lost, ended for idling in or for the length of its transaction, login
refused, no such database, no right to the table, out of resources, shutting down, system error. None is a record's
fault."""
READ_ONLY_SQLSTATE = "25006"
UNIQUE_SQLSTATE = "23505"
SQLITE_UNIQUE_TEXT = "UNIQUE constraint failed"


class StorageError(Exception):
    """The database did not do what was asked."""


class DatabaseUnavailable(StorageError):
    """The database cannot be reached or opened."""


class DatabaseBusy(StorageError):
    """A lock or a connection was not to be had in time, or somebody else was faster: the same again may succeed."""


class DatabaseReadOnly(StorageError):
    """The database refuses writes."""


class DriverMissing(StorageError):
    """The driver for this kind of database is not installed."""


class SchemaMismatch(StorageError):
    """The tables are missing or of another version."""


def is_contention(error: BaseException) -> bool:
    """Whether redoing the same transaction may simply succeed: busy, deadlock, serialisation, lock time-out."""
    if isinstance(error, DatabaseBusy):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if getattr(error.orig, "sqlstate", None) in CONTENTION_SQLSTATES:
        return True
    return isinstance(error, OperationalError) and any(text in str(error.orig) for text in SQLITE_BUSY_TEXTS)


def is_read_only(error: BaseException) -> bool:
    """Whether the database refused a write because it may only be read."""
    if not isinstance(error, DBAPIError):
        return False
    return getattr(error.orig, "sqlstate", None) == READ_ONLY_SQLSTATE or SQLITE_READ_ONLY_TEXT in str(error.orig)


def is_taken(error: IntegrityError) -> bool:
    """Whether a unique value is there already."""
    return getattr(error.orig, "sqlstate", None) == UNIQUE_SQLSTATE or SQLITE_UNIQUE_TEXT in str(error.orig)


def is_unusable(error: DBAPIError) -> bool:
    """Whether the database itself is in trouble: nobody could write to it now."""
    state = getattr(error.orig, "sqlstate", None) or ""
    return state.startswith(UNUSABLE_SQLSTATES) or any(text in str(error.orig) for text in SQLITE_UNUSABLE_TEXTS)
