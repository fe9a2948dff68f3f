"""The built-in schedule: a cron expression in the business time zone asks for the run of the day that is over.

Every instance keeps it; that a run is registered once is what makes that harmless. A fire time that nobody was there
for is caught up at the start.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog
from cronsim import CronSim, CronSimError

from streams.payouts.domain import NewRun, Refused, Trigger
from streams.resilience.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date
    from zoneinfo import ZoneInfo

    from streams.payouts.runs import Runs

__all__ = ["Schedule", "ScheduleInvalid", "fire_after", "fire_before"]

log = structlog.get_logger(__name__)

LOOK_SECONDS = 30.0
"""The longest sleep: clocks are set, machines are suspended."""
MISSED_AFTER_SECONDS = 60.0
"""A fire time that is older than this when it is served was missed, and that is reported."""
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 1.0, 60.0


class ScheduleInvalid(ValueError):
    """It is no cron expression, or one that never fires."""


def fire_before(expression: str, zone: ZoneInfo, now: datetime) -> datetime:
    """The latest fire time at or before a moment.

    Raises:
        ScheduleInvalid: there is none.
    """
    return _first(expression, now.astimezone(zone) + timedelta(minutes=1), backwards=True, until=now)


def fire_after(expression: str, zone: ZoneInfo, now: datetime) -> datetime:
    """The first fire time after a moment.

    Raises:
        ScheduleInvalid: there is none.
    """
    return _first(expression, now.astimezone(zone), backwards=False, until=None)


def _first(expression: str, start: datetime, *, backwards: bool, until: datetime | None) -> datetime:
    try:
        for fire in CronSim(expression, start, reverse=backwards):
            if until is None or fire <= until:
                return fire.astimezone(UTC)
    except (CronSimError, StopIteration) as error:
        raise ScheduleInvalid(f"{expression!r} is no cron expression: {error}") from error
    raise ScheduleInvalid(f"{expression!r} never fires")


class Schedule:
    """Asks for runs at fire times.

    Args:
        runs: asked.
        expression: five fields: minute, hour, day of the month, month, day of the week.
        zone: the business time zone, in which the expression is read.
        clock: the time now, with a time zone.
    """

    def __init__(
        self,
        runs: Runs,
        expression: str,
        zone: ZoneInfo,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._runs = runs
        self._expression = expression
        self._zone = zone
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether the background task is alive."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Keep the schedule in the background until `stop`."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="payout-schedule")

    async def stop(self) -> None:
        """Stop at once; what is missed until the next start is caught up then."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def catch_up(self) -> datetime:
        """Serve the latest fire time, unless somebody has; when it was.

        Earlier ones need nothing of their own: a run pays everything up to its period.

        Raises:
            StorageError: the database cannot be used.
        """
        fired = fire_before(self._expression, self._zone, self._clock())
        await self._serve(fired)
        return fired

    async def _serve(self, fired: datetime) -> None:
        period = self._period_of(fired)
        outcome = await self._runs.register(period, Trigger.SCHEDULE, round(fired.timestamp() * 1000))
        match outcome:
            case NewRun() if (self._clock() - fired).total_seconds() > MISSED_AFTER_SECONDS:
                log.warning("a missed payout run is caught up", period=str(period), due_at=fired.isoformat())
            case NewRun():
                log.info("payout run registered on schedule", period=str(period))
            case Refused("superseded"):
                pass  # a later run has paid it: nothing is missing
            case Refused(reason_code, message):
                log.error("the schedule's payout run is refused", period=str(period), reason=reason_code, text=message)
            case _:
                pass

    def _period_of(self, fired: datetime) -> date:
        """The last day that is over at a fire time."""
        return fired.astimezone(self._zone).date() - timedelta(days=1)

    async def _run(self) -> None:
        backoff = Backoff(FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS)
        served: datetime | None = None
        while True:
            try:
                if served is None or fire_after(self._expression, self._zone, served) <= self._clock():
                    served = await self.catch_up()
            except Exception as error:  # the database is away or busy; the fire time is not lost
                log.warning("the payout schedule waits", error=str(error))
                await asyncio.sleep(backoff.next_seconds())
                continue
            backoff.reset()
            wait = (fire_after(self._expression, self._zone, served) - self._clock()).total_seconds()
            await asyncio.sleep(min(max(wait, 0.0), LOOK_SECONDS))
