"""Commands about money: adjusting balances and closing periods, and which period a posting counts for."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pytest

from contracts.accounting import ClosePeriod, PeriodClosed, TaskPriced, TransactionApplied
from contracts.fields import AMOUNT_MAX_MINOR, INT64_MAX
from contracts.workers import WorkerDeactivated
from streams.ledger.tables import ledger_account
from tests.contract.accounting import adjust, assigned, completed, created
from tests.contract.cast import ACE, ADA, BOB, MIA, NOBODY, T1, ahead, day, days_ago, worker

if TYPE_CHECKING:
    from contracts.fields import Role
    from streams.contract_kit.scenario import Scenario

pytestmark = pytest.mark.slices("accounting")


# --- adjustments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["accountant", "admin"])
@pytest.mark.parametrize("amount_minor", [1, -1, AMOUNT_MAX_MINOR, -AMOUNT_MAX_MINOR])
async def test_a_balance_is_adjusted_up_and_down(contract: Scenario, role: Role, amount_minor: int) -> None:
    """The sign is the command's; a balance may become negative."""
    await contract.given(worker(ADA), worker(ACE, role))
    command = await contract.when(adjust(amount_minor))
    contract.then(
        TransactionApplied,
        worker_id=ADA,
        sequence=1,
        kind="adjustment",
        amount_minor=amount_minor,
        balance_after_minor=amount_minor,
        currency="USD",
        task_id=None,
        key=ADA,
        because_of=command,
    )
    contract.then_nothing_else()


async def test_two_equal_adjustments_are_two(contract: Scenario) -> None:
    """What makes a command is its id, not its text."""
    await contract.given(worker(ADA), worker(ACE, "accountant"), adjust(500))
    await contract.when(adjust(500))
    contract.then(TransactionApplied, sequence=2, amount_minor=500, balance_after_minor=1000)
    contract.then_nothing_else()


async def test_the_balance_of_somebody_who_has_left_is_adjusted(contract: Scenario) -> None:
    """Money stays due."""
    await contract.given(worker(ADA), worker(ACE, "accountant"), WorkerDeactivated(worker_id=ADA))
    await contract.when(adjust(500))
    contract.then(TransactionApplied, worker_id=ADA, amount_minor=500)
    contract.then_nothing_else()


@pytest.mark.parametrize("role", ["worker", "manager"])
async def test_only_accountants_and_admins_adjust(contract: Scenario, role: Role) -> None:
    """Who asks must have the role for it."""
    await contract.given(worker(ADA), worker(MIA, role))
    await contract.when(adjust(requested_by=MIA))
    contract.then_rejected("not-allowed", key=ADA)
    contract.then_nothing_else()


async def test_an_accountant_who_is_unknown_or_has_left_does_not_adjust(contract: Scenario) -> None:
    """Who asks must be known and active."""
    await contract.given(worker(ADA), worker(ACE, "accountant"), WorkerDeactivated(worker_id=ACE))
    for somebody in (ACE, NOBODY):
        await contract.when(adjust(requested_by=somebody))
        contract.then_rejected("not-allowed", key=ADA)
        contract.then_nothing_else()


async def test_the_balance_of_an_unknown_worker_is_not_adjusted(contract: Scenario) -> None:
    """A mistyped id opens no account."""
    await contract.given(worker(ACE, "accountant"))
    await contract.when(adjust(worker_id=NOBODY))
    contract.then_rejected("unknown-worker", key=NOBODY)
    contract.then_nothing_else()


async def test_another_currency_is_rejected(contract: Scenario) -> None:
    """There is one currency per deployment."""
    await contract.given(worker(ADA), worker(ACE, "accountant"))
    await contract.when(adjust(currency="EUR"))
    contract.then_rejected("wrong-currency", key=ADA)
    contract.then_nothing_else()


@pytest.mark.settings(currency="EUR")
async def test_the_currency_is_the_deployments(contract: Scenario) -> None:
    """Another deployment may have another one, for prices and postings alike."""
    await contract.given(worker(ADA), worker(ACE, "accountant"))
    await contract.when(adjust(currency="USD"))
    contract.then_rejected("wrong-currency")
    await contract.when_together(adjust(currency="EUR"), created())
    contract.then(TransactionApplied, currency="EUR")
    contract.then(TaskPriced, currency="EUR")
    contract.then_nothing_else()


