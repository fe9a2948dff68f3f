"""Locks on a name instead of a row, held until the transaction ends: PostgreSQL's transaction-scoped advisory locks.

They are for what a row lock does badly. A row that every transaction shares would be written by each of them, and
whoever wants it alone could wait for ever while others keep sharing it; these locks are in memory and are given out in
the order in which they were asked for.

On SQLite there is nothing to do: a transaction that writes holds the only write lock from its beginning.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["lock_alone", "lock_shared"]

_ALONE = text("SELECT 1 FROM (SELECT pg_advisory_xact_lock(:number)) held")
_SHARED = text("SELECT 1 FROM (SELECT pg_advisory_xact_lock_shared(:number)) held")


async def lock_alone(connection: AsyncConnection, name: str) -> None:
    """Wait until nobody else holds a name, shared or alone; whoever asks after us waits for us."""
    if connection.dialect.name == "postgresql":
        await connection.execute(_ALONE, {"number": _number(name)})


async def lock_shared(connection: AsyncConnection, name: str) -> None:
    """Wait until nobody holds a name alone, and keep it from being held alone."""
    if connection.dialect.name == "postgresql":
        await connection.execute(_SHARED, {"number": _number(name)})


def _number(name: str) -> int:
    """A name as PostgreSQL takes it: 64 bits with a sign."""
    return int.from_bytes(blake2b(f"payday/{name}".encode(), digest_size=8).digest(), signed=True)
