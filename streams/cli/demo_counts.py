"""What the database says about a demo that runs, and whether everything was read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from streams.inspection.readings import all_topics
from streams.intake.tables import parked, progress
from streams.ledger.tables import ledger_transfer
from streams.outbox.tables import outbox

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.inspection.readings import Reading
    from streams.storage.database import Database

__all__ = ["Counts", "read_counts", "unread"]


@dataclass(frozen=True, slots=True)
class Counts:
    """What the database says at one moment, over all groups."""

    consumed: int
    handled: int
    duplicate: int
    parked: int
    dead: int
    published: int
    outbox_unsent: int
    transactions: int


async def unread(database: Database, readings: Sequence[Reading], sent: Mapping[str, int]) -> list[str]:
    """Whether every group read all that was sent or published on its topics.

    What was written is counted by the writers, what was read is counted by the readers.
    """
    async with database.read() as connection:
        rows = await connection.execute(
            select(outbox.c.topic, func.count()).where(outbox.c.sent_at_ms.is_not(None)).group_by(outbox.c.topic)
        )
        written = dict(sent)
        for topic, count in rows:
            written[topic] = written.get(topic, 0) + count
        rows = await connection.execute(
            select(progress.c.group_name, progress.c.topic, func.sum(progress.c.next_offset - progress.c.first_offset))
            .where(progress.c.lost == 0, progress.c.skipped == 0)
            .group_by(progress.c.group_name, progress.c.topic)
        )
        read = {(group, topic): count for group, topic, count in rows}
    return [
        f"{reading.group} read {read.get((reading.group, topic), 0)} of the {written[topic]} records of {topic}"
        for reading in readings
        for topic in all_topics(reading)
        if topic in written and read.get((reading.group, topic), 0) < written[topic]
    ]


async def read_counts(database: Database) -> Counts:
    """What the database says now."""
    async with database.read() as connection:
        sums = (
            await connection.execute(
                select(*(func.coalesce(func.sum(progress.c[name]), 0) for name in ("consumed", "handled", "duplicate")))
            )
        ).one()
        in_store = await _count(connection, parked.c.resolved_at_ms.is_(None))
        dead = await _count(connection, parked.c.resolved_at_ms.is_(None), parked.c.state == "dead")
        published = await _count(connection, outbox.c.sent_at_ms.is_not(None))
        unsent = await _count(connection, outbox.c.sent_at_ms.is_(None))
        transactions = await _count(connection, ledger_transfer.c.worker_id.is_not(None))
    return Counts(sums[0], sums[1], sums[2], in_store, dead, published, unsent, transactions)


async def _count(connection: AsyncConnection, *conditions: Any) -> int:
    return (await connection.execute(select(func.count()).where(*conditions))).scalar_one()
