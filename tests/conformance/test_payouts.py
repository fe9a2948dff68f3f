"""Payouts on PostgreSQL: the unit tests once more, and what only parallel transactions can show."""

from __future__ import annotations

import asyncio

import pytest

from streams.payouts.domain import NewRun, Trigger
from tests.conformance.test_outages import until_waiting
from tests.unit.inspection.test_payout_audit import day, test_a_check_goes_red, test_a_day_of_every_outcome_passes
from tests.unit.payouts import test_dispatch, test_reconcile, test_register, test_reserve
from tests.unit.payouts.conftest import world
from tests.unit.payouts.scripted_bank import ScriptedBank
from tests.unit.payouts.test_reconcile import bank, paid
from tests.unit.payouts.world import P1, P2, World, worker

DATABASES = ("postgresql",)
ONLY_SQLITE = {"test_a_restored_database_gives_the_same_ids", "test_every_cent_is_in_a_balance_or_in_a_payout"}
"""They copy the database's file."""
__all__ = ["bank", "day", "paid", "test_a_check_goes_red", "test_a_day_of_every_outcome_passes", "world"]

for module in (test_register, test_reserve, test_dispatch, test_reconcile):
    globals().update(
        {
            f"{name}_{module.__name__.rpartition('_')[2]}": test
            for name, test in vars(module).items()
            if name.startswith("test_") and callable(test) and name not in ONLY_SQLITE
        }
    )


async def test_a_posting_that_a_chunk_waits_for_is_not_paid(world: World) -> None:
    """It commits while the chunk waits for its account: the balance has it, and so must the sum of later postings."""
    await world.open_accounts(3)
    poster = world.another()
    await world.runs.register(P1, Trigger.CLI)
    await world.runs.advance()
    posted, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        posted.set()
        await go_on.wait()

    posting = asyncio.create_task(poster.earn(1, 700, P2, before_commit=hold))
    await posted.wait()
    reserving = asyncio.create_task(world.reserver.run_until_idle())
    await until_waiting(poster.database)
    go_on.set()
    await asyncio.gather(posting, reserving)
    assert {row.worker_id: row.amount_minor for row in await world.payouts()} == {worker(n): 1000 for n in range(3)}
    assert (await world.balances())[worker(1)] == 700
    await world.assert_sound()
    await poster.database.close()


async def test_a_close_waits_for_postings_under_way(world: World) -> None:
    """What was posted into the period before it was closed is paid by its run."""
    await world.open_accounts(1)
    poster = world.another()
    posted, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        posted.set()
        await go_on.wait()

    posting = asyncio.create_task(poster.earn(0, 700, P1, before_commit=hold))
    await posted.wait()
    registering = asyncio.create_task(world.runs.register(P1, Trigger.HTTP))
    await until_waiting(poster.database)
    assert not registering.done()
    go_on.set()
    await posting
    assert isinstance(await registering, NewRun)
    await world.reserver.run_until_idle()
    assert [row.amount_minor for row in await world.payouts()] == [1700]
    await world.assert_sound()
    await poster.database.close()


async def test_several_workers_reserve_at_the_same_time(world: World) -> None:
    """Each its own stretch; on PostgreSQL nobody waits for the others."""
    await world.open_accounts(64)
    await world.runs.register(P1, Trigger.CLI)
    await world.runs.advance()
    others = [world.another(name) for name in ("two", "three")]
    claimed = [await one.reserver.claim() for one in (world, *others)]
    assert len({one.shard for one in claimed if one is not None}) == 3
    await asyncio.gather(*(test_reserve._until_reserved(one) for one in (world, *others)))
    assert [row.worker_id for row in await world.payouts()] == [worker(number) for number in range(64)]
    await world.assert_sound()
    for one in others:
        await one.database.close()


@pytest.mark.parametrize("at_once", [8])
async def test_reversals_on_the_same_accounts_as_a_chunk_lose_nothing(world: World, at_once: int) -> None:
    """A run reserves while the bank refuses payouts of the run before: both change the same balances."""
    await world.open_accounts(40, 700)
    await world.pay_out(P1)
    for number in range(40):
        await world.earn(number, 100, P2)
    await world.runs.register(P2, Trigger.CLI)
    other = world.another()
    refusing = ScriptedBank(refused={worker(number): "closed" for number in range(40)})
    sending = test_dispatch.dispatcher(other, refusing)
    sending._calls_at_once = at_once
    await asyncio.gather(world.reserver.run_until_idle(), sending.run_until_idle())
    amounts = [row.amount_minor for row in await world.payouts() if row.period == str(P2)]
    assert amounts == [100] * 40
    await world.assert_sound()
    await other.database.close()
