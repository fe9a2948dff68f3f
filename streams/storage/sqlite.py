"""SQLite: two engines on one file.

Readers open plain transactions on connections that cannot write. The one writer connection takes the write lock at once
(`BEGIN IMMEDIATE`), because a transaction that first reads and then wants to write fails without waiting when another
writer was faster; it asks for the lock every millisecond instead of leaving the waiting to SQLite's busy handler, whose
growing sleeps starve it beside another busy process.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from streams.storage.errors import DatabaseBusy, is_contention

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["LOCK_TIMEOUT_SECONDS", "Sqlite"]

LOCK_TIMEOUT_SECONDS = 10.0
LOCK_POLL_SECONDS = 0.001
READERS = 4
PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
"""FULL: a commit is on the disk when it returns, so that an offset stored after it never points past what a power
cut leaves behind."""


class Sqlite:
    """The engines of one file, and how their transactions begin.

    Args:
        url: of the file.
        lock_timeout_seconds: how long a transaction waits for the write lock.
    """

    def __init__(self, url: URL, lock_timeout_seconds: float) -> None:
        self._described = url.render_as_string(hide_password=True)
        self._lock_timeout_seconds = lock_timeout_seconds
        self._fair_lock = asyncio.Lock()
        self.writer = _engine(url, connections=1)
        self.reader = _engine(url, connections=READERS, pragmas=("query_only=ON",))

    def turn_to_write(self) -> AbstractAsyncContextManager[None]:
        """Writers of one process take turns, in the order in which they came."""
        return self._fair_lock

    async def begin_writing(self, connection: AsyncConnection) -> None:
        """Take the write lock.

        Raises:
            DatabaseBusy: another process held it for too long.
        """
        deadline = time.monotonic() + self._lock_timeout_seconds
        while True:
            try:
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            except OperationalError as error:
                if not is_contention(error):
                    raise
                if time.monotonic() >= deadline:
                    raise DatabaseBusy(
                        f"{self._described} was locked by another writer for {self._lock_timeout_seconds:g} s"
                    ) from error
                await asyncio.sleep(LOCK_POLL_SECONDS)
            else:
                return

    async def begin_reading(self, connection: AsyncConnection) -> None:
        """Everything that follows sees the state of the first look."""
        await connection.exec_driver_sql("BEGIN")

    async def try_writing(self, connection: AsyncConnection) -> None:
        """Change something harmless: a read-only file lets a transaction begin, and only a change is refused."""
        version = (await connection.exec_driver_sql("PRAGMA user_version")).scalar_one()
        await connection.exec_driver_sql(f"PRAGMA user_version = {int(version)}")


def _engine(url: URL, *, connections: int, pragmas: tuple[str, ...] = ()) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        connect_args={"timeout": 0, "isolation_level": None},
    )

    def configure(dbapi_connection: Any, _record: Any) -> None:
        cursor = dbapi_connection.cursor()
        deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
        for pragma in (*PRAGMAS, *pragmas):
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
