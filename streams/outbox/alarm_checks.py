"""What the outbox and its relays say that somebody must be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from streams.alarms.evaluator import Check
from streams.alarms.kinds import AlarmKind, Severity
from streams.outbox.envelope import format_time
from streams.outbox.store import oldest_by_topic
from streams.outbox.tables import relay_instance
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.outbox.capacity import Capacity

__all__ = ["KINDS", "outbox_checks"]

LATE_SECONDS = 900.0
"""An event that waits for so long is worth a look: no broker is restarted for that long."""
BREAKER_OPEN_SECONDS = 60.0

OUTBOX_LATE = AlarmKind(
    "outbox-late",
    Severity.WARNING,
    f"Events have been waiting to be published for more than {LATE_SECONDS:.0f} s.",
    "events-are-not-published",
)
OUTBOX_EXPIRED = AlarmKind(
    "outbox-expired",
    Severity.CRITICAL,
    "Events were not sent in time. They keep their places and are tried on.",
    "events-are-not-published",
)
OUTBOX_FILLING = AlarmKind(
    "outbox-filling",
    Severity.WARNING,
    "The outbox is filling up; when it is full, intake pauses.",
    "the-outbox-is-filling-or-full",
)
OUTBOX_FULL = AlarmKind(
    "outbox-full",
    Severity.CRITICAL,
    "The outbox is full: intake is paused, and direct publishers are refused.",
    "the-outbox-is-filling-or-full",
)
BREAKER_OPEN = AlarmKind(
    "relay-breaker-open",
    Severity.CRITICAL,
    f"A relay has had no acknowledgement from Kafka for more than {BREAKER_OPEN_SECONDS:.0f} s.",
    "the-relays-breaker-is-open",
)
KINDS = (OUTBOX_LATE, OUTBOX_EXPIRED, OUTBOX_FILLING, OUTBOX_FULL, BREAKER_OPEN)


def outbox_checks(capacity: Capacity, expire_seconds: float) -> tuple[Check, ...]:
    """What to look at.

    Args:
        capacity: of this outbox.
        expire_seconds: after which an unsent event has expired.
    """

    async def late(connection: AsyncConnection) -> dict[str, str]:
        return await _older_than(connection, LATE_SECONDS)

    async def expired(connection: AsyncConnection) -> dict[str, str]:
        return await _older_than(connection, expire_seconds)

    async def filling(connection: AsyncConnection) -> dict[str, str]:
        seen = await capacity.seen_by(connection)
        if seen.share < capacity.limits.warning_share or capacity.full_reason() is not None:
            return {}
        return {"outbox": f"{int(seen.share * 100)} % full"}

    async def full(connection: AsyncConnection) -> dict[str, str]:
        await capacity.seen_by(connection)
        reason = capacity.full_reason()
        return {} if reason is None else {"outbox": "intake is paused until it has emptied"}

    return (
        Check(OUTBOX_LATE, late),
        Check(OUTBOX_EXPIRED, expired),
        Check(OUTBOX_FILLING, filling),
        Check(OUTBOX_FULL, full),
        Check(BREAKER_OPEN, _breaker_open),
    )


async def _older_than(connection: AsyncConnection, seconds: float) -> dict[str, str]:
    before_ms = await database_time_ms(connection) - round(seconds * 1000)
    oldest = await oldest_by_topic(connection)
    return {
        topic: f"the oldest is of {format_time(created_at_ms)}"
        for topic, created_at_ms in oldest.items()
        if created_at_ms < before_ms
    }


async def _breaker_open(connection: AsyncConnection) -> dict[str, str]:
    now_ms = await database_time_ms(connection)
    rows = await connection.execute(
        select(relay_instance.c.instance, relay_instance.c.breaker_since_ms, relay_instance.c.breaker_error).where(
            relay_instance.c.breaker != "closed",
            relay_instance.c.breaker_since_ms < now_ms - round(BREAKER_OPEN_SECONDS * 1000),
            relay_instance.c.expires_at_ms > now_ms,
        )
    )
    # to the second: it is worked out anew with each renewal, and an alarm is written when its text changes
    return {
        instance: f"since {format_time(since_ms // 1000 * 1000)}: {error or 'no acknowledgement'}"
        for instance, since_ms, error in rows
    }
