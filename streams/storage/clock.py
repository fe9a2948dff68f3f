"""The time where two instances could disagree about it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["database_time_ms"]

_NOW = text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)")


async def database_time_ms(connection: AsyncConnection) -> int:
    """Milliseconds since the epoch by the database's clock.

    PostgreSQL's `now()` would be the beginning of the transaction. An SQLite file is on this machine, and so is its
    clock.
    """
    if connection.dialect.name == "sqlite":
        return time.time_ns() // 1_000_000
    return int((await connection.execute(_NOW)).scalar_one())
