"""Registering a run: once per period, in order, with its period closed, whatever asks."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from streams.ledger.store import load_closed_through
from streams.payouts.domain import Known, NewRun, Refused, RunStatus, Trigger
from streams.payouts.tables import payout_run
from tests.unit.payouts.world import DAY_MS, P1, P2, TODAY, World


async def test_a_run_closes_its_period_and_every_earlier_one(world: World) -> None:
    """In one transaction, and says so in an event."""
    assert await world.runs.register(P2, Trigger.HTTP) == NewRun(closes=True)
    async with world.database.read() as connection:
        assert (await load_closed_through(connection)).closed_through == P2
    ((name, headers, body),) = await world.events()
    assert (name, headers["ce_source"]) == ("accounting.period-closed.v1", "payday/accounting")
    assert body == b'{"period":"%s"}' % str(P2).encode()


async def test_what_no_message_began_names_no_cause(world: World) -> None:
    """A schedule's fire time is the time of what follows; there is no message to name."""
    fired = DAY_MS * 20_000
    await world.runs.register(P1, Trigger.SCHEDULE, fired)
    ((_name, headers, _body),) = await world.events()
    assert headers["ce_time"] == "2024-10-04T00:00:00.000Z"
    assert not {"ce_causationid", "ce_correlationid", "traceparent"} & headers.keys()


async def test_asking_again_has_no_effect(world: World) -> None:
    """Whatever asks, and also once the run has moved on."""
    await world.runs.register(P1, Trigger.HTTP)
    assert await world.runs.register(P1, Trigger.SCHEDULE) == Known(RunStatus.REGISTERED)
    await world.reserver.run_until_idle()
    assert await world.runs.register(P1, Trigger.CLI) == Known(RunStatus.COMPLETED)
    (run,) = await world.rows(payout_run)
    assert run.trigger == Trigger.HTTP


@pytest.mark.parametrize("days_ahead", [0, 1, 400])
async def test_a_day_that_is_not_over_is_refused(world: World, days_ahead: int) -> None:
    """And nothing is closed."""
    outcome = await world.runs.register(TODAY + timedelta(days=days_ahead), Trigger.HTTP)
    assert isinstance(outcome, Refused)
    assert outcome.reason_code == "period-not-over"
    assert not await world.rows(payout_run)
    async with world.database.read() as connection:
        assert (await load_closed_through(connection)).closed_through is None


async def test_a_day_before_the_latest_run_is_refused(world: World) -> None:
    """The later run has paid it."""
    await world.runs.register(P2, Trigger.HTTP)
    outcome = await world.runs.register(P1, Trigger.HTTP)
    assert isinstance(outcome, Refused)
    assert outcome.reason_code == "superseded"


async def test_three_triggers_at_once_make_one_run(world: World) -> None:
    """From three processes: one of them registers it, the others hear that it is known."""
    others = [world.another(name) for name in "abc"]
    outcomes = await asyncio.gather(*(one.runs.register(P1, Trigger.HTTP) for one in others))
    assert sorted(type(one).__name__ for one in outcomes) == ["Known", "Known", "NewRun"]
    assert len(await world.rows(payout_run)) == 1
    assert len(await world.events("period-closed")) == 1
    for one in others:
        await one.database.close()


async def test_a_run_of_a_closed_period_closes_nothing(world: World) -> None:
    """It is registered all the same: what counts for its period is due."""
    await world.open_accounts(1)
    await world.runs.register(P1, Trigger.HTTP)
    await world.reserver.run_until_idle()
    assert len(await world.events("period-closed")) == 1
    async with world.database.write() as connection:
        from streams.ledger.store import close_through  # noqa: PLC0415

        await close_through(connection, P2)
    assert await world.runs.register(P2, Trigger.HTTP) == NewRun(closes=False)
    assert len(await world.events("period-closed")) == 1
