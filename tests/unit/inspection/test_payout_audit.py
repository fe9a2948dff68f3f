"""The audit of payouts: silent after a day of every outcome, and red for each rule when just that rule is broken."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from streams.inspection.audit import audit
from streams.inspection.payout_checks import PAYOUT_CHECKS
from streams.payouts.attempt import KeyLife
from streams.payouts.bank import EntryStatus
from streams.payouts.dispatch import Dispatcher
from streams.payouts.outcomes import Outcomes
from streams.payouts.reconcile import Reconciler
from tests.unit.inspection.books import execute
from tests.unit.payouts.scripted_bank import ScriptedBank
from tests.unit.payouts.world import CALENDAR, P1, P2, World, worker

if TYPE_CHECKING:
    from streams.storage.database import Database

PAID, REFUSED, RETURNED, UNKNOWN, LATER = map(worker, range(5))

PLANTED: dict[str, str] = {
    "payout-reserved": f"UPDATE payout SET amount_minor = amount_minor + 1 WHERE worker_id = '{UNKNOWN}'",
    "payout-settled": "DELETE FROM ledger_transfer WHERE kind = 'settlement'",
    "payout-reversed": f"UPDATE payout SET state = 'confirmed' WHERE worker_id = '{REFUSED}'",
    "paid-once": (
        "INSERT INTO payout (payout_id, worker_id, period, seq, amount_minor, currency, state, sendable_since_ms, "
        f"requested_at_ms) SELECT 'again', worker_id, period, 2, 1, 'USD', 'confirmed', 0, 0 FROM payout "
        f"WHERE worker_id = '{PAID}'"
    ),
    "paid-what-was-owed": (
        f"UPDATE ledger_transfer SET period = '{P2}' WHERE kind = 'payout' AND worker_id = '{PAID}'"
    ),
    "everybody-paid": f"UPDATE ledger_transfer SET period = '{P1}' WHERE worker_id = '{LATER}'",
    "clearing-is-open": (
        "UPDATE ledger_transfer SET debit_account = 'house:bank' "
        f"WHERE kind = 'payout-reversal' AND worker_id = '{REFUSED}'"
    ),
    "bank-is-confirmed": f"UPDATE payout SET state = 'manual-review' WHERE worker_id = '{PAID}'",
    "completed-is-over": "UPDATE payout_run SET status = 'completed'",
}


@pytest.fixture
async def day(database: Database) -> World:
    """One paid, one refused, one paid and returned, one of unknown outcome, one who earned too late for the run."""
    world = World(database)
    for number in range(4):
        await world.earn(number, 700, P1)
    await world.earn(4, 700, P2)
    await world.pay_out(P1)
    bank = ScriptedBank(refused={REFUSED: "closed"}, silent=frozenset({UNKNOWN}))
    dispatcher = Dispatcher(
        database, bank, Outcomes(CALENDAR, world.announce), KeyLife(10**8), holder="h", calls_at_once=1
    )
    await dispatcher.run_until_idle()
    number = next(n for n, entry in enumerate(bank.bookings) if entry.account == RETURNED)
    bank.bookings[number] = replace(bank.bookings[number], status=EntryStatus.RETURNED)
    await Reconciler(database, bank, Outcomes(CALENDAR, world.announce)).reconcile(P1)
    states = {row.worker_id: row.state for row in await world.payouts()}
    assert states == {PAID: "confirmed", REFUSED: "reversed", RETURNED: "reversed", UNKNOWN: "unknown"}
    return world


async def test_a_day_of_every_outcome_passes(day: World) -> None:
    """Nothing is found where nothing is wrong."""
    result = await audit(day.database, settled=False)
    assert result.ok, result.counts
    assert {check.name for check in PAYOUT_CHECKS} <= set(result.counts)


def test_every_check_has_a_planted_fault() -> None:
    """A check that nobody has seen red proves nothing."""
    assert set(PLANTED) == {check.name for check in PAYOUT_CHECKS}


@pytest.mark.parametrize("name", PLANTED)
async def test_a_check_goes_red(name: str, day: World) -> None:
    """Each rule, when it is broken, is named with the rows that break it."""
    await execute(day.database, PLANTED[name])
    result = await audit(day.database, settled=False)
    finding = next(finding for finding in result.findings if finding.name == name)
    assert finding.rows > 0, result.counts
    assert finding.examples
