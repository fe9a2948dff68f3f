"""Looks at the state in the database now and then, raises what is wrong and clears what no longer is.

Invariant: a condition with a check follows the state, whatever process saw it arise or died meanwhile. It is written
only when something changed, so that a quiet system leaves the database's write lock alone.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from streams.alarms.conditions import (
    bounded_detail,
    bounded_subject,
    clear_alarm,
    open_conditions,
    prune,
    raise_alarm,
)
from streams.alarms.kinds import DATABASE_DOWN
from streams.alarms.notices import Event
from streams.alarms.sinks import log_at_once
from streams.storage.clock import database_time_ms
from streams.storage.locks import lock_alone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.alarms.kinds import AlarmKind
    from streams.storage.database import Database

__all__ = ["Check", "Evaluator"]

log = structlog.get_logger(__name__)

CHECK_INTERVAL_SECONDS = 10.0
CHECK_TIMEOUT_SECONDS = 10.0
SEEN_EVERY_SECONDS = 60.0
"""How old the time of the last look may get in the row of an open condition."""
PRUNE_INTERVAL_SECONDS = 3600.0
CLEARED_KEPT_SECONDS = 30 * 86_400.0
EVALUATION_LOCK = "alarm-checks"
"""One evaluation writes at a time, so that none of them raises what a later look has already cleared."""


@dataclass(frozen=True, slots=True)
class Check:
    """How to find out about one kind of alarm from the database alone.

    Attributes:
        kind: all open conditions of this kind are this check's: nobody else raises or clears them.
        find: the subjects that are in trouble now, each with a detail for a person. Only reads, with SQL that belongs
            to the package whose tables it asks.
    """

    kind: AlarmKind
    find: Callable[[AsyncConnection], Awaitable[Mapping[str, str]]]


class Evaluator:
    """Runs the checks. Every process may: they agree, because they look at the same rows.

    Args:
        database: where everything stands.
        checks: one for each kind.
    """

    def __init__(self, database: Database, checks: Sequence[Check]) -> None:
        names = [check.kind.name for check in checks]
        if len(set(names)) != len(names):
            raise ValueError(f"a kind of alarm has two checks: {sorted(names)}")
        self._database = database
        self._checks = tuple(checks)
        self._database_down = False
        self._prune_at = time.monotonic()

    async def run(self) -> None:
        """Evaluate until cancelled."""
        while True:
            await self.evaluate()
            await asyncio.sleep(CHECK_INTERVAL_SECONDS)

    async def evaluate(self) -> None:
        """Look once. Never raises: a check that fails is logged, a database that is away is an alarm of its own."""
        failed: Exception | None = None
        for check in self._checks:
            try:
                async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                    await self._evaluate(check)
            except Exception as error:  # one check must not keep the others from being looked at
                failed = error
                log.warning("check failed", alarm=check.kind.name, error=_first_line(error))
        await self._judge_database(failed)
        if failed is None and time.monotonic() >= self._prune_at:
            self._prune_at = time.monotonic() + PRUNE_INTERVAL_SECONDS
            await self._prune()

    async def _evaluate(self, check: Check) -> None:
        async with self._database.read() as connection:
            found = _bounded(await check.find(connection))
            if not await self._differs(connection, check, found):
                return
        async with self._database.write() as connection:
            await lock_alone(connection, EVALUATION_LOCK)
            found = _bounded(await check.find(connection))  # again, under the lock: what counts is the state now
            known = {one.subject for one in await open_conditions(connection, check.kind.name)}
            for subject in sorted(known - found.keys()):
                await clear_alarm(connection, check.kind, subject)
            for subject, detail in sorted(found.items()):
                await raise_alarm(connection, check.kind, subject, detail)

    @staticmethod
    async def _differs(connection: AsyncConnection, check: Check, found: Mapping[str, str]) -> bool:
        """Whether what is written down is not what was found, or was seen too long ago."""
        known = await open_conditions(connection, check.kind.name)
        if {one.subject: one.detail for one in known} != found:
            return True
        oldest_ms = await database_time_ms(connection) - int(SEEN_EVERY_SECONDS * 1000)
        return any(one.last_seen_at_ms < oldest_ms for one in known)

    async def _judge_database(self, failed: Exception | None) -> None:
        """Tell the log at once when the database goes away and when it is back; nothing else could be told."""
        if failed is not None:
            try:
                async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                    await self._database.probe()
            except Exception as error:
                if not self._database_down:
                    self._database_down = True
                    log_at_once(DATABASE_DOWN, Event.RAISED, self._database.described, _first_line(error))
                return
        if self._database_down:
            self._database_down = False
            log_at_once(DATABASE_DOWN, Event.CLEARED, self._database.described, "the database answers again")

    async def _prune(self) -> None:
        try:
            async with self._database.write() as connection:
                await prune(connection, await database_time_ms(connection) - int(CLEARED_KEPT_SECONDS * 1000))
        except Exception as error:
            log.warning("old alarms cannot be forgotten yet", error=_first_line(error))


def _bounded(found: Mapping[str, str]) -> dict[str, str]:
    """As the table keeps them, so that they can be compared."""
    return {bounded_subject(subject): bounded_detail(detail) for subject, detail in found.items()}


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:500]
