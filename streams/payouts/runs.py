"""Registering runs, and seeing them from one status to the next.

Invariant: a run is registered at most once per period, in increasing order, in the transaction that closes its period,
and moves on only when everything before it is done; each step may be tried by any number of instances.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import select, update

from contracts.accounting import PeriodClosed
from contracts.payouts import RunCompleted
from streams.ledger.store import close_through, load_closed_through, take_book_alone
from streams.outbox.envelope import Origin
from streams.outbox.store import append
from streams.payouts import shards
from streams.payouts.domain import (
    Known,
    NewRun,
    Refused,
    Run,
    RunStatus,
    Trigger,
    judge_run,
    period_closed_id,
    run_completed_id,
)
from streams.payouts.store import (
    has_open_payouts,
    insert_run,
    latest_period,
    load_run,
    load_runs,
    report_of,
    run_counts,
)
from streams.payouts.tables import payout_run
from streams.resilience.backoff import Backoff
from streams.storage.clock import database_time_ms
from streams.storage.errors import is_contention

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.ledger.domain import BusinessCalendar
    from streams.payouts.announcer import Announcer
    from streams.payouts.store import RunReport
    from streams.storage.database import Database

__all__ = ["Runs"]

log = structlog.get_logger(__name__)

REGISTER_SECONDS = 20.0
"""How long registering is redone while postings keep it from closing the period."""
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.05, 1.0


class Runs:
    """The runs of a deployment.

    Args:
        database: holds them.
        calendar: the deployment's.
        announce: makes the events.
        accounting_group: the full name of the group whose parked records a run reports.
        wake: called once something new is committed.
    """

    def __init__(
        self,
        database: Database,
        calendar: BusinessCalendar,
        announce: Announcer,
        *,
        accounting_group: str,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._calendar = calendar
        self._announce = announce
        self._accounting_group = accounting_group
        self._wake = wake

    async def register(self, period: date, trigger: Trigger, time_ms: int | None = None) -> NewRun | Known | Refused:
        """Ask for the run of a period, without a message: a request, a schedule or a person.

        Asking twice, from anywhere, is harmless. Messages take the same decision, in `domain.start_run`.

        Args:
            period: to pay out.
            trigger: what asks.
            time_ms: when that was; by default now.

        Raises:
            DatabaseBusy: postings kept the period from being closed for `REGISTER_SECONDS`.
            StorageError: the database cannot be used.
        """
        backoff = Backoff(FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS)
        deadline = time.monotonic() + REGISTER_SECONDS
        while True:
            try:
                async with self._database.write() as connection:
                    outcome = await self._register(connection, period, trigger, time_ms)
            except Exception as error:
                if not is_contention(error) or time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(backoff.next_seconds())
            else:
                self._wake()
                return outcome

    async def _register(
        self, connection: AsyncConnection, period: date, trigger: Trigger, time_ms: int | None
    ) -> NewRun | Known | Refused:
        """Everything is read after the book was taken: what committed while we waited must be seen."""
        await take_book_alone(connection)
        book = await load_closed_through(connection)
        existing, latest = await load_run(connection, period), await latest_period(connection)
        now_ms = await database_time_ms(connection)
        outcome = judge_run(self._calendar, period, existing, latest, book, now_ms)
        if not isinstance(outcome, NewRun):
            return outcome
        origin = Origin(now_ms if time_ms is None else time_ms)
        if outcome.closes:
            await close_through(connection, period)
            closed = self._announce(PeriodClosed(period=period), origin, period_closed_id(self._calendar, period))
            await append(connection, [closed], now_ms)
        await insert_run(connection, Run(period, RunStatus.REGISTERED, trigger, origin), self._accounting_group, now_ms)
        return outcome

    async def report(self, period: date) -> RunReport | None:
        """How far a run has come."""
        async with self._database.read() as connection:
            return await report_of(connection, period)

    async def latest(self) -> RunReport | None:
        """The latest run."""
        async with self._database.read() as connection:
            period = await latest_period(connection)
            return None if period is None else await report_of(connection, period)

    # --- from status to status ----------------------------------------------------------------------------------

    async def advance(self) -> bool:
        """Move runs on whose present step is done; whether any moved.

        Looks first without a lock, then again in the transaction that moves the run.
        """
        async with self._database.read() as connection:
            unfinished = await load_runs(connection, payout_run.c.status != RunStatus.COMPLETED)
            bounds = None
            if unfinished and (first := _to_reserve(unfinished)) and first.status is RunStatus.REGISTERED:
                bounds = await shards.cut(connection)
            ready = [run for run in unfinished if await self._is_done(connection, run, unfinished)]
        for run in ready:
            async with self._database.write() as connection:
                await self._move(connection, run, bounds)
        if ready:
            self._wake()
        return bool(ready)

    async def _is_done(self, connection: AsyncConnection, run: Run, unfinished: list[Run]) -> bool:
        match run.status:
            case RunStatus.REGISTERED:
                return run is _to_reserve(unfinished)
            case RunStatus.RESERVING:
                return await shards.all_finished(connection, run.period)
            case RunStatus.DISPATCHING:
                return not await has_open_payouts(connection, run.period)
            case RunStatus.COMPLETED:
                return False

    async def _move(self, connection: AsyncConnection, seen: Run, bounds: list[shards.Bounds] | None) -> None:
        """One step, unless another instance was faster."""
        locked = await connection.execute(
            select(payout_run.c.status).where(payout_run.c.period == seen.period.isoformat()).with_for_update()
        )
        if locked.scalar_one() != seen.status:
            return
        now_ms = await database_time_ms(connection)
        match seen.status:
            case RunStatus.REGISTERED:
                assert bounds is not None, "the run that is next to reserve was cut into shards"
                await shards.insert(connection, seen.period, bounds)
                await _set(connection, seen.period, status=RunStatus.RESERVING)
            case RunStatus.RESERVING:
                await _set(connection, seen.period, status=RunStatus.DISPATCHING, reserved_at_ms=now_ms)
            case RunStatus.DISPATCHING:
                if not await has_open_payouts(connection, seen.period):
                    await self._complete(connection, seen, now_ms)
            case RunStatus.COMPLETED:
                pass

    async def _complete(self, connection: AsyncConnection, run: Run, now_ms: int) -> None:
        counts = await run_counts(connection, run.period)
        await _set(
            connection,
            run.period,
            status=RunStatus.COMPLETED,
            completed_at_ms=now_ms,
            paid_count=counts.paid_count,
            failed_count=counts.failed_count,
            total_minor=counts.total_minor,
        )
        completed = RunCompleted(
            period=run.period,
            paid_count=counts.paid_count,
            failed_count=counts.failed_count,
            total_minor=counts.total_minor,
            currency=self._calendar.currency,
        )
        message_id = run_completed_id(self._calendar, run.period)
        await append(connection, [self._announce(completed, run.origin, message_id)], now_ms)
        log.info("payout run completed", period=str(run.period), **counts._asdict())


def _to_reserve(unfinished: list[Run]) -> Run | None:
    """The earliest run that has not reserved: the later ones wait for it."""
    waiting = [run for run in unfinished if run.status in {RunStatus.REGISTERED, RunStatus.RESERVING}]
    return waiting[0] if waiting else None


async def _set(connection: AsyncConnection, period: date, **values: object) -> None:
    await connection.execute(update(payout_run).where(payout_run.c.period == period.isoformat()).values(**values))
