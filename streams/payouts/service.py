"""The slice's workers as one thing that the app starts and stops."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from streams.payouts.announcer import Announcer
from streams.payouts.attempt import KeyLife
from streams.payouts.checkpoints import go_on
from streams.payouts.dispatch import Dispatcher
from streams.payouts.outcomes import Outcomes
from streams.payouts.reserve import Reserver
from streams.payouts.runs import Runs
from streams.payouts.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.ledger.domain import BusinessCalendar
    from streams.outbox.envelope import MessageCatalog
    from streams.payouts.bank import Bank
    from streams.payouts.checkpoints import Hook
    from streams.storage.database import Database

__all__ = ["Payouts"]

log = structlog.get_logger(__name__)

IDLE_ROUNDS_MAX = 10_000
"""Bounds `run_until_idle`."""


class Payouts:
    """Runs, the workers that carry them out, and the schedule.

    Args:
        database: of the app.
        catalog: describes the events.
        calendar: the deployment's.
        topic_prefix: stands before the events' topics.
        accounting_group: the full name of the group whose parked records a run reports.
        wake_relay: called when there is something to publish.
        bank: the provider; None: payouts are reserved and wait for an instance that has one.
        key_life_seconds: for how long the bank recognises an idempotency key.
        schedule: a cron expression; None: nothing is started by itself.
        chunk_accounts: accounts that are reserved in one transaction; by default what suits the database.
        passed: called at each checkpoint, for tests.
    """

    def __init__(
        self,
        database: Database,
        catalog: MessageCatalog,
        calendar: BusinessCalendar,
        *,
        topic_prefix: str,
        accounting_group: str,
        wake_relay: Callable[[], None] = lambda: None,
        bank: Bank | None = None,
        key_life_seconds: float = 86_400.0,
        schedule: str | None = None,
        chunk_accounts: int | None = None,
        passed: Hook = go_on,
    ) -> None:
        holder = f"{socket.gethostname()[:100]}/{os.getpid()}/{uuid4().hex[:8]}"
        announce = Announcer(catalog, topic_prefix)
        self.outcomes = Outcomes(calendar, announce)
        self.runs = Runs(database, calendar, announce, accounting_group=accounting_group, wake=self.wake)
        self._reserver = Reserver(
            database,
            self.runs,
            calendar,
            announce,
            holder=holder,
            wake_relay=wake_relay,
            wake_dispatcher=self._wake_dispatcher,
            chunk_accounts=chunk_accounts,
            passed=passed,
        )
        self._dispatcher = (
            None
            if bank is None
            else Dispatcher(
                database,
                bank,
                self.outcomes,
                KeyLife(key_life_seconds),
                holder=holder,
                wake_relay=wake_relay,
                wake_runs=self._reserver.wake,
                passed=passed,
            )
        )
        self._schedule = None if schedule is None else Schedule(self.runs, schedule, calendar.zone)
        self._wake_relay = wake_relay

    @property
    def workers(self) -> dict[str, Callable[[], bool]]:
        """Name -> whether it is alive."""
        found: dict[str, Callable[[], bool]] = {"payout-reserver": lambda: self._reserver.running}
        if (dispatcher := self._dispatcher) is not None:
            found["payout-dispatcher"] = lambda: dispatcher.running
        if (schedule := self._schedule) is not None:
            found["payout-schedule"] = lambda: schedule.running
        return found

    def wake(self) -> None:
        """Something was committed that the workers should look at: a run, a reissue, an event of either."""
        self._wake_relay()
        self._reserver.wake()
        self._wake_dispatcher()

    def _wake_dispatcher(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.wake()

    def start(self) -> None:
        """Work in the background until `stop`."""
        if self._dispatcher is None:
            log.info("payouts are reserved but not sent: no bank is configured")
        else:
            self._dispatcher.start()
        self._reserver.start()
        if self._schedule is not None:
            self._schedule.start()

    async def stop(self) -> None:
        """Begin nothing new, hear the bank out, give back what was claimed."""
        if self._schedule is not None:
            await self._schedule.stop()
        await self._reserver.stop()
        if self._dispatcher is not None:
            await self._dispatcher.stop()

    async def run_until_idle(self) -> None:
        """Do all that can be done now, without the background."""
        for _ in range(IDLE_ROUNDS_MAX):
            moved = await self._reserver.step()
            if self._dispatcher is not None:
                moved = await self._dispatcher.step() or moved
            if not moved:
                return