async def test_an_adjustment_from_the_future_is_rejected(contract: Scenario) -> None:
    """Beyond the clock skew, whoever asks."""
    await contract.given(worker(ADA), worker(ACE, "accountant"))
    await contract.when(adjust(), at=ahead(minutes=6))
    contract.then_rejected("future-date", key=ADA)
    contract.then_nothing_else()
    await contract.when(adjust(), at=ahead(minutes=4))
    contract.then(TransactionApplied, kind="adjustment")
    contract.then_nothing_else()


async def test_a_balance_that_no_column_can_hold_sets_the_command_aside(contract: Scenario) -> None:
    """The posting is not made, later commands for the account wait behind it, other accounts go on."""
    await contract.given(worker(ADA), worker(BOB), worker(ACE, "accountant"))
    await contract.given_rows(ledger_account, {"worker_id": ADA, "balance_minor": INT64_MAX - 10, "version": 7})
    await contract.when(adjust(11))
    contract.then_parked(reason="failed", state="retrying")
    contract.then_nothing_else()
    second, other = await contract.when_together(adjust(-5), adjust(7, worker_id=BOB))
    contract.then_parked(second, reason="behind")
    contract.then(TransactionApplied, worker_id=BOB, because_of=other)
    contract.then_nothing_else()


# --- periods ---------------------------------------------------------------------------------------------------------


async def test_a_period_that_is_over_is_closed(contract: Scenario) -> None:
    """Yesterday can be closed today."""
    command = await contract.when(ClosePeriod(period=day(1)))
    contract.then(PeriodClosed(period=day(1)), key=str(day(1)), because_of=command)
    contract.then_nothing_else()


@pytest.mark.parametrize("days_ahead", [0, 1, 400])
async def test_a_period_that_is_not_over_is_not_closed(contract: Scenario, days_ahead: int) -> None:
    """Neither today nor a day to come."""
    await contract.when(ClosePeriod(period=day(-days_ahead)))
    contract.then_rejected("period-not-over", key="all")
    contract.then_nothing_else()


async def test_a_period_is_closed_once_and_with_it_every_earlier_one(contract: Scenario) -> None:
    """Closing a day again, or one before it, is refused; a later one is not."""
    await contract.given(ClosePeriod(period=day(3)))
    for earlier in (3, 4, 300):
        await contract.when(ClosePeriod(period=day(earlier)))
        contract.then_rejected("period-already-closed", key="all")
        contract.then_nothing_else()
    await contract.when(ClosePeriod(period=day(1)))
    contract.then(PeriodClosed(period=day(1)))
    contract.then_nothing_else()


async def test_closing_from_the_future_is_rejected(contract: Scenario) -> None:
    """A command dated ahead is not believed, though its period is over."""
    await contract.when(ClosePeriod(period=day(1)), at=ahead(hours=1))
    contract.then_rejected("future-date", key="all")
    contract.then_nothing_else()


async def test_what_comes_late_counts_for_the_earliest_open_period(contract: Scenario) -> None:
    """The business date stays that of the event; only an event of a closed day moves to the first open one."""
    await contract.given(worker(ADA), worker(ACE, "accountant"), ClosePeriod(period=day(3)))
    for happened, counted in ((5, 2), (3, 2), (2, 2), (1, 1), (0, 0)):
        at = min(days_ago(happened), datetime.now(UTC))
        await contract.when(adjust(100 + happened), at=at)
        contract.then(TransactionApplied, amount_minor=100 + happened, business_date=at.date(), period=day(counted))
        contract.then_nothing_else()


async def test_fees_and_rewards_move_on_with_the_periods(contract: Scenario) -> None:
    """A fee charged before the close keeps its period, the reward after it gets the next one."""
    await contract.given(assigned(), at=days_ago(3))
    assert contract.earlier(TransactionApplied).data.period == day(3)
    await contract.given(ClosePeriod(period=day(3)))
    await contract.when(completed(), at=days_ago(3))
    contract.then(TransactionApplied, kind="reward", business_date=day(3), period=day(2))
    contract.then_nothing_else()


@pytest.mark.settings(time_zone="America/New_York")
async def test_a_business_day_is_one_of_the_configured_time_zone(contract: Scenario) -> None:
    """Half past four in the morning in UTC is still the day before in New York."""
    await contract.when(assigned(), at=datetime(2026, 1, 15, 4, 30, tzinfo=UTC))
    contract.then(TaskPriced, task_id=T1)
    contract.then(TransactionApplied, business_date=date(2026, 1, 14), period=date(2026, 1, 14))
    contract.then_nothing_else()
