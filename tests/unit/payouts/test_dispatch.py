"""Dispatching: claimed before the call, written down after it, by the claim that made it alone."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from streams.ledger.tables import ledger_transfer
from streams.outbox.tables import outbox
from streams.payouts.attempt import KeyLife
from streams.payouts.bank import BankUnavailable, Booked, Refused
from streams.payouts.dispatch import Dispatcher
from streams.payouts.domain import RunStatus
from streams.payouts.outcomes import Outcomes
from streams.payouts.tables import payout
from tests.unit.payouts.scripted_bank import TIMED_OUT, ScriptedBank
from tests.unit.payouts.world import CALENDAR, P1, P2, TODAY, World, worker

if TYPE_CHECKING:
    from streams.payouts.bank import Bank

LONG = KeyLife(30 * 86_400.0)
SHORT = KeyLife(1.0)


def dispatcher(world: World, bank: Bank, life: KeyLife = LONG) -> Dispatcher:
    return Dispatcher(world.database, bank, Outcomes(CALENDAR, world.announce), life, holder=world.holder)


async def make_due(world: World) -> None:
    """Time passes: leases end, waits are over."""
    async with world.database.write() as connection:
        await connection.execute(
            update(payout).where(payout.c.next_attempt_at_ms.is_not(None)).values(next_attempt_at_ms=0)
        )


async def states(world: World) -> list[str]:
    return [row.state for row in await world.payouts()]


async def test_a_booked_payout_is_confirmed_and_settled(world: World) -> None:
    """The money moves on from clearing to the bank; the account is not touched again; the run is completed."""
    await world.open_accounts(3, 700)
    await world.pay_out()
    bank = ScriptedBank()
    await dispatcher(world, bank).run_until_idle()
    assert await states(world) == ["confirmed"] * 3
    assert {row.provider_ref for row in await world.payouts()} == {"ref-0", "ref-1", "ref-2"}
    settled = [row for row in await world.rows(ledger_transfer) if row.kind == "settlement"]
    assert {(row.debit_account, row.credit_account, row.amount_minor) for row in settled} == {
        ("house:clearing", "house:bank", 700)
    }
    assert set((await world.balances()).values()) == {0}
    await world.reserver.run_until_idle()
    report = await world.runs.report(P1)
    assert report is not None
    assert (report.status, report.paid_count, report.failed_count) == (RunStatus.COMPLETED, 3, 0)
    ((_name, _headers, body),) = await world.events("run-completed")
    assert json.loads(body) == {
        "period": str(P1),
        "paid_count": 3,
        "failed_count": 0,
        "total_minor": 2100,
        "currency": "USD",
    }
    await world.assert_sound()


async def test_a_refused_payout_goes_back_to_the_balance(world: World) -> None:
    """Failed and reversed in one transaction, in the open period; the next run pays it."""
    await world.open_accounts(2, 700)
    await world.pay_out(P1)
    bank = ScriptedBank(refused={worker(0): "account-closed"})
    await dispatcher(world, bank).run_until_idle()
    assert await states(world) == ["reversed", "confirmed"]
    assert await world.balances() == {worker(0): 700, worker(1): 0}
    (back,) = [row for row in await world.rows(ledger_transfer) if row.kind == "payout-reversal"]
    assert (back.debit_account, back.period, back.sequence) == ("house:clearing", str(TODAY), 3)
    told = [name for name, _headers, body in await world.events() if worker(0).encode() in body]
    assert told[-3:] == [
        "payouts.payout-failed.v1",
        "payouts.payout-reversed.v1",
        "accounting.transaction-applied.v1",
    ]
    ((_name, _headers, body),) = await world.events("payout-failed")
    assert json.loads(body)["reason_code"] == "account-closed"
    await world.reserver.run_until_idle()
    report = await world.runs.report(P1)
    assert report is not None
    assert (report.status, report.paid_count, report.failed_count) == (RunStatus.COMPLETED, 1, 1)
    await world.assert_sound()


async def test_silence_is_asked_again_with_the_same_key(world: World) -> None:
    """Booked before the reply was lost: the second call hears of it, and there is one booking."""
    await world.open_accounts(1)
    await world.pay_out()
    bank = ScriptedBank(answers=["book and lose"])
    sending = dispatcher(world, bank)
    await sending.run_until_idle()
    (one,) = await world.payouts()
    assert (one.state, one.unanswered, one.attempts) == ("unknown", 1, 1)
    assert one.next_attempt_at_ms > one.first_sent_at_ms
    assert not await world.events("payout-failed")
    await make_due(world)
    await sending.run_until_idle()
    assert await states(world) == ["confirmed"]
    assert len(set(bank.calls)) == 1
    assert len(bank.bookings) == 1
    await world.assert_sound()


async def test_past_half_of_the_keys_life_the_bank_is_asked_first(world: World) -> None:
    """Its key is forgotten, the payment is there: it is not made again."""
    await world.open_accounts(1)
    await world.pay_out()
    bank = ScriptedBank(answers=["book and lose"], forgets_keys=True)
    await dispatcher(world, bank).run_until_idle()
    await make_due(world)
    await dispatcher(world, bank, SHORT).run_until_idle()
    assert await states(world) == ["confirmed"]
    assert len(bank.bookings) == 1


async def test_a_restored_database_pays_nobody_twice(world: World) -> None:
    """It remembers no attempt at all, the bank has forgotten the keys."""
    await world.open_accounts(3)
    await world.pay_out()
    bank = ScriptedBank(forgets_keys=True)
    await dispatcher(world, bank, SHORT).run_until_idle()
    async with world.database.write() as connection:
        await connection.execute(
            update(payout).values(state="requested", next_attempt_at_ms=0, attempts=0, first_sent_at_ms=None)
        )
        await connection.execute(ledger_transfer.delete().where(ledger_transfer.c.kind == "settlement"))
        await connection.execute(outbox.delete().where(outbox.c.type == "payouts.payout-confirmed.v1"))
    await dispatcher(world, bank, SHORT).run_until_idle()
    assert await states(world) == ["confirmed"] * 3
    assert len(bank.bookings) == 3
    await world.assert_sound()


async def test_a_person_decides_where_the_bank_can_no_longer_say(world: World) -> None:
    """Nothing is sent, the money stays in clearing, the run counts it as failed."""
    await world.open_accounts(1)
    await world.pay_out()
    bank = ScriptedBank(answers=[TIMED_OUT])
    await dispatcher(world, bank).run_until_idle()
    await make_due(world)
    await dispatcher(world, bank, SHORT).run_until_idle()
    (one,) = await world.payouts()
    assert one.state == "manual-review"
    assert "no such payment" in one.note
    await world.reserver.run_until_idle()
    report = await world.runs.report(P1)
    assert report is not None
    assert (report.status, report.failed_count, report.review_count) == (RunStatus.COMPLETED, 1, 1)
    await world.assert_sound()


async def test_a_payout_whose_worker_died_is_taken_over(world: World) -> None:
    """Its claim ends; that it may have been sent counts as an unanswered attempt."""
    await world.open_accounts(1)
    await world.pay_out()
    dead, other = dispatcher(world, ScriptedBank()), dispatcher(world, bank := ScriptedBank())
    await dead._claim(1)
    for call in dead._calls:
        call.cancel()
    await other.run_until_idle()
    assert await states(world) == ["sending"]
    await make_due(world)
    await other.run_until_idle()
    (one,) = await world.payouts()
    assert (one.state, one.attempts, one.unanswered) == ("confirmed", 2, 1)
    assert len(bank.calls) == 1


async def test_an_answer_that_comes_too_late_is_not_written_down(world: World) -> None:
    """A worker that was frozen during its call: another has claimed the payout, asked and confirmed."""
    await world.open_accounts(1)
    await world.pay_out()
    second = dispatcher(world, ScriptedBank())

    async def overtaken() -> None:
        await make_due(world)
        await second.run_until_idle()

    first = ScriptedBank(answers=[Refused("too-late")], meanwhile=overtaken)
    await dispatcher(world, first).run_until_idle()
    assert await states(world) == ["confirmed"]
    assert not await world.events("payout-failed")
    assert await world.balances() == {worker(0): 0}
    await world.assert_sound()


async def test_an_answer_to_an_older_claim_is_not_written_down(world: World) -> None:
    """The payout is being sent again: only the newer claim's answer counts."""
    await world.open_accounts(1)
    await world.pay_out()
    second = dispatcher(world, ScriptedBank())

    async def claimed_again() -> None:
        await make_due(world)
        await second._claim(1)

    first = ScriptedBank(answers=[Refused("too-late")], meanwhile=claimed_again)
    await dispatcher(world, first).run_until_idle()
    assert await states(world) == ["sending"]
    assert not await world.events("payout-failed")
    await second.run_until_idle()
    assert await states(world) == ["confirmed"]
    await world.assert_sound()


