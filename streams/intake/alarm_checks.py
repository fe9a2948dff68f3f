"""What the intake's tables say that somebody must be told."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from streams.alarms.evaluator import Check
from streams.alarms.kinds import (
    DEAD_RECORD,
    KEY_FULL,
    KILL_SWITCH,
    LOST_RECORDS,
    OUTAGE,
    RETRYING_TOO_LONG,
    SKIPPED_RECORDS,
    STORE_FULL,
)
from streams.intake.parking import DEAD, RETRYING
from streams.intake.pauses import PauseCause, current_pauses
from streams.intake.tables import parked, progress
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from sqlalchemy import Column
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["CHECKS"]

RETRYING_WARNING_SECONDS = 120.0
"""So long a record may be tried again without anybody being told."""


async def _dead_records(connection: AsyncConnection) -> dict[str, str]:
    rows = await connection.execute(
        select(parked.c.group_name, parked.c.topic, func.count())
        .where(parked.c.resolved_at_ms.is_(None), parked.c.state == DEAD)
        .group_by(parked.c.group_name, parked.c.topic)
    )
    return {f"{group}/{topic}": f"dead records: {count}" for group, topic, count in rows}


async def _retrying_too_long(connection: AsyncConnection) -> dict[str, str]:
    parked_before_ms = await database_time_ms(connection) - int(RETRYING_WARNING_SECONDS * 1000)
    rows = await connection.execute(
        select(parked.c.group_name, parked.c.topic, func.count())
        .where(
            parked.c.resolved_at_ms.is_(None),
            parked.c.state == RETRYING,
            parked.c.next_attempt_at_ms.is_not(None),
            parked.c.parked_at_ms <= parked_before_ms,
        )
        .group_by(parked.c.group_name, parked.c.topic)
    )
    return {f"{group}/{topic}": f"records tried in vain for long: {count}" for group, topic, count in rows}


async def _lost_records(connection: AsyncConnection) -> dict[str, str]:
    return await _counted(connection, progress.c.lost, progress.c.lost_acknowledged)


async def _skipped_records(connection: AsyncConnection) -> dict[str, str]:
    return await _counted(connection, progress.c.skipped, progress.c.skipped_acknowledged)


async def _counted(connection: AsyncConnection, counter: Column[int], acknowledged: Column[int]) -> dict[str, str]:
    rows = await connection.execute(
        select(progress.c.group_name, progress.c.topic, func.sum(counter - acknowledged))
        .where(counter > acknowledged)
        .group_by(progress.c.group_name, progress.c.topic)
    )
    return {f"{group}/{topic}": f"{counter.name} records: {int(count)}" for group, topic, count in rows}


CHECKS = (
    Check(DEAD_RECORD, _dead_records),
    Check(RETRYING_TOO_LONG, _retrying_too_long),
    Check(KEY_FULL, partial(current_pauses, cause=PauseCause.KEY_FULL)),
    Check(STORE_FULL, partial(current_pauses, cause=PauseCause.STORE_FULL)),
    Check(OUTAGE, partial(current_pauses, cause=PauseCause.OUTAGE)),
    Check(KILL_SWITCH, partial(current_pauses, cause=PauseCause.KILL_SWITCH)),
    Check(LOST_RECORDS, _lost_records),
    Check(SKIPPED_RECORDS, _skipped_records),
)
