"""What the intake's tables say that somebody must be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from streams.alarms.evaluator import Check
from streams.alarms.kinds import DEAD_RECORD, LOST_RECORDS, SKIPPED_RECORDS
from streams.intake.parking import DEAD
from streams.intake.tables import parked, progress

if TYPE_CHECKING:
    from sqlalchemy import Column
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["CHECKS"]


async def _dead_records(connection: AsyncConnection) -> dict[str, str]:
    rows = await connection.execute(
        select(parked.c.group_name, parked.c.topic, func.count())
        .where(parked.c.resolved_at_ms.is_(None), parked.c.state == DEAD)
        .group_by(parked.c.group_name, parked.c.topic)
    )
    return {f"{group}/{topic}": f"dead records: {count}" for group, topic, count in rows}


async def _lost_records(connection: AsyncConnection) -> dict[str, str]:
    return await _counted(connection, progress.c.lost)


async def _skipped_records(connection: AsyncConnection) -> dict[str, str]:
    return await _counted(connection, progress.c.skipped)


async def _counted(connection: AsyncConnection, counter: Column[int]) -> dict[str, str]:
    rows = await connection.execute(
        select(progress.c.group_name, progress.c.topic, func.sum(counter))
        .where(counter > 0)
        .group_by(progress.c.group_name, progress.c.topic)
    )
    return {f"{group}/{topic}": f"{counter.name} records: {int(count)}" for group, topic, count in rows}


CHECKS = (
    Check(DEAD_RECORD, _dead_records),
    Check(LOST_RECORDS, _lost_records),
    Check(SKIPPED_RECORDS, _skipped_records),
)
