"""How every group and the outbox are doing, as counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from streams.alarms.conditions import open_conditions
from streams.inspection.readings import Reading, all_topics, load_positions
from streams.intake.tables import parked, progress
from streams.outbox.envelope import format_time
from streams.outbox.store import backlog
from streams.outbox.summary import breaker_state
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.inspection.log_ends import LogEndsSource
    from streams.storage.database import Database

__all__ = ["outbox_status", "status"]

COUNTS = ("consumed", "handled", "duplicate", "parked", "discarded", "lost", "skipped")


async def status(database: Database, broker: LogEndsSource, readings: Sequence[Reading]) -> dict[str, Any]:
    """What `payday status --json` prints (INTERFACES: Command line).

    Raises:
        BrokerUnreachable, StorageError: one of them cannot be asked.
    """
    async with database.read() as connection:
        counts = await _counts(connection)
        dead = await _dead(connection)
        positions = await load_positions(connection)
        outbox = await outbox_status(connection)
        alarms = await _alarms(connection)
    others = sorted(counts.keys() - {reading.group for reading in readings})
    everyone = (
        *readings,
        *(Reading(name, tuple({one.topic for one in positions if one.group == name})) for name in others),
    )
    ends = await broker.read(all_topics(*everyone), everyone)
    unread = ends.unread(everyone, positions)
    groups = {}
    for reading in everyone:
        lag = sum(count for (group, _topic, _partition), count in unread.items() if group == reading.group)
        known = counts.get(reading.group, dict.fromkeys(COUNTS, 0))
        groups[reading.group] = {
            "lag": lag,
            **{name: known[name] for name in COUNTS[:4]},
            "dead": dead.get(reading.group, 0),
            **{name: known[name] for name in COUNTS[4:]},
        }
    return {
        "groups": groups,
        "unsent": outbox["unsent"],
        "oldest_unsent_age_seconds": outbox["oldest_age_seconds"],
        "breaker": outbox["breaker"],
        "alarms": alarms,
    }


async def outbox_status(connection: AsyncConnection) -> dict[str, Any]:
    """What `payday outbox status --json` prints. The age is None where nothing is unsent."""
    waiting = await backlog(connection)
    age = None
    if waiting.oldest_created_at_ms is not None:
        age = max(0, await database_time_ms(connection) - waiting.oldest_created_at_ms) / 1000
    return {"unsent": waiting.unsent, "oldest_age_seconds": age, "breaker": await breaker_state(connection)}


async def _alarms(connection: AsyncConnection) -> list[dict[str, str]]:
    """What is wrong now, the oldest first."""
    return [
        {
            "name": one.name,
            "since": format_time(one.raised_at_ms),
            "detail": one.detail,
            "subject": one.subject,
            "severity": one.severity,
        }
        for one in await open_conditions(connection)
    ]


async def _counts(connection: AsyncConnection) -> dict[str, dict[str, int]]:
    rows = await connection.execute(
        select(progress.c.group_name, *(func.sum(progress.c[name]).label(name) for name in COUNTS)).group_by(
            progress.c.group_name
        )
    )
    return {row.group_name: {name: int(getattr(row, name)) for name in COUNTS} for row in rows}


async def _dead(connection: AsyncConnection) -> dict[str, int]:
    rows = await connection.execute(
        select(parked.c.group_name, func.count())
        .where(parked.c.resolved_at_ms.is_(None), parked.c.state == "dead")
        .group_by(parked.c.group_name)
    )
    return {row[0]: row[1] for row in rows}
