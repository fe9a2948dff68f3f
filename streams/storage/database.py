"""One way into the database: `read()` for a consistent look, `write()` for one transaction.

Invariant: a block under `write()` commits as a whole or leaves no trace, and on SQLite at most one of them runs in
this process at a time. Everything that SQLite and PostgreSQL do differently here is in their own modules.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from streams.storage.errors import DatabaseBusy, DatabaseReadOnly, DatabaseUnavailable, is_read_only, is_unusable
from streams.storage.postgresql import Postgresql, PostgresqlLimits
from streams.storage.sqlite import LOCK_TIMEOUT_SECONDS, Sqlite

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

__all__ = ["Database"]


class _Backend(Protocol):
    """What the two kinds of database do in their own ways."""

    writer: AsyncEngine
    reader: AsyncEngine

    def turn_to_write(self) -> AbstractAsyncContextManager[None]: ...

    async def begin_writing(self, connection: AsyncConnection, /) -> None: ...

    async def begin_reading(self, connection: AsyncConnection, /) -> None: ...

    async def try_writing(self, connection: AsyncConnection, /) -> None: ...


class Database:
    """An SQLite file or a PostgreSQL database, by its SQLAlchemy URL.

    Args:
        url: `sqlite+aiosqlite:///path` or `postgresql+asyncpg://...`.
        lock_timeout_seconds: on SQLite, how long a transaction waits for the write lock before it gives up with
            `DatabaseBusy`.
        postgresql: the limits there, where they are to be others than the usual ones.

    Raises:
        DriverMissing: the driver for this kind of database is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS,
        postgresql: PostgresqlLimits | None = None,
    ) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._backend: _Backend = (
            Sqlite(self.url, lock_timeout_seconds)
            if self.is_sqlite
            else Postgresql(self.url, postgresql or PostgresqlLimits())
        )

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
            DatabaseBusy: the write lock, or a connection, was not to be had in time.
            DatabaseUnavailable: the database cannot be reached or opened.
            DatabaseReadOnly: it refuses writes.
        """
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._backend.turn_to_write())
            with self._unreachable():
                connection = await stack.enter_async_context(self._backend.writer.connect())
                await self._backend.begin_writing(connection)
            with self._mapped_errors():
                yield connection
            with self._unreachable():
                await connection.commit()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """One read-only transaction: everything in it sees the same state.

        Raises:
            DatabaseBusy: no connection was to be had in time.
            DatabaseUnavailable: the database cannot be reached or opened.
        """
        async with AsyncExitStack() as stack:
            with self._unreachable():
                connection = await stack.enter_async_context(self._backend.reader.connect())
                await self._backend.begin_reading(connection)
            with self._mapped_errors():
                yield connection

    @asynccontextmanager
    async def outside_transactions(self) -> AsyncIterator[AsyncConnection]:
        """A connection that stays open and idle without holding anything back: PostgreSQL only.

        It is closed at the end, so that nothing that was set on it comes back with the pool.

        Raises:
            DatabaseBusy, DatabaseUnavailable: as `read`.
        """
        assert not self.is_sqlite, "SQLite has nothing to say to an idle connection"
        async with AsyncExitStack() as stack:
            with self._unreachable():
                connection = await stack.enter_async_context(self._backend.reader.connect())
                connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
            try:
                with self._mapped_errors():
                    yield connection
            finally:
                await connection.invalidate()

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
                await self._backend.try_writing(connection)
        except (DBAPIError, OSError) as error:
            raise DatabaseUnavailable(f"{self.described} does not answer: {_first_line(error)}") from error

    async def close(self) -> None:
        """Give back every connection."""
        await self._backend.writer.dispose()
        await self._backend.reader.dispose()

    @contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        """Turn 'connection lost', 'unusable' and 'read-only' of any driver into the storage's own errors.

        Only what the driver raised: an error of the caller's own block, be it an OSError, is the caller's.
        """
        try:
            yield
        except DBAPIError as error:
            if is_read_only(error):
                raise DatabaseReadOnly(f"{self.described} is read-only") from error
            if error.connection_invalidated or is_unusable(error):
                raise DatabaseUnavailable(f"{self.described} cannot be used: {_first_line(error)}") from error
            raise

    @contextmanager
    def _unreachable(self) -> Iterator[None]:
        """The same around connecting and committing, where asyncpg reports a refused connection as an OSError."""
        try:
            with self._mapped_errors():
                yield
        except PoolExhausted as error:
            raise DatabaseBusy(f"every connection to {self.described} is in use: {_first_line(error)}") from error
        except OSError as error:
            reason = str(error) or "no answer in time"
            raise DatabaseUnavailable(f"{self.described} cannot be reached: {reason}") from error


def _first_line(error: BaseException) -> str:
    original = getattr(error, "orig", None) or error
    return (str(original).splitlines() or [type(original).__name__])[0]
