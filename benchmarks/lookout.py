"""How far the app has come, seen in its database by the process that is measured: a look must cost next to nothing."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Protocol

import asyncpg  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.contestant import Assignment

__all__ = ["Lookout", "lookout_of"]

CONSUMED = "SELECT CAST(coalesce(sum(consumed), 0) AS BIGINT) FROM progress"


class Lookout(Protocol):
    """A connection of its own."""

    async def consumed(self) -> int:
        """Records that were taken, over all groups."""

    async def published(self, events: int) -> bool:
        """Whether at least so many events were emitted, and none of them is unsent."""

    async def close(self) -> None:
        """Disconnect."""


async def lookout_of(assignment: Assignment) -> Lookout:
    """On the variant's database."""
    if assignment.database_url is None:
        return _SqliteLookout(assignment.sqlite_file)
    return _PostgresqlLookout(await asyncpg.connect(assignment.postgresql_dsn))


class _SqliteLookout:
    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)

    async def consumed(self) -> int:
        (consumed,) = self._connection.execute(CONSUMED).fetchone()
        return int(consumed)

    async def published(self, events: int) -> bool:
        (emitted,) = self._connection.execute("SELECT coalesce(max(id), 0) FROM outbox").fetchone()
        (unsent,) = self._connection.execute("SELECT count(*) FROM outbox WHERE sent_at_ms IS NULL").fetchone()
        return bool(emitted >= events and unsent == 0)

    async def close(self) -> None:
        self._connection.close()


class _PostgresqlLookout:
    """The ids of the outbox have gaps there, so its rows are counted, once nothing is unsent."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def consumed(self) -> int:
        return int(await self._connection.fetchval(CONSUMED))

    async def published(self, events: int) -> bool:
        if await self._connection.fetchval("SELECT EXISTS (SELECT FROM outbox WHERE sent_at_ms IS NULL)"):
            return False
        return bool(await self._connection.fetchval("SELECT count(*) FROM outbox") >= events)

    async def close(self) -> None:
        await self._connection.close()
