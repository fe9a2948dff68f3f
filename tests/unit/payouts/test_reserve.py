"""Reserving: each account exactly its closing balance, once, whoever works on it, freezes, dies or posts meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from streams.ledger.tables import ledger_account, ledger_transfer
from streams.payouts.domain import RunStatus, Trigger, payout_id_of
from streams.payouts.shards import ShardLost, cut
from streams.payouts.tables import payout, payout_set_aside, payout_shard
from streams.storage.database import Database
from tests.unit.payouts.world import P1, P2, TODAY, World, worker

if TYPE_CHECKING:
    from pathlib import Path


async def test_what_is_owed_is_taken_and_told(world: World) -> None:
    """The posting counts for the period that it pays, against clearing; two events tell of it."""
    await world.open_accounts(1, 1234)
    await world.pay_out()
    (one,) = await world.payouts()
    assert (one.payout_id, one.amount_minor, one.state) == (payout_id_of(P1, worker(0)), 1234, "requested")
    (posting,) = [row for row in await world.rows(ledger_transfer) if row.kind == "payout"]
    assert (posting.debit_account, posting.credit_account) == (f"worker:{worker(0)}", "house:clearing")
    assert (posting.period, posting.business_date) == (str(P1), str(TODAY))
    assert posting.source_ref == f"payout:{one.payout_id}:reserve"
    assert [name for name, _headers, _body in await world.events()] == [
        "accounting.period-closed.v1",
        "payouts.payout-requested.v1",
        "accounting.transaction-applied.v1",
    ]
    applied = json.loads((await world.events("transaction-applied"))[0][2])
    assert (applied["amount_minor"], applied["balance_after_minor"], applied["payout_id"]) == (-1234, 0, one.payout_id)
    await world.assert_sound()


async def test_only_what_counts_for_the_period_is_taken(world: World) -> None:
    """What was earned a day later stays; nobody who is owed nothing is paid."""
    await world.earn(0, 1000, P1)
    await world.earn(0, 70, P2)
    await world.earn(1, -500, P1)
    await world.earn(2, 300, P1)
    await world.earn(2, -300, P1)
    await world.earn(3, 900, P2)
    await world.earn(4, 400, P1)
    await world.earn(4, -1000, P2)
    await world.pay_out(P1)
    paid = {row.worker_id: row.amount_minor for row in await world.payouts()}
    assert paid == {worker(0): 1000, worker(4): 400}
    assert await world.balances() == {worker(0): 70, worker(1): -500, worker(2): 0, worker(3): 900, worker(4): -1000}
    await world.assert_sound()


async def test_a_later_run_pays_what_came_after_the_first(world: World) -> None:
    """Late postings included, a negative rest first repaid; the earlier payout is not paid again."""
    await world.earn(0, 1000, P1)
    await world.pay_out(P1)
    await world.earn(0, 250, P1)  # late: its day is closed
    await world.earn(1, -100, P2)
    await world.pay_out(P2)
    assert [(row.period, row.amount_minor) for row in await world.payouts()] == [(str(P1), 1000), (str(P2), 250)]
    await world.assert_sound()


async def test_a_run_waits_for_the_one_before_it(world: World) -> None:
    """Both are registered; the second is cut into shards only when the first has reserved."""
    await world.open_accounts(3)
    await world.runs.register(P1, Trigger.CLI)
    await world.runs.register(P2, Trigger.CLI)
    await world.runs.advance()
    reports = [await world.runs.report(period) for period in (P1, P2)]
    assert [one.status for one in reports if one] == [RunStatus.RESERVING, RunStatus.REGISTERED]
    await world.reserver.run_until_idle()
    reports = [await world.runs.report(period) for period in (P1, P2)]
    assert [one.status for one in reports if one] == [RunStatus.DISPATCHING, RunStatus.COMPLETED]
    assert {row.period for row in await world.payouts()} == {str(P1)}


async def test_a_run_without_accounts_is_completed(world: World) -> None:
    """Nothing to do is done at once, and told once."""
    await world.pay_out()
    report = await world.runs.report(P1)
    assert report is not None
    assert (report.status, report.accounts_total, report.total_minor) == (RunStatus.COMPLETED, 0, 0)
    assert len(await world.events("run-completed")) == 1


@pytest.mark.parametrize("accounts", [0, 1, 5, 16, 100])
async def test_shards_cover_every_id_once(world: World, accounts: int) -> None:
    """Also ids that sort before and after all that are there."""
    if accounts:
        await world.open_accounts(accounts)
    async with world.database.read() as connection:
        bounds = await cut(connection)
    assert bounds[0].after == ""
    assert bounds[-1].up_to is None
    assert [one.up_to for one in bounds[:-1]] == [one.after for one in bounds[1:]]
    assert sum(one.accounts for one in bounds) == accounts


async def test_two_workers_pay_each_account_once(world: World) -> None:
    """Two processes work on one run until both have nothing left."""
    world = World(world.database, chunk_accounts=7)
    await world.open_accounts(200)
    other = world.another()
    await world.runs.register(P1, Trigger.CLI)
    await asyncio.gather(_until_reserved(world), _until_reserved(other))
    paid = [row.worker_id for row in await world.payouts()]
    assert paid == [worker(number) for number in range(200)]
    assert set((await world.balances()).values()) == {0}
    await world.assert_sound()
    await other.database.close()


async def _until_reserved(world: World) -> None:
    while (report := await world.runs.report(P1)) is None or report.status not in {
        RunStatus.DISPATCHING,
        RunStatus.COMPLETED,
    }:
        await world.reserver.step()
        await asyncio.sleep(0)


async def _expire_leases(world: World) -> None:
    async with world.database.write() as connection:
        await connection.execute(update(payout_shard).values(lease_expires_at_ms=0))


async def test_a_frozen_worker_is_fenced(world: World) -> None:
    """It wakes up after another has taken its shard over: its chunk leaves no trace."""
    await world.open_accounts(5)
    frozen, other = world, world.another()
    await world.runs.register(P1, Trigger.CLI)
    await world.runs.advance()
    shard = await frozen.reserver.claim()
    assert shard is not None
    await _expire_leases(world)
    taken = await other.reserver.claim()
    assert taken is not None
    assert (taken.shard, taken.fence) == (shard.shard, shard.fence + 1)
    before = await world.rows(payout)
    with pytest.raises(ShardLost):
        await frozen.reserver.work_on(shard)
    assert await world.rows(payout) == before
    while await other.reserver.work_on(taken):
        pass
    with pytest.raises(ShardLost):
        await frozen.reserver.work_on(shard)
    await _until_reserved(other)
    assert len(await world.payouts()) == 5
    await other.database.close()


async def test_another_worker_goes_on_where_one_died(world: World) -> None:
    """After some of its chunks, with its lease still running out."""
    world = World(world.database, chunk_accounts=2)
    await world.open_accounts(50)
    await world.runs.register(P1, Trigger.CLI)
    await world.runs.advance()
    shard = await world.reserver.claim()
    assert shard is not None
    await world.reserver.work_on(shard)
    assert len(await world.payouts()) == 2
    other = world.another()
    if world.database.is_sqlite:  # one worker at a time
        assert await other.reserver.claim() is None
    await _expire_leases(world)
    await _until_reserved(other)
    assert len(await world.payouts()) == 50
    await world.assert_sound()
    await other.database.close()


async def test_a_worker_that_stops_gives_back_its_shard(world: World) -> None:
    """Nobody has to wait for its lease."""
    await world.open_accounts(5)
    await world.runs.register(P1, Trigger.CLI)
    await world.runs.advance()
    await world.reserver.claim()
    world.reserver.start()
    await world.reserver.stop()
    async with world.database.read() as connection:
        held = select(func.count()).where(payout_shard.c.lease_expires_at_ms.is_not(None))
        assert (await connection.execute(held.where(payout_shard.c.finished_at_ms.is_(None)))).scalar_one() == 0


async def test_an_account_that_cannot_be_paid_is_set_aside(world: World) -> None:
    """An amount beyond what an event can carry: the others are paid, the money stays where it is."""
    await world.open_accounts(10)
    for number in range(2):
        await world.earn(4, 10**12 - number, P1)
    await world.pay_out()
    assert [row.worker_id for row in await world.payouts()] == [worker(n) for n in range(10) if n != 4]
    (aside,) = await world.rows(payout_set_aside)
    assert (aside.period, aside.worker_id) == (str(P1), worker(4))
    assert "amount_minor" in aside.error
    report = await world.runs.report(P1)
    assert report is not None
    assert (report.accounts_done, report.accounts_total, report.set_aside_count) == (10, 10, 1)
    assert report.status is RunStatus.DISPATCHING
    await world.assert_sound()


async def test_a_payout_that_exists_is_not_made_again(world: World) -> None:
    """The unique key is the last guard: an account whose payout is there already is set aside, not paid twice."""
    await world.open_accounts(3)
    await world.runs.register(P1, Trigger.CLI)
    await world.runs.advance()
    shard = await world.reserver.claim()
    while shard is not None:
        while await world.reserver.work_on(shard):
            pass
        async with world.database.write() as connection:  # as if the cursor had been lost
            await connection.execute(
                update(payout_shard).where(payout_shard.c.shard == 0).values(cursor="", finished_at_ms=None)
            )
            await connection.execute(update(ledger_account).values(balance_minor=ledger_account.c.balance_minor))
        break
    await world.earn(0, 500, P1)
    await world.reserver.run_until_idle()
    amounts = {row.worker_id: row.amount_minor for row in await world.payouts()}
    assert amounts == {worker(0): 1000, worker(1): 1000, worker(2): 1000}
    assert (await world.balances())[worker(0)] == 500


async def test_the_database_refuses_a_second_payout_of_an_account_and_period(world: World) -> None:
    """Under any other id: the last guard does not depend on how ids are made."""
    await world.open_accounts(1)
    await world.pay_out()
    async with world.database.read() as connection:
        (row,) = (await connection.execute(select(payout))).mappings().all()
    with pytest.raises(IntegrityError, match="period"):
        async with world.database.write() as connection:
            await connection.execute(insert(payout).values(**{**row, "payout_id": worker(99)}))


async def test_a_restored_database_gives_the_same_ids(world: World, tmp_path: Path) -> None:
    """Whichever trigger comes first the second time, payouts, transfers and events are the same ones."""
    await world.open_accounts(4)
    copy = tmp_path / "restored.db"
    async with world.database.write():
        shutil.copyfile(world.database.path or "", copy)
        for suffix in ("-wal", "-shm"):
            shutil.copyfile(f"{world.database.path}{suffix}", f"{copy}{suffix}")
    restored = World(Database(f"sqlite+aiosqlite:///{copy}"))
    await world.pay_out(trigger=Trigger.HTTP)
    await restored.pay_out(trigger=Trigger.SCHEDULE)
    ids = [{(name, headers["ce_id"]) for name, headers, _body in await one.events()} for one in (world, restored)]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 9
    transfers = [{row.transfer_id for row in await one.rows(ledger_transfer)} for one in (world, restored)]
    assert transfers[0] == transfers[1]
    await restored.database.close()


async def test_postings_during_a_run_are_neither_lost_nor_paid(world: World) -> None:
    """Two workers reserve while others post to the same accounts, days before and after the close included."""
    accounts = 60
    world = World(world.database, chunk_accounts=5)
    await world.open_accounts(accounts)
    async with AsyncExitStack() as stack:
        processes = [world.another(name) for name in ("two", "three", "four")]
        for one in processes:
            stack.push_async_callback(one.database.close)
        await world.runs.register(P1, Trigger.CLI)
        source = random.Random(7)

        async def post(process: World) -> None:
            for _ in range(40):
                day = source.choice([P1 - timedelta(days=3), P1, P2, TODAY])
                await process.earn(source.randrange(accounts), source.choice([-300, 200, 700]), day)

        await asyncio.gather(
            _until_reserved(world), _until_reserved(processes[0]), post(processes[1]), post(processes[2])
        )
    assert {row.worker_id: row.amount_minor for row in await world.payouts()} == dict.fromkeys(
        map(worker, range(accounts)), 1000
    )
    await world.assert_sound()
    earned = [row.signed_minor for row in await world.rows(ledger_transfer) if row.kind == "adjustment"]
    assert sum((await world.balances()).values()) == sum(earned) - 1000 * accounts


Step = tuple[int, int, int]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    earnings=st.lists(
        st.tuples(st.integers(0, 5), st.integers(-900, 900).filter(bool), st.integers(0, 3)), min_size=1, max_size=25
    ),
    split=st.integers(0, 25),
)
async def test_every_cent_is_in_a_balance_or_in_a_payout(
    migrated_file: Path, tmp_path_factory: pytest.TempPathFactory, earnings: list[Step], split: int
) -> None:
    """Two runs with postings before, between and after: each pays what is owed at its close and was not paid before."""
    file = shutil.copy(migrated_file, tmp_path_factory.mktemp("property") / "payday.db")
    world = World(Database(f"sqlite+aiosqlite:///{file}"), chunk_accounts=2)
    for number, amount, days in earnings[:split]:
        await world.earn(number, amount, P1 - timedelta(days=1) + timedelta(days=days))
    await world.pay_out(P1)
    first = await world.closing(P1)
    for number, amount, days in earnings[split:]:
        await world.earn(number, amount, P1 - timedelta(days=1) + timedelta(days=days))
    await world.pay_out(P2)
    second = await world.closing(P2)
    paid: dict[tuple[str, str], int] = {(row.worker_id, row.period): row.amount_minor for row in await world.payouts()}
    for worker_id, closing in second.items():
        before = max(0, first.get(worker_id, 0))
        assert paid.get((worker_id, str(P1)), 0) == before
        assert paid.get((worker_id, str(P2)), 0) == max(0, closing - before)
    assert sum((await world.balances()).values()) + sum(paid.values()) == sum(amount for _n, amount, _d in earnings)
    await world.assert_sound()
    await world.database.close()
