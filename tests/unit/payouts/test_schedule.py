"""The schedule: fire times in the business zone, the day that is over, and what was missed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from streams.payouts.domain import Trigger
from streams.payouts.schedule import Schedule, ScheduleInvalid, fire_after, fire_before
from streams.payouts.tables import payout_run
from tests.unit.payouts.world import P1, P2, TODAY, World

if TYPE_CHECKING:
    from datetime import date

BERLIN = ZoneInfo("Europe/Berlin")
ZONE = ZoneInfo("UTC")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "now", "before", "after"),
    [
        ("30 0 * * *", "2026-11-22T10:00", "2026-11-21T23:30", "2026-11-22T23:30"),
        ("30 0 * * *", "2026-11-21T23:30", "2026-11-21T23:30", "2026-11-22T23:30"),
        ("30 0 * * *", "2026-07-22T10:00", "2026-07-21T22:30", "2026-07-22T22:30"),
        ("0 6 * * 1", "2026-11-22T10:00", "2026-11-16T05:00", "2026-11-23T05:00"),
    ],
)
def test_fire_times_are_read_in_the_business_zone(expression: str, now: str, before: str, after: str) -> None:
    """Half past midnight in Berlin is another time in UTC in summer than in winter."""
    assert fire_before(expression, BERLIN, at(now)) == at(before)
    assert fire_after(expression, BERLIN, at(now)) == at(after)


@pytest.mark.parametrize("expression", ["", "every night", "99 0 * * *", "0 0 31 2 *"])
def test_what_never_fires_is_refused(expression: str) -> None:
    """With a text that names it."""
    with pytest.raises(ScheduleInvalid, match=r"cron expression|never fires"):
        fire_after(expression, ZONE, at("2026-11-22T10:00"))


def schedule(world: World, now: datetime, expression: str = "30 0 * * *") -> Schedule:
    return Schedule(world.runs, expression, ZONE, clock=lambda: now)


def morning_after(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 8, tzinfo=UTC) + timedelta(days=1)


async def test_a_fire_time_asks_for_the_day_before(world: World) -> None:
    """The run is dated by the fire time, however late it is registered."""
    await schedule(world, morning_after(P2)).catch_up()
    (run,) = await world.rows(payout_run)
    assert (run.period, run.trigger) == (str(P2), Trigger.SCHEDULE)
    assert run.time_ms == (morning_after(P2) - timedelta(hours=7, minutes=30)).timestamp() * 1000


async def test_several_missed_fire_times_need_one_run(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The latest pays for all; that it was missed is reported."""
    await world.open_accounts(2, day=P1 - timedelta(days=3))
    await schedule(world, morning_after(P2)).catch_up()
    assert [run.period for run in await world.rows(payout_run)] == [str(P2)]
    assert "a missed payout run is caught up" in capsys.readouterr().out


async def test_every_instance_may_keep_the_schedule(world: World) -> None:
    """A fire time that another one has served, or a later run has made needless, leaves nothing to do."""
    await schedule(world, morning_after(P1)).catch_up()
    await schedule(world, morning_after(P1)).catch_up()
    await schedule(world, morning_after(P2)).catch_up()
    await schedule(world, morning_after(P1)).catch_up()
    assert [run.period for run in await world.rows(payout_run)] == [str(P1), str(P2)]


async def test_an_instance_whose_clock_is_a_day_ahead_pays_no_unfinished_day(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether a day is over is the database's time."""
    await schedule(world, morning_after(TODAY)).catch_up()
    assert not await world.rows(payout_run)
    assert "period-not-over" in capsys.readouterr().out
