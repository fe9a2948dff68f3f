"""The outbox's statements: append with a change, read what is unsent, mark what was acknowledged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import bindparam, func, select, update

from streams.outbox.envelope import OutgoingMessage
from streams.outbox.tables import outbox
from streams.outbox.wakeup import notify_relays
from streams.storage.bulk import among, insert_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection


__all__ = ["Backlog", "UnsentRow", "append", "backlog", "mark_sent", "unsent_rows"]

COLUMNS = (*OutgoingMessage._fields, "created_at_ms")


class UnsentRow(NamedTuple):
    """A committed row that no broker has acknowledged yet. `headers` is packed."""

    id: int
    topic: str
    key: bytes | None
    value: bytes
    headers: bytes


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is unsent: how many rows, and when the oldest was written (None where there is none)."""

    unsent: int
    oldest_created_at_ms: int | None


async def append(connection: AsyncConnection, messages: Sequence[OutgoingMessage], now_ms: int) -> None:
    """Write events in the order in which they were emitted, in the transaction of the change that caused them.

    Whoever emits for a key holds a row lock common to that key, so that id order is commit order within a key.
    """
    if messages:
        await insert_rows(connection, outbox, COLUMNS, [(*message, now_ms) for message in messages])
        await notify_relays(connection)


_UNSENT = (
    select(outbox.c.id, outbox.c.topic, outbox.c.key, outbox.c.value, outbox.c.headers)
    .where(outbox.c.sent_at_ms.is_(None))
    .order_by(outbox.c.id)
    .limit(bindparam("at_most"))
)


async def unsent_rows(connection: AsyncConnection, at_most: int) -> list[UnsentRow]:
    """The oldest unsent rows. Never a high-water mark: a transaction with a smaller id may commit later."""
    rows = await connection.execute(_UNSENT, {"at_most": at_most})
    return [UnsentRow(*row) for row in rows]


async def mark_sent(connection: AsyncConnection, ids: Iterable[int], now_ms: int) -> None:
    """Write down that the broker has acknowledged exactly these rows."""
    await connection.execute(
        update(outbox)
        .where(among(connection, outbox.c.id, ids))
        .values(sent_at_ms=now_ms, attempts=outbox.c.attempts + 1)
    )


async def backlog(connection: AsyncConnection) -> Backlog:
    """How much is unsent and since when."""
    row = (
        await connection.execute(
            select(func.count(), func.min(outbox.c.created_at_ms)).where(outbox.c.sent_at_ms.is_(None))
        )
    ).one()
    return Backlog(row[0], row[1])
