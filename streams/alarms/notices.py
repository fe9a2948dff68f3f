"""Who is to be told of what, and when: the statements of the notifier.

Invariant: a notice is told by the one instance that holds its claim, and is put off or finished only after its sink
took or refused it, by the holder of that claim. A claim ends by itself, so a crashed instance delays a notice and never
loses it; a notice whose teller crashed after the sink took it is told again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import and_, exists, literal, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from streams.alarms.conditions import bounded_detail
from streams.alarms.tables import alarm_condition, alarm_notice
from streams.storage.bulk import among

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["Claim", "Event", "Notice", "anything_due", "claim", "put_off", "settle"]

CLEARED_TOLD_MS = 3_600_000
"""A sink that does not know of a condition yet is told of it also when it was cleared, if that is not longer ago."""


class Event(StrEnum):
    """What there is to tell."""

    RAISED = "raised"
    REPEATED = "repeated"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class Notice:
    """What a sink is given.

    Attributes:
        condition_id: the same for everything that is told of one condition.
        event: raised, repeated while it is open, or cleared.
        name, subject, severity, detail: of the condition, as it is now.
        raised_at_ms, last_seen_at_ms, cleared_at_ms: by the database's clock.
        number: the how manieth one this sink gets of this condition, from 1; the same again after a crash or failure.
    """

    condition_id: int
    event: Event
    name: str
    subject: str
    severity: str
    detail: str
    raised_at_ms: int
    last_seen_at_ms: int
    cleared_at_ms: int | None
    number: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A notice that this instance alone tells until a time.

    Attributes:
        notice: what to tell.
        sink: whom.
        holder: who.
        until_ms: when the claim ends.
        failures: how often in a row the sink has not taken it.
    """

    notice: Notice
    sink: str
    holder: str
    until_ms: int
    failures: int


async def anything_due(connection: AsyncConnection, sink: str, now_ms: int) -> bool:
    """Whether there is anything to claim: a question for a reader, so that an idle notifier writes nothing."""
    due = select(literal(1)).select_from(_JOINED).where(_is_due(sink, now_ms)).exists()
    return bool((await connection.execute(select(or_(due, exists().where(_is_news(sink, now_ms)))))).scalar())


async def claim(
    connection: AsyncConnection, sink: str, holder: str, *, at_most: int, now_ms: int, until_ms: int
) -> list[Claim]:
    """Take what is due for a sink, passing over what another instance is taking at this moment."""
    await _add_news(connection, sink, now_ms)
    columns = (alarm_condition.c[name] for name in ("name", "subject", "severity", "detail"))
    times = (alarm_condition.c[name] for name in ("raised_at_ms", "last_seen_at_ms", "cleared_at_ms"))
    rows = (
        await connection.execute(
            select(
                alarm_notice.c.condition_id,
                alarm_notice.c.told,
                alarm_notice.c.notifications,
                alarm_notice.c.failures,
                *columns,
                *times,
            )
            .select_from(_JOINED)
            .where(_is_due(sink, now_ms))
            .order_by(alarm_notice.c.next_attempt_at_ms, alarm_notice.c.condition_id)
            .limit(at_most)
            .with_for_update(of=alarm_notice, skip_locked=True)
        )
    ).all()
    if not rows:
        return []
    await connection.execute(
        update(alarm_notice)
        .where(
            alarm_notice.c.sink == sink,
            among(connection, alarm_notice.c.condition_id, [row.condition_id for row in rows]),
        )
        .values(claimed_by=holder, claimed_until_ms=until_ms)
    )
    return [
        Claim(
            Notice(
                row.condition_id,
                _event(row.told, row.cleared_at_ms),
                row.name,
                row.subject,
                row.severity,
                row.detail,
                row.raised_at_ms,
                row.last_seen_at_ms,
                row.cleared_at_ms,
                row.notifications + 1,
            ),
            sink,
            holder,
            until_ms,
            row.failures,
        )
        for row in rows
    ]


async def settle(connection: AsyncConnection, claimed: Claim, *, now_ms: int, repeat_at_ms: int) -> bool:
    """The sink took it. Whether the claim still held; if not, somebody else tells it again."""
    finished = claimed.notice.event is Event.CLEARED
    return await _release(
        connection,
        claimed,
        told=claimed.notice.event.value,
        notified_at_ms=now_ms,
        notifications=alarm_notice.c.notifications + 1,
        failures=0,
        error=None,
        next_attempt_at_ms=repeat_at_ms,
        finished_at_ms=now_ms if finished else None,
    )


async def put_off(connection: AsyncConnection, claimed: Claim, *, error: str, next_attempt_at_ms: int) -> bool:
    """The sink did not take it: try again later. Whether the claim still held."""
    return await _release(
        connection,
        claimed,
        failures=alarm_notice.c.failures + 1,
        error=bounded_detail(error),
        next_attempt_at_ms=next_attempt_at_ms,
    )


async def _release(connection: AsyncConnection, claimed: Claim, **values: object) -> bool:
    released = await connection.execute(
        update(alarm_notice)
        .where(
            alarm_notice.c.condition_id == claimed.notice.condition_id,
            alarm_notice.c.sink == claimed.sink,
            alarm_notice.c.claimed_by == claimed.holder,
            alarm_notice.c.claimed_until_ms == claimed.until_ms,
        )
        .values(claimed_by=None, claimed_until_ms=None, **values)
    )
    return released.rowcount > 0


async def _add_news(connection: AsyncConnection, sink: str, now_ms: int) -> None:
    """Write down what the sink has never heard of. Two instances may do so at once."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    news = select(alarm_condition.c.id, literal(sink), literal(now_ms, alarm_notice.c.next_attempt_at_ms.type)).where(
        _is_news(sink, now_ms)
    )
    statement: postgresql.Insert | sqlite.Insert = dialect.insert(alarm_notice)
    await connection.execute(
        statement.from_select(["condition_id", "sink", "next_attempt_at_ms"], news).on_conflict_do_nothing()
    )


_JOINED = alarm_notice.join(alarm_condition, alarm_condition.c.id == alarm_notice.c.condition_id)


def _is_due(sink: str, now_ms: int) -> ColumnElement[bool]:
    """Unfinished, unclaimed, and its time has come; that it is over is told at once, but after a failure it waits."""
    return and_(
        alarm_notice.c.sink == sink,
        alarm_notice.c.finished_at_ms.is_(None),
        or_(alarm_notice.c.claimed_until_ms.is_(None), alarm_notice.c.claimed_until_ms <= now_ms),
        or_(
            alarm_notice.c.next_attempt_at_ms <= now_ms,
            and_(alarm_condition.c.cleared_at_ms.is_not(None), alarm_notice.c.failures == 0),
        ),
    )


def _is_news(sink: str, now_ms: int) -> ColumnElement[bool]:
    """Conditions of which the sink has never heard."""
    known = select(literal(1)).where(alarm_notice.c.condition_id == alarm_condition.c.id, alarm_notice.c.sink == sink)
    return and_(
        or_(alarm_condition.c.cleared_at_ms.is_(None), alarm_condition.c.cleared_at_ms > now_ms - CLEARED_TOLD_MS),
        ~known.correlate(alarm_condition).exists(),
    )


def _event(told: str | None, cleared_at_ms: int | None) -> Event:
    if cleared_at_ms is not None:
        return Event.CLEARED
    return Event.RAISED if told is None else Event.REPEATED
