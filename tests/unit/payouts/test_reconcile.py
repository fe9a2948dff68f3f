"""Reconciliation: three books that should agree, returns written down, differences kept; and what a person decides."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from streams.intake.tables import operator_action
from streams.ledger.tables import ledger_transfer
from streams.payouts.alarm_checks import CHECKS
from streams.payouts.bank import BankEntry, EntryStatus
from streams.payouts.outcomes import Outcomes
from streams.payouts.reconcile import Reconciler, Reconciliation
from streams.payouts.resolve import BankHasPaid, BankHasRefused, CannotResolve, Resolver, SendAgain
from streams.payouts.tables import payout, payout_difference
from tests.unit.payouts.scripted_bank import TIMED_OUT, ScriptedBank
from tests.unit.payouts.test_dispatch import SHORT, dispatcher, make_due, states
from tests.unit.payouts.world import CALENDAR, P1, TODAY, World, worker

if TYPE_CHECKING:
    from streams.payouts.resolve import Decision


@pytest.fixture
def bank() -> ScriptedBank:
    return ScriptedBank()


@pytest.fixture
async def paid(world: World, bank: ScriptedBank) -> World:
    """Three payouts, confirmed."""
    await world.open_accounts(3, 700)
    await world.pay_out()
    await dispatcher(world, bank).run_until_idle()
    return world


async def reconcile(world: World, bank: ScriptedBank) -> Reconciliation:
    return await Reconciler(world.database, bank, Outcomes(CALENDAR, world.announce)).reconcile(P1)


async def alarms(world: World) -> set[str]:
    async with world.database.read() as connection:
        return {check.kind.name for check in CHECKS if await check.find(connection)}


async def test_three_books_that_agree(paid: World, bank: ScriptedBank) -> None:
    """Nothing is found, and the sums are the same."""
    found = await reconcile(paid, bank)
    assert found.ok
    assert found.payouts_minor == found.ledger_minor == found.bank_minor == 2100


async def test_money_that_comes_back_days_later_is_given_back(paid: World, bank: ScriptedBank) -> None:
    """From the bank's account, in the open period; once, however often it is looked at."""
    bank.bookings[1] = replace(bank.bookings[1], status=EntryStatus.RETURNED, reason_code="unknown-account")
    assert (await reconcile(paid, bank)).returned == 1
    found = await reconcile(paid, bank)
    assert found.ok, found.differences
    assert found.returned == 0
    back = bank.bookings[1]
    (row,) = [row for row in await paid.payouts() if row.payout_id == back.reference]
    assert (row.state, row.reason_code, row.reversal_period) == ("reversed", "unknown-account", str(TODAY))
    (posting,) = [row for row in await paid.rows(ledger_transfer) if row.kind == "payout-reversal"]
    assert (posting.debit_account, posting.amount_minor) == ("house:bank", 700)
    assert (await paid.balances())[back.account] == 700
    ((_name, headers, _body),) = await paid.events("payout-reversed")
    assert "ce_causationid" not in headers
    assert not await paid.events("payout-failed")
    assert found.payouts_minor == found.ledger_minor == found.bank_minor == 1400
    await paid.assert_sound()


async def _lose(_world: World, bank: ScriptedBank) -> None:
    bank.bookings.pop(0)


async def _pay_a_stranger(_world: World, bank: ScriptedBank) -> None:
    bank.bookings.append(BankEntry("ref-x", "not-ours", worker(0), 5, "USD", EntryStatus.BOOKED))


async def _pay_more(_world: World, bank: ScriptedBank) -> None:
    bank.bookings[0] = replace(bank.bookings[0], amount_minor=701)


async def _pay_somebody_else(_world: World, bank: ScriptedBank) -> None:
    bank.bookings[0] = replace(bank.bookings[0], account=worker(9))


async def _pay_twice(_world: World, bank: ScriptedBank) -> None:
    bank.bookings.append(replace(bank.bookings[0], provider_ref="ref-again"))


async def _forget_an_outcome(world: World, bank: ScriptedBank) -> None:
    async with world.database.write() as connection:
        await connection.execute(
            update(payout)
            .where(payout.c.payout_id == bank.bookings[0].reference)
            .values(state="unknown", next_attempt_at_ms=0, provider_ref=None)
        )
        await connection.execute(
            ledger_transfer.delete().where(
                ledger_transfer.c.source_ref == f"payout:{bank.bookings[0].reference}:settle"
            )
        )