async def test_the_bank_is_called_outside_of_transactions(world: World) -> None:
    """While it is called, anybody can write."""
    await world.open_accounts(1)
    await world.pay_out()

    async def write() -> None:
        async with asyncio.timeout(5):
            await world.earn(0, 5, P2)

    await dispatcher(world, ScriptedBank(meanwhile=write)).run_until_idle()
    assert await world.balances() == {worker(0): 5}


async def test_a_bank_that_is_not_called_costs_no_attempt(world: World) -> None:
    """An open breaker: everything stays requested, one payout at a time finds out whether it is over."""
    await world.open_accounts(30)
    await world.pay_out()
    bank = ScriptedBank(answers=[BankUnavailable("open", 0.0) for _ in range(30)])
    sending = dispatcher(world, bank)
    await sending.run_until_idle()
    assert await states(world) == ["requested"] * 30
    assert {row.unanswered for row in await world.payouts()} == {0}
    assert len(bank.calls) == 30
    bank.answers.append(BankUnavailable("still open", 60.0))
    await make_due(world)
    sending._not_before = 0.0
    await sending.run_until_idle()
    assert len(bank.calls) == 31
    assert sending._not_before > time.monotonic() + 30
    sending._not_before = 0.0
    await make_due(world)
    await sending.run_until_idle()
    assert await states(world) == ["confirmed"] * 30


