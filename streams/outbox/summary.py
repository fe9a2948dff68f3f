"""What the outbox and its relays look like from outside: for commands and for health."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import func, select, update

from streams.outbox.lanes import lane_holders
from streams.outbox.tables import outbox, relay_instance
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = [
    "Choice",
    "LaneSummary",
    "ListedRow",
    "TopicSummary",
    "breaker_state",
    "by_lane",
    "by_topic",
    "list_unsent",
    "retry_now",
]

_UNSENT = outbox.c.sent_at_ms.is_(None)
_STATES = ("closed", "half-open", "open")
_LISTED = ("id", "topic", "key", "lane", "type", "message_id", "created_at_ms", "attempts", "next_attempt_at_ms")


class TopicSummary(NamedTuple):
    """What waits for one topic; `held` of them were refused and wait for their next attempt."""

    topic: str
    unsent: int
    oldest_created_at_ms: int
    held: int
    expired: int
    next_attempt_at_ms: int | None


class LaneSummary(NamedTuple):
    """What waits in one lane, and which relay publishes it (None: nobody)."""

    lane: int
    unsent: int
    holder: str | None


class ListedRow(NamedTuple):
    """An unsent row, without its value."""

    id: int
    topic: str
    key: bytes | None
    lane: int
    type: str
    message_id: str
    created_at_ms: int
    attempts: int
    next_attempt_at_ms: int | None
    expired_at_ms: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Choice:
    """Which unsent rows: of a topic, of a key, only refused ones. None: any."""

    topic: str | None = None
    key: bytes | None = None
    held_only: bool = False

    def conditions(self) -> list[ColumnElement[bool]]:
        """For a statement over the outbox."""
        found: list[ColumnElement[bool]] = [_UNSENT]
        if self.topic is not None:
            found.append(outbox.c.topic == self.topic)
        if self.key is not None:
            found.append(outbox.c.key == self.key)
        if self.held_only:
            found.append(outbox.c.next_attempt_at_ms.is_not(None))
        return found


async def breaker_state(connection: AsyncConnection) -> str | None:
    """The worst of the living relays: closed, half-open or open; None: none lives."""
    now_ms = await database_time_ms(connection)
    rows = await connection.execute(
        select(relay_instance.c.breaker).where(relay_instance.c.expires_at_ms > now_ms).distinct()
    )
    return max((row[0] for row in rows), key=_STATES.index, default=None)


async def by_topic(connection: AsyncConnection) -> list[TopicSummary]:
    """What waits, topic by topic. Goes over all unsent rows."""
    rows = await connection.execute(
        select(
            outbox.c.topic,
            func.count(),
            func.min(outbox.c.created_at_ms),
            func.count(outbox.c.next_attempt_at_ms),
            func.count(outbox.c.expired_at_ms),
            func.min(outbox.c.next_attempt_at_ms),
        )
        .where(_UNSENT)
        .group_by(outbox.c.topic)
        .order_by(outbox.c.topic)
    )
    return [TopicSummary(*row) for row in rows]


async def by_lane(connection: AsyncConnection) -> list[LaneSummary]:
    """What waits, lane by lane, and who publishes it."""
    rows = await connection.execute(
        select(outbox.c.lane, func.count()).where(_UNSENT).group_by(outbox.c.lane).order_by(outbox.c.lane)
    )
    counts = {row[0]: row[1] for row in rows}
    holders = await lane_holders(connection)
    return [LaneSummary(lane, counts.get(lane, 0), holder) for lane, holder in sorted(holders.items())]


async def list_unsent(connection: AsyncConnection, choice: Choice, at_most: int) -> Sequence[ListedRow]:
    """Unsent rows in the order in which they were written."""
    rows = await connection.execute(
        select(*(outbox.c[name] for name in _LISTED), outbox.c.expired_at_ms, outbox.c.error)
        .where(*choice.conditions())
        .order_by(outbox.c.id)
        .limit(at_most)
    )
    return [ListedRow(*row) for row in rows]


async def retry_now(connection: AsyncConnection, choice: Choice, *, dry_run: bool) -> int:
    """Set the next attempt of refused rows to now; how many there are. Their places stay."""
    now_ms = await database_time_ms(connection)
    refused = [*choice.conditions(), outbox.c.next_attempt_at_ms > now_ms]
    if dry_run:
        counted = select(func.count()).select_from(outbox).where(*refused)
        return int((await connection.execute(counted)).scalar_one())
    changed = await connection.execute(update(outbox).where(*refused).values(next_attempt_at_ms=now_ms))
    return changed.rowcount
