"""What is wrong: conditions are raised once for the whole fleet, seen again, and cleared.

Invariant: of each name and subject at most one condition is open, which a unique index holds, whoever raises it and
however many at once. Times are the database's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from streams.alarms.tables import alarm_condition, alarm_notice
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.alarms.kinds import AlarmKind

__all__ = [
    "OpenCondition",
    "bounded_detail",
    "bounded_subject",
    "clear_alarm",
    "open_conditions",
    "prune",
    "raise_alarm",
]

DETAIL_MAX_CHARACTERS = 2000
SUBJECT_MAX_CHARACTERS = 255
_DIGEST_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class OpenCondition:
    """A condition that holds now, as far as is known."""

    name: str
    subject: str
    severity: str
    detail: str
    raised_at_ms: int
    last_seen_at_ms: int


async def raise_alarm(
    connection: AsyncConnection, kind: AlarmKind, subject: str, detail: str, *, now_ms: int | None = None
) -> bool:
    """Say that something is wrong; told to people after the commit. While it is open, saying it again tells nobody.

    Args:
        connection: of a write transaction, the caller's own or one for this alone.
        kind: which alarm.
        subject: what it concerns, such as a group and topic; longer ones are cut and end in a hash.
        detail: for a person; the latest one is kept, cut at `DETAIL_MAX_CHARACTERS`.
        now_ms: instead of the database's clock.

    Returns:
        Whether it was not open before.
    """
    now = await database_time_ms(connection) if now_ms is None else now_ms
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(alarm_condition).values(
        name=kind.name,
        subject=bounded_subject(subject),
        severity=kind.severity.value,
        detail=bounded_detail(detail),
        raised_at_ms=now,
        last_seen_at_ms=now,
    )
    times_seen = await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["name", "subject"],
            index_where=alarm_condition.c.cleared_at_ms.is_(None),
            set_={
                "severity": statement.excluded.severity,
                "detail": statement.excluded.detail,
                "last_seen_at_ms": statement.excluded.last_seen_at_ms,
                "times_seen": alarm_condition.c.times_seen + 1,
            },
        ).returning(alarm_condition.c.times_seen)
    )
    return bool(times_seen.scalar_one() == 1)


async def clear_alarm(connection: AsyncConnection, kind: AlarmKind, subject: str, *, now_ms: int | None = None) -> bool:
    """Say that it is over; told to people after the commit.

    Returns:
        Whether it was open.
    """
    now = await database_time_ms(connection) if now_ms is None else now_ms
    cleared = await connection.execute(
        update(alarm_condition)
        .where(
            alarm_condition.c.name == kind.name,
            alarm_condition.c.subject == bounded_subject(subject),
            alarm_condition.c.cleared_at_ms.is_(None),
        )
        .values(cleared_at_ms=now)
    )
    return cleared.rowcount > 0


async def open_conditions(connection: AsyncConnection, name: str | None = None) -> list[OpenCondition]:
    """Everything that is wrong now, or what is of this name; the oldest first."""
    columns = (alarm_condition.c[field] for field in OpenCondition.__slots__)
    statement = select(*columns).where(alarm_condition.c.cleared_at_ms.is_(None)).order_by(alarm_condition.c.id)
    if name is not None:
        statement = statement.where(alarm_condition.c.name == name)
    return [OpenCondition(*row) for row in await connection.execute(statement)]


async def prune(connection: AsyncConnection, cleared_before_ms: int) -> None:
    """Forget conditions that were cleared before a time, whether or not every sink could be told."""
    old = select(alarm_condition.c.id).where(alarm_condition.c.cleared_at_ms < cleared_before_ms)
    await connection.execute(delete(alarm_notice).where(alarm_notice.c.condition_id.in_(old)))
    await connection.execute(delete(alarm_condition).where(alarm_condition.c.cleared_at_ms < cleared_before_ms))


def bounded_subject(subject: str) -> str:
    """A subject that fits its column: what is cut off is replaced by a hash, so that two of them stay two."""
    clean = subject.replace("\x00", "")
    if len(clean) <= SUBJECT_MAX_CHARACTERS:
        return clean
    digest = hashlib.sha256(clean.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{clean[: SUBJECT_MAX_CHARACTERS - _DIGEST_CHARACTERS - 1]}~{digest}"


def bounded_detail(detail: str) -> str:
    """A detail that fits its column."""
    return detail.replace("\x00", "")[:DETAIL_MAX_CHARACTERS]