async def test_two_dispatchers_call_once_for_each_payout(world: World) -> None:
    """They claim different ones."""
    await world.open_accounts(150)
    await world.pay_out()
    bank, other = ScriptedBank(), world.another()
    await asyncio.gather(dispatcher(world, bank).run_until_idle(), dispatcher(other, bank).run_until_idle())
    assert await states(world) == ["confirmed"] * 150
    assert len(bank.calls) == len(set(bank.calls)) == 150
    await world.assert_sound()
    await other.database.close()


async def test_one_outcome_that_cannot_be_written_down_keeps_no_other(world: World) -> None:
    """A bank that calls its payment something no event can carry: a person looks, the others are confirmed."""
    await world.open_accounts(3)
    await world.pay_out()
    bank = ScriptedBank(answers=[Booked("\x07")])
    await dispatcher(world, bank).run_until_idle()
    assert sorted(await states(world)) == ["confirmed", "confirmed", "manual-review"]
    await world.assert_sound()


@pytest.mark.parametrize("name", ["payout-confirmed", "payout-reversed"])
async def test_what_is_told_is_dated_by_the_run(world: World, name: str) -> None:
    """And its id comes from the payout, so that a second time gives the same."""
    await world.open_accounts(1)
    await world.pay_out()
    bank = ScriptedBank(refused={worker(0): "no"} if name == "payout-reversed" else {})
    await dispatcher(world, bank).run_until_idle()
    requested, told = (await world.events("payout-requested"))[0], (await world.events(name))[0]
    assert told[1]["ce_time"] == requested[1]["ce_time"]
    assert told[1]["ce_id"][:13] == requested[1]["ce_id"][:13]
    assert told[1]["ce_id"] != requested[1]["ce_id"]


async def test_stopping_hears_out_the_calls_under_way(world: World) -> None:
    """What the bank answers in the last moment is written down."""
    await world.open_accounts(1)
    await world.pay_out()
    called, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        called.set()
        await go_on.wait()

    sending = dispatcher(world, ScriptedBank(meanwhile=wait))
    sending.start()
    await called.wait()
    stopping = asyncio.create_task(sending.stop())
    await asyncio.sleep(0)
    go_on.set()
    await stopping
    assert await states(world) == ["confirmed"]
