"""One way into the database: `read()` for a consistent look, `write()` for one transaction.

Invariant: a block under `write()` commits as a whole or leaves no trace, and on SQLite at most one of them runs in
this process at a time.

SQLite gets two engines. Readers open plain transactions on connections that cannot write. The one writer connection
takes the write lock at once (`BEGIN IMMEDIATE`), because a transaction that first reads and then wants to write fails
without waiting when another writer was faster; it asks for the lock every millisecond instead of leaving the waiting
to SQLite's busy handler, whose growing sleeps starve it beside another busy process.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from streams.storage.errors import (
    DatabaseBusy,
    DatabaseReadOnly,
    DatabaseUnavailable,
    is_contention,
    is_read_only,
    is_unusable,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["Database"]

LOCK_TIMEOUT_SECONDS = 10.0
LOCK_POLL_SECONDS = 0.001
READERS = 4
SQLITE_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
"""FULL: a commit is on the disk when it returns, so that an offset stored after it never points past what a power
cut leaves behind."""


class Database:
    """An SQLite file or a PostgreSQL database, by its SQLAlchemy URL.

    Args:
        url: `sqlite+aiosqlite:///path` or `postgresql+asyncpg://...`.
        lock_timeout_seconds: how long a transaction waits for the write lock before it gives up with `DatabaseBusy`.
    """

    def __init__(self, url: str, *, lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> None:
        self.url = make_url(url)
        self.lock_timeout_seconds = lock_timeout_seconds
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._fair_lock = asyncio.Lock()
        if self.is_sqlite:
            self._writer = _sqlite_engine(url, connections=1)
            self._reader = _sqlite_engine(url, connections=READERS, pragmas=("query_only=ON",))
        else:
            self._writer = self._reader = create_async_engine(url, pool_pre_ping=True)

    @property
    def path(self) -> Path | None:
        """The SQLite file; None for a server."""
        return Path(self.url.database) if self.is_sqlite and self.url.database else None

    @property
    def described(self) -> str:
        """What to call it in a message: the URL without its password."""
        return self.url.render_as_string(hide_password=True)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One read-write transaction, committed when the block ends without an exception.

        Raises:
            DatabaseBusy: the write lock was not to be had in time.
            DatabaseUnavailable: the database cannot be opened.
            DatabaseReadOnly: it refuses writes.
        """
        async with AsyncExitStack() as stack:
            if self.is_sqlite:
                await stack.enter_async_context(self._fair_lock)
            with _unreachable(self):
                connection = await stack.enter_async_context(self._writer.connect())
                if self.is_sqlite:
                    await self._begin_immediate(connection)
            with _mapped_errors(self):
                yield connection
            with _unreachable(self):
                await connection.commit()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """One read-only transaction: everything in it sees the same state.

        Raises:
            DatabaseUnavailable: the database cannot be opened.
        """
        async with AsyncExitStack() as stack:
            with _unreachable(self):
                connection = await stack.enter_async_context(self._reader.connect())
                if self.is_sqlite:
                    await connection.exec_driver_sql("BEGIN")
            with _mapped_errors(self):
                yield connection

    async def probe(self) -> None:
        """Ask for a sign of life.

        Raises:
            DatabaseUnavailable: there is none.
        """
        try:
            async with self.read() as connection:
                await connection.execute(text("SELECT 1"))
        except (DBAPIError, OSError) as error:
            raise DatabaseUnavailable(f"{self.described} does not answer: {_first_line(error)}") from error

    async def probe_write(self) -> None:
        """Ask whether a transaction could be written now.

        Raises:
            DatabaseUnavailable, DatabaseReadOnly, DatabaseBusy: it could not.
        """
        try:
            async with self.write() as connection:
                if self.is_sqlite:  # begins to write on a read-only file without an error; only a change is refused
                    version = (await connection.exec_driver_sql("PRAGMA user_version")).scalar_one()
                    await connection.exec_driver_sql(f"PRAGMA user_version = {int(version)}")
                else:
                    await connection.execute(text("SELECT 1"))
        except (DBAPIError, OSError) as error:
            raise DatabaseUnavailable(f"{self.described} does not answer: {_first_line(error)}") from error

    async def close(self) -> None:
        """Give back every connection."""
        await self._writer.dispose()
        await self._reader.dispose()

    async def _begin_immediate(self, connection: AsyncConnection) -> None:
        deadline = time.monotonic() + self.lock_timeout_seconds
        while True:
            try:
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            except OperationalError as error:
                if not is_contention(error):
                    raise
                if time.monotonic() >= deadline:
                    raise DatabaseBusy(
                        f"{self.described} was locked by another writer for {self.lock_timeout_seconds:g} s"
                    ) from error
                await asyncio.sleep(LOCK_POLL_SECONDS)
            else:
                return


@contextmanager
def _mapped_errors(database: Database) -> Iterator[None]:
    """Turn 'connection lost', 'unusable' and 'read-only' of any driver into the storage's own errors.

    Only what the driver raised: an error of the caller's own block, be it an OSError, is the caller's.
    """
    try:
        yield
    except DBAPIError as error:
        if is_read_only(error):
            raise DatabaseReadOnly(f"{database.described} is read-only") from error
        if error.connection_invalidated or is_unusable(error):
            raise DatabaseUnavailable(f"{database.described} cannot be used: {_first_line(error)}") from error
        raise


@contextmanager
def _unreachable(database: Database) -> Iterator[None]:
    """The same around connecting and committing, where asyncpg reports a refused connection as an OSError."""
    try:
        with _mapped_errors(database):
            yield
    except OSError as error:
        raise DatabaseUnavailable(f"{database.described} cannot be reached: {error}") from error


def _first_line(error: BaseException) -> str:
    original = getattr(error, "orig", None) or error
    return (str(original).splitlines() or [type(original).__name__])[0]


def _sqlite_engine(url: str, *, connections: int, pragmas: tuple[str, ...] = ()) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        connect_args={"timeout": 0, "isolation_level": None},
    )

    def configure(dbapi_connection: Any, _record: Any) -> None:
        cursor = dbapi_connection.cursor()
        deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
        for pragma in (*SQLITE_PRAGMAS, *pragmas):
            while True:
                try:
                    cursor.execute(f"PRAGMA {pragma}")
                except Exception as error:  # switching to WAL wants the file for itself for a moment
                    if "locked" not in str(error) or time.monotonic() >= deadline:
                        raise
                    time.sleep(LOCK_POLL_SECONDS)
                else:
                    break
        cursor.close()

    event.listen(engine.sync_engine, "connect", configure)
    return engine
