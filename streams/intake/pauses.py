"""Why a process does not read on, written down so that an alarm can tell.

A pause is seen again and again while it lasts; one that was not seen for a while belonged to a process that is gone.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite

from streams.intake.tables import intake_pause
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["SEEN_EVERY_SECONDS", "PauseCause", "current_pauses", "end_pause", "see_pause"]

SEEN_EVERY_SECONDS = 15.0
GONE_AFTER_MS = 120_000
DETAIL_MAX_CHARACTERS = 1000
SUBJECT_MAX_CHARACTERS = 255


class PauseCause(StrEnum):
    """What kind of pause it is."""

    OUTAGE = "outage"
    KILL_SWITCH = "kill-switch"
    KEY_FULL = "key-full"
    STORE_FULL = "store-full"


async def see_pause(
    connection: AsyncConnection, group: str, cause: PauseCause, subject: str, holder: str, detail: str
) -> None:
    """Say that a process is paused, for the first time or still."""
    now_ms = await database_time_ms(connection)
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(intake_pause).values(
        group_name=group,
        cause=cause.value,
        subject=subject.replace("\x00", "")[:SUBJECT_MAX_CHARACTERS],
        holder=holder,
        detail=detail.replace("\x00", "")[:DETAIL_MAX_CHARACTERS],
        since_ms=now_ms,
        seen_at_ms=now_ms,
    )
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["group_name", "cause", "subject", "holder"],
            set_={"detail": statement.excluded.detail, "seen_at_ms": statement.excluded.seen_at_ms},
        )
    )


async def end_pause(connection: AsyncConnection, group: str, cause: PauseCause, holder: str) -> None:
    """Say that a process goes on, and forget those that were never ended."""
    gone_before_ms = await database_time_ms(connection) - GONE_AFTER_MS
    mine = (intake_pause.c.cause == cause.value) & (intake_pause.c.holder == holder)
    await connection.execute(
        delete(intake_pause).where(
            intake_pause.c.group_name == group, mine | (intake_pause.c.seen_at_ms < gone_before_ms)
        )
    )


async def current_pauses(connection: AsyncConnection, cause: PauseCause) -> dict[str, str]:
    """What is paused now for this cause, each with the detail."""
    since_ms = await database_time_ms(connection) - GONE_AFTER_MS
    rows = await connection.execute(
        select(intake_pause.c.group_name, intake_pause.c.subject, intake_pause.c.detail)
        .where(intake_pause.c.cause == cause.value, intake_pause.c.seen_at_ms >= since_ms)
        .order_by(intake_pause.c.since_ms)
    )
    return {f"{group}/{subject}" if subject else group: detail for group, subject, detail in rows}