async def _forget_a_settlement(world: World, bank: ScriptedBank) -> None:
    async with world.database.write() as connection:
        reference = f"payout:{bank.bookings[0].reference}:settle"
        await connection.execute(ledger_transfer.delete().where(ledger_transfer.c.source_ref == reference))


@pytest.mark.parametrize(
    ("spoil", "disagreement"),
    [
        (_lose, "missing-in-bank"),
        (_pay_a_stranger, "unknown-to-us"),
        (_pay_more, "amount"),
        (_pay_somebody_else, "amount"),
        (_pay_twice, "booked-twice"),
        (_forget_an_outcome, "state"),
        (_forget_a_settlement, "ledger"),
    ],
)
async def test_each_disagreement_is_listed(paid: World, bank: ScriptedBank, spoil: object, disagreement: str) -> None:
    """By its name, kept, and an alarm until it is gone."""
    before = list(bank.bookings)
    await spoil(paid, bank)  # type: ignore[operator]
    found = await reconcile(paid, bank)
    assert [one.kind for one in found.differences] == [disagreement]
    assert "payout-differences" in await alarms(paid)
    if disagreement not in {"state", "ledger"}:
        bank.bookings[:] = before
        assert (await reconcile(paid, bank)).ok
        assert "payout-differences" not in await alarms(paid)
        (row,) = await paid.rows(payout_difference)
        assert row.resolved_at_ms is not None


async def test_a_difference_that_a_person_has_accepted_raises_no_alarm(paid: World, bank: ScriptedBank) -> None:
    """It is still listed, and stays accepted."""
    await _pay_a_stranger(paid, bank)
    await reconcile(paid, bank)
    resolver = Resolver(paid.database, Outcomes(CALENDAR, paid.announce), "somebody")
    await resolver.accept_difference(P1, "unknown-to-us", "ref-x", "a test of the bank's")
    assert "payout-differences" not in await alarms(paid)
    assert not (await reconcile(paid, bank)).ok
    assert "payout-differences" not in await alarms(paid)
    (action,) = await paid.rows(operator_action)
    assert (action.who, action.subject) == ("somebody", f"{P1}/unknown-to-us/ref-x")
    with pytest.raises(CannotResolve):
        await resolver.accept_difference(P1, "unknown-to-us", "ref-x", "again")


# --- manual review ---------------------------------------------------------------------------------------------------


async def under_review(world: World, bank: ScriptedBank) -> str:
    await world.open_accounts(1, 700)
    await world.pay_out()
    bank.answers.append(TIMED_OUT)
    await dispatcher(world, bank).run_until_idle()
    await make_due(world)
    await dispatcher(world, bank, SHORT).run_until_idle()
    (row,) = await world.payouts()
    assert row.state == "manual-review"
    assert "payout-review" in await alarms(world)
    return str(row.payout_id)


@pytest.mark.parametrize(
    ("decision", "state", "balance"),
    [
        (BankHasPaid("BANK-1"), "confirmed", 0),
        (BankHasRefused("closed"), "reversed", 700),
        (SendAgain(), "requested", 0),
    ],
)
async def test_a_person_decides(world: World, bank: ScriptedBank, decision: Decision, state: str, balance: int) -> None:
    """With all that the bank's own answer would have brought about; who and why is kept."""
    payout_id = await under_review(world, bank)
    resolver = Resolver(world.database, Outcomes(CALENDAR, world.announce), "somebody")
    await resolver.resolve(payout_id, decision, "called the bank")
    assert await states(world) == [state]
    assert await world.balances() == {worker(0): balance}
    (action,) = await world.rows(operator_action)
    assert (action.who, action.subject, action.reason) == ("somebody", payout_id, "called the bank")
    assert "payout-review" not in await alarms(world)
    await world.assert_sound()
    if state == "requested":
        await dispatcher(world, bank, SHORT).run_until_idle()
        assert await states(world) == ["confirmed"]
        assert len(bank.bookings) == 1
    with pytest.raises(CannotResolve):
        await resolver.resolve(payout_id, decision, "again")


async def test_what_is_under_way_is_not_decided_by_a_person(world: World) -> None:
    """Nor what does not exist."""
    await world.open_accounts(1)
    await world.pay_out()
    (row,) = await world.payouts()
    resolver = Resolver(world.database, Outcomes(CALENDAR, world.announce), "somebody")
    for payout_id in (row.payout_id, "nothing"):
        with pytest.raises(CannotResolve):
            await resolver.resolve(payout_id, BankHasPaid("r"), "")
    assert await states(world) == ["requested"]
