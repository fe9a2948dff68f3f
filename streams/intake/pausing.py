"""Stops one subscription from reading, and lets it go on by itself.

Invariant: the consumer stays in its group and is asked on, each cause ends for itself, and reading goes on once none is
left. Nothing is spent meanwhile: what was not finished is read again.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from streams.intake.pauses import SEEN_EVERY_SECONDS, PauseCause, end_pause, see_pause
from streams.resilience.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streams.intake.assignment import Assignment
    from streams.intake.subscription import Limits
    from streams.storage.database import Database

__all__ = ["Pausing"]

log = structlog.get_logger(__name__)

BETWEEN_LOOKS_SECONDS = 1.0
"""At whether there is room again."""


class Pausing:
    """The pauses of one subscription in this process.

    Args:
        group: whose they are.
        holder: this process.
        database: must answer before anything goes on; also where pauses are written down, if it does.
        assignment: what is paused.
        limits: how long to wait between looks.
    """

    def __init__(self, group: str, holder: str, database: Database, assignment: Assignment, limits: Limits) -> None:
        self._group = group
        self._holder = holder
        self._database = database
        self._assignment = assignment
        self._limits = limits
        self._tasks: dict[tuple[PauseCause, str], asyncio.Task[None]] = {}
        self._kill_switch_waits = Backoff(
            limits.kill_switch.first_wait_seconds, limits.kill_switch.longest_wait_seconds
        )

    @property
    def stops_releasing(self) -> bool:
        """Whether parked records must wait too: everything but a lack of room concerns them."""
        return any(cause in {PauseCause.OUTAGE, PauseCause.KILL_SWITCH} for cause, _ in self._tasks)

    def outage(self, reason: str, probe: Callable[[], Awaitable[None]] | None = None, subject: str = "") -> None:
        """Wait until the database answers, and what `probe` asks."""
        self._begin(
            PauseCause.OUTAGE,
            subject,
            reason,
            Backoff(self._limits.outage_first_wait_seconds, self._limits.outage_max_wait_seconds),
            probe,
        )

    def kill_switch(self, reason: str) -> None:
        """Wait until it is time for a probe; each time longer."""
        self._begin(PauseCause.KILL_SWITCH, "", reason, self._kill_switch_waits, None)

    def kill_switch_closed(self) -> None:
        """Begin with the short waits again."""
        self._kill_switch_waits.reset()

    def store_full(self, reason: str, probe: Callable[[], Awaitable[None]]) -> None:
        """Wait until `probe` finds room."""
        self._begin(PauseCause.STORE_FULL, "", reason, Backoff(BETWEEN_LOOKS_SECONDS, BETWEEN_LOOKS_SECONDS), probe)

    def key_full(self, topic: str, partition: int, reason: str, probe: Callable[[], Awaitable[None]]) -> None:
        """Stop reading one partition until `probe` finds room."""
        self._assignment.pause_partition((topic, partition))
        waits = Backoff(BETWEEN_LOOKS_SECONDS, BETWEEN_LOOKS_SECONDS)
        self._begin(PauseCause.KEY_FULL, f"{topic}[{partition}]", reason, waits, probe, (topic, partition))

    async def close(self) -> None:
        """Stop waiting."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(
        self,
        cause: PauseCause,
        subject: str,
        reason: str,
        waits: Backoff,
        probe: Callable[[], Awaitable[None]] | None,
        partition: tuple[str, int] | None = None,
    ) -> None:
        if partition is None:
            self._assignment.pause()
        if (cause, subject) in self._tasks:
            return
        log.warning("intake paused", group=self._group, cause=cause.value, reason=reason)
        self._tasks[cause, subject] = asyncio.get_running_loop().create_task(
            self._resume_when_over(cause, subject, reason, waits, probe, partition)
        )

    async def _resume_when_over(
        self,
        cause: PauseCause,
        subject: str,
        reason: str,
        waits: Backoff,
        probe: Callable[[], Awaitable[None]] | None,
        partition: tuple[str, int] | None,
    ) -> None:
        see_at = 0.0
        seen = False
        while True:
            await asyncio.sleep(waits.next_seconds())
            try:
                await self._database.probe_write()
                if time.monotonic() >= see_at and (probe is not None or cause is PauseCause.KILL_SWITCH):
                    await self._see(cause, subject, reason)
                    see_at, seen = time.monotonic() + SEEN_EVERY_SECONDS, True
                if probe is not None:
                    await probe()
                if seen and cause is not PauseCause.KILL_SWITCH:
                    async with self._database.write() as connection:
                        await end_pause(connection, self._group, cause, self._holder)
                await self._assignment.verify()
                self._go_on((cause, subject), partition)
            except Exception as error:  # any reason not to go on is a reason to wait
                log.debug("still paused", group=self._group, cause=cause.value, error=str(error))
                continue
            log.warning("intake resumed", group=self._group, cause=cause.value)
            return

    def _go_on(self, ended: tuple[PauseCause, str], partition: tuple[str, int] | None) -> None:
        if partition is not None:
            self._assignment.resume_partition(partition)
        others = (cause for cause, subject in self._tasks if (cause, subject) != ended)
        if partition is None and all(cause is PauseCause.KEY_FULL for cause in others):
            self._assignment.resume()
        del self._tasks[ended]

    async def _see(self, cause: PauseCause, subject: str, reason: str) -> None:
        async with self._database.write() as connection:
            await see_pause(connection, self._group, cause, subject, self._holder, reason)
