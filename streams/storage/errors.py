"""What can go wrong between the app and its database.

StorageError
├── DatabaseUnavailable   it cannot be reached or opened: an outage, tried again for ever
├── DatabaseBusy          another writer held the lock for too long: contention, redone
├── DatabaseReadOnly      it can be read but not written: somebody must put right the file's rights
└── SchemaMismatch        its tables are not those of this version: `payday db upgrade`
"""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, OperationalError

__all__ = [
    "DatabaseBusy",
    "DatabaseReadOnly",
    "DatabaseUnavailable",
    "SchemaMismatch",
    "StorageError",
    "is_contention",
    "is_read_only",
    "is_unusable",
]

CONTENTION_SQLSTATES = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "55P03",  # lock_not_available
    }
)
SQLITE_BUSY_TEXTS = ("database is locked", "database table is locked", "database is busy")
SQLITE_READ_ONLY_TEXT = "readonly database"
SQLITE_UNUSABLE_TEXTS = (
    "unable to open database file",
    "file is not a database",
    "disk image is malformed",
    "database or disk is full",
    "disk I/O error",
)
UNUSABLE_SQLSTATES = ("08", "53", "57P", "58")
"""PostgreSQL's classes: connection lost, out of resources, shutting down, system error. None is a record's fault."""


class StorageError(Exception):
    """The database did not do what was asked."""


class DatabaseUnavailable(StorageError):
    """The database cannot be reached or opened."""


class DatabaseBusy(StorageError):
    """The write lock was not to be had within the lock time-out."""


class DatabaseReadOnly(StorageError):
    """The database refuses writes."""


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
    return isinstance(error, DBAPIError) and SQLITE_READ_ONLY_TEXT in str(error.orig)


def is_unusable(error: DBAPIError) -> bool:
    """Whether the database itself is in trouble: nobody could write to it now."""
    state = getattr(error.orig, "sqlstate", None) or ""
    return state.startswith(UNUSABLE_SQLSTATES) or any(text in str(error.orig) for text in SQLITE_UNUSABLE_TEXTS)
