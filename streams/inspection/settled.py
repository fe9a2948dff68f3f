"""Whether everything that was sent has had its effects.

Invariant: two identical looks in a row, each of the broker first and of the database after it. An event that was
published between the two halves of one look moves a log's end, so that the next look differs: when two agree, the
log's ends did not move from the first to the second, and in between everything was read, published and finished at one
and the same instant.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from streams.inspection.log_ends import BrokerUnreachable, LogEnds, LogEndsSource
from streams.inspection.readings import all_topics, choose, load_positions
from streams.intake.tables import parked
from streams.outbox.store import backlog
from streams.payouts.store import count_under_way
from streams.storage.clock import database_time_ms
from streams.tasks.tables import tasks_reassignment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.inspection.readings import Position, Reading
    from streams.storage.database import Database

__all__ = ["Look", "NotSettled", "SettledWatch"]

BETWEEN_LOOKS_SECONDS = 0.25


class NotSettled(Exception):
    """Something was still going on when the time was up; the text says what."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was still to be done in one look.

    Attributes:
        ends: where the logs ended.
        positions: where the groups were.
        unread: records per group that it has yet to read.
        retries_due: parked records whose next attempt is due.
        reassignments: that are not finished.
        payouts: runs and payouts that are about to move on by themselves.
        unsent: rows of the outbox.
        nobody_reads: records that nobody has begun to read; 0 once any group has made progress.
    """

    ends: LogEnds
    positions: tuple[Position, ...]
    unread: dict[str, int]
    retries_due: int
    reassignments: int
    payouts: int
    unsent: int
    nobody_reads: int

    @property
    def left(self) -> int:
        """How much there is to do, for a progress bar."""
        return (
            sum(self.unread.values())
            + self.retries_due
            + self.reassignments
            + self.payouts
            + self.unsent
            + self.nobody_reads
        )

    @property
    def summary(self) -> str:
        """One line: what is left."""
        parts = [f"{group} has {count} records to read" for group, count in self.unread.items()]
        for count, what in (
            (self.retries_due, "retries due"),
            (self.reassignments, "reassignments unfinished"),
            (self.payouts, "payout runs and payouts under way"),
            (self.unsent, "outbox rows unsent"),
        ):
            if count:
                parts.append(f"{count} {what}")
        if self.nobody_reads:
            parts.append(f"{self.nobody_reads} records and no group that has ever read any (is `payday run` running?)")
        return ", ".join(parts) or "nothing is left, but it has only just come to rest"


class SettledWatch:
    """Looks again and again until everything has settled.

    Args:
        database: of the app.
        broker: of the app.
        readings: the app's own groups.
        group_prefix: of the app.
        groups: the groups that count; none named: all that have ever made progress.
        pays: whether a bank is configured, so that payouts that are due do not stay so.
    """

    def __init__(
        self,
        database: Database,
        broker: LogEndsSource,
        readings: Sequence[Reading],
        *,
        group_prefix: str = "",
        groups: Sequence[str] = (),
        pays: bool = False,
    ) -> None:
        self._database = database
        self._broker = broker
        self._readings = tuple(readings)
        self._group_prefix = group_prefix
        self._groups = tuple(groups)
        self._pays = pays

    async def look(self) -> Look:
        """One look: the broker, then the database.

        Raises:
            BrokerUnreachable, StorageError: one of them cannot be asked.
            UnknownGroup: a group that was named does not exist.
        """
        async with self._database.read() as connection:
            before = await load_positions(connection)
        chosen = choose(self._readings, before, self._groups, self._group_prefix)
        judged = chosen or self._readings
        ends = await self._broker.read(all_topics(*judged), judged)
        async with self._database.read() as connection:
            return await _look(connection, ends, chosen, judged, pays=self._pays)

    async def wait(
        self,
        timeout_seconds: float,
        on_look: Callable[[Look], None] = lambda _look: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> Look:
        """Return once everything has settled.

        A broker that answered once and is away now is an outage: waited for, as long as there is time.

        Raises:
            NotSettled: the time was up.
            BrokerUnreachable, StorageError, UnknownGroup: at the first look.
        """
        deadline = time.monotonic() + timeout_seconds
        last = await self.look()
        on_look(last)
        trouble = ""
        while time.monotonic() < deadline:
            await sleep(min(BETWEEN_LOOKS_SECONDS, max(0.0, deadline - time.monotonic())))
            try:
                now = await self.look()
            except BrokerUnreachable as error:
                trouble = f"; {error}"
                continue
            trouble = ""
            on_look(now)
            if now.left == 0 and now == last:
                return now
            last = now
        raise NotSettled(f"not settled after {timeout_seconds:g} s: {last.summary}{trouble}")


async def _look(
    connection: AsyncConnection, ends: LogEnds, chosen: Sequence[Reading], judged: Sequence[Reading], *, pays: bool
) -> Look:
    positions = await load_positions(connection)
    unread: dict[str, int] = {}
    for (group, _topic, _partition), count in ends.unread(judged, positions).items():
        unread[group] = unread.get(group, 0) + count
    now_ms = await database_time_ms(connection)
    due = select(func.count()).where(parked.c.resolved_at_ms.is_(None), parked.c.next_attempt_at_ms <= now_ms)
    unfinished = (
        select(func.count()).select_from(tasks_reassignment).where(tasks_reassignment.c.finished_at_ms.is_(None))
    )
    return Look(
        ends,
        tuple(position for position in positions if any(position.group == one.group for one in judged)),
        unread if chosen else {},
        (await connection.execute(due)).scalar_one(),
        (await connection.execute(unfinished)).scalar_one(),
        await count_under_way(connection, now_ms, pays=pays),
        (await backlog(connection)).unsent,
        0 if chosen else max(unread.values(), default=0),
    )
