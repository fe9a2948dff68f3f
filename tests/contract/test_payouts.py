"""Commands about payouts: runs of days that are over, and paying again what came back.

The bank of these tests refuses amounts that end in 13 cents and books any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from contracts.accounting import ClosePeriod, PeriodClosed, TransactionApplied
from contracts.message import Message
from contracts.payouts import (
    PayoutConfirmed,
    PayoutFailed,
    PayoutRequested,
    PayoutReversed,
    PayoutsCommandRejected,
    Reissue,
    RunCompleted,
    StartRun,
)
from contracts.workers import WorkerDeactivated
from streams.contract_kit.bank import REFUSED_CENTS
from tests.contract.accounting import adjust, assigned, completed, price, statement
from tests.contract.cast import A2, ACE, ADA, BOB, CYD, MIA, NOBODY, ahead, day, days_ago, worker

if TYPE_CHECKING:
    from contracts.fields import Role
    from streams.contract_kit.records import Received
    from streams.contract_kit.scenario import Scenario

pytestmark = pytest.mark.slices("accounting", "payouts")

REFUSED = 500 + REFUSED_CENTS
"""An amount that the bank refuses."""


async def earn(contract: Scenario, amount_minor: int = 500, worker_id: str = ADA, days_before: int = 2) -> None:
    """Somebody is owed something since an earlier day."""
    await contract.given(worker(worker_id), worker(ACE, "accountant"), at=days_ago(9))
    await contract.given(adjust(amount_minor, worker_id=worker_id), at=days_ago(days_before))


# --- runs ------------------------------------------------------------------------------------------------------------


async def test_a_run_pays_what_is_owed(contract: Scenario) -> None:
    """The period is closed, the money taken, the bank asked, and the end is told; all of it because of the command."""
    await earn(contract, 500)
    command = await contract.when(StartRun(period=day(2)))
    contract.then(PeriodClosed(period=day(2)), because_of=command)
    requested = contract.then(
        PayoutRequested, worker_id=ADA, period=day(2), amount_minor=500, currency="USD", key=ADA, because_of=command
    )
    contract.then(
        TransactionApplied,
        worker_id=ADA,
        sequence=2,
        kind="payout",
        amount_minor=-500,
        balance_after_minor=0,
        period=day(2),
        payout_id=requested.data.payout_id,
        because_of=command,
    )
    contract.then(
        PayoutConfirmed,
        payout_id=requested.data.payout_id,
        amount_minor=500,
        provider_ref=f"ref-{requested.data.payout_id}",
        reason_code=None,
        because_of=command,
    )
    contract.then(
        RunCompleted(period=day(2), paid_count=1, failed_count=0, total_minor=500, currency="USD"),
        key=str(day(2)),
        because_of=command,
    )
    contract.then_nothing_else()


async def test_a_task_is_paid_out_as_its_reward_less_its_fee(contract: Scenario) -> None:
    """From the assignment to the bank."""
    await contract.given(assigned(), completed(), at=days_ago(2))
    one = price(contract)
    await contract.when(StartRun(period=day(2)))
    paid = one.reward_minor - one.fee_minor
    if paid > 0:
        contract.then(PayoutRequested, worker_id=ADA, amount_minor=paid)
    assert statement(contract)[:2] == [-one.fee_minor, one.reward_minor]


async def test_everybody_who_is_owed_something_is_paid(contract: Scenario) -> None:
    """Nobody else is: not who owes, nor who is owed nothing up to that day."""
    await contract.given(worker(ADA), worker(BOB), worker(CYD), worker(ACE, "accountant"), at=days_ago(9))
    await contract.given(adjust(500), adjust(200, worker_id=BOB), adjust(-100, worker_id=CYD), at=days_ago(2))
    await contract.given(adjust(40), adjust(900, worker_id=CYD), at=days_ago(1))
    await contract.when(StartRun(period=day(2)))
    contract.then(PayoutRequested, worker_id=ADA, amount_minor=500)
    contract.then(PayoutRequested, worker_id=BOB, amount_minor=200)
    contract.then_each(PayoutRequested, times=0)
    contract.then(RunCompleted, paid_count=2, total_minor=700)


async def test_a_run_without_anything_to_pay_is_completed(contract: Scenario) -> None:
    """Its period is closed all the same."""
    await contract.when(StartRun(period=day(1)))
    contract.then(PeriodClosed(period=day(1)))
    contract.then(RunCompleted, paid_count=0, failed_count=0, total_minor=0)
    contract.then_nothing_else()


async def test_a_missed_day_is_caught_up_by_the_next_run(contract: Scenario) -> None:
    """Its own run is then refused: nothing is left of it."""
    await earn(contract, 500, days_before=3)
    await contract.when(StartRun(period=day(1)))
    contract.then(PeriodClosed(period=day(1)))
    contract.then(PayoutRequested, amount_minor=500, period=day(1))
    await contract.when(StartRun(period=day(3)))
    contract.then_rejected("superseded", key=str(day(3)))
    contract.then_nothing_else()


async def test_a_run_that_exists_is_not_started_again(contract: Scenario) -> None:
    """A command with another id has no effect either."""
    await earn(contract)
    await contract.given(StartRun(period=day(2)))
    await contract.when(StartRun(period=day(2)))
    contract.then_nothing_else()


async def test_two_runs_at_once_pay_once(contract: Scenario) -> None:
    """Of two commands for one day the first one counts."""
    await earn(contract)
    first, _second = await contract.when_together(StartRun(period=day(2)), StartRun(period=day(2)))
    contract.then(PayoutRequested, amount_minor=500, because_of=first)
    contract.then_each(PayoutRequested, times=0)


async def test_a_period_that_is_closed_already_is_paid(contract: Scenario) -> None:
    """It is not closed a second time."""
    await earn(contract)
    await contract.given(ClosePeriod(period=day(1)))
    await contract.when(StartRun(period=day(2)))
    contract.then(PayoutRequested, amount_minor=500, period=day(2))
    contract.then_each(PeriodClosed, times=0)


@pytest.mark.parametrize("days_ahead", [0, 1, 400])
async def test_a_day_that_is_not_over_is_not_paid(contract: Scenario, days_ahead: int) -> None:
    """Neither today nor a day to come."""
    await earn(contract)
    await contract.when(StartRun(period=day(-days_ahead)))
    contract.then_rejected("period-not-over", key=str(day(-days_ahead)))
    contract.then_nothing_else()


async def test_a_run_from_the_future_is_refused(contract: Scenario) -> None:
    """A command dated ahead is not believed, though its day is over."""
    await contract.when(StartRun(period=day(2)), at=ahead(hours=1))
    contract.then_rejected("future-date", key=str(day(2)))
    contract.then_nothing_else()


async def test_what_is_late_is_paid_by_the_next_run(contract: Scenario) -> None:
    """A posting of a day that is closed counts for the next one."""
    await earn(contract, 500)
    await contract.given(StartRun(period=day(2)))
    await contract.given(adjust(70), at=days_ago(2))
    await contract.when(StartRun(period=day(1)))
    contract.then(PayoutRequested, amount_minor=70, period=day(1))
    contract.then(PayoutConfirmed, amount_minor=70)


# --- what the bank refuses -------------------------------------------------------------------------------------------


async def test_a_refused_payout_is_back_on_the_balance(contract: Scenario) -> None:
    """Failed, then reversed, for the bank's reason; the run counts it as failed."""
    await earn(contract, REFUSED)
    command = await contract.when(StartRun(period=day(2)))
    contract.then(PeriodClosed)
    requested = contract.then(PayoutRequested, amount_minor=REFUSED)
    payout_id = requested.data.payout_id
    contract.then(TransactionApplied, kind="payout", amount_minor=-REFUSED)
    contract.then(PayoutFailed, payout_id=payout_id, reason_code="account-closed", key=ADA, because_of=command)
    contract.then(PayoutReversed, payout_id=payout_id, reason_code="account-closed", key=ADA, because_of=command)
    contract.then(
        TransactionApplied,
        kind="payout-reversal",
        amount_minor=REFUSED,
        sequence=3,
        balance_after_minor=REFUSED,
        payout_id=payout_id,
        period=day(0),
        because_of=command,
    )
    contract.then(RunCompleted, paid_count=0, failed_count=1, total_minor=0)
    contract.then_nothing_else()


async def test_the_next_run_pays_what_came_back(contract: Scenario) -> None:
    """Together with what was earned since, so that this time the bank takes it."""
    await earn(contract, REFUSED, days_before=3)
    await contract.given(StartRun(period=day(3)), at=days_ago(2))
    await contract.given(adjust(100 - REFUSED_CENTS), at=days_ago(1))
    await contract.when(StartRun(period=day(1)))
    contract.then(PayoutRequested, amount_minor=600, period=day(1))
    contract.then(PayoutConfirmed, amount_minor=600)
    contract.then(RunCompleted, paid_count=1, total_minor=600)


# --- paying again ----------------------------------------------------------------------------------------------------


async def reversed_payout(contract: Scenario) -> Received[PayoutReversed]:
    """A payout that the bank has refused, today."""
    await earn(contract, REFUSED)
    await contract.given(StartRun(period=day(2)))
    return contract.earlier(PayoutReversed)


@pytest.mark.parametrize("role", ["accountant", "admin"])
async def test_a_reversed_payout_is_paid_again(contract: Scenario, role: Role) -> None:
    """Under an id of its own, in the period of the reversal; the bank refuses this amount again."""
    back = await reversed_payout(contract)
    await contract.given(worker(MIA, role))
    command = await contract.when(Reissue(payout_id=back.data.payout_id, requested_by=MIA))
    again = contract.then(
        PayoutRequested, worker_id=ADA, period=day(2), amount_minor=REFUSED, key=ADA, because_of=command
    )
    assert again.data.payout_id != back.data.payout_id
    contract.then(
        TransactionApplied,
        kind="payout",
        amount_minor=-REFUSED,
        balance_after_minor=0,
        period=day(0),
        payout_id=again.data.payout_id,
        because_of=command,
    )
    contract.then(PayoutFailed, payout_id=again.data.payout_id, because_of=command)
    contract.then(PayoutReversed, payout_id=again.data.payout_id, because_of=command)
    contract.then(TransactionApplied, kind="payout-reversal", payout_id=again.data.payout_id, because_of=command)
    contract.then_nothing_else()


async def test_a_payout_is_paid_again_once(contract: Scenario) -> None:
    """The second one, should it come back, can be paid again in its turn."""
    first = (await reversed_payout(contract)).data.payout_id
    await contract.given(Reissue(payout_id=first, requested_by=ACE))
    second = contract.everything(PayoutReversed)[1].data.payout_id
    await contract.when(Reissue(payout_id=first, requested_by=ACE))
    contract.then_rejected("already-reissued", key=first)
    contract.then_nothing_else()
    await contract.when(Reissue(payout_id=second, requested_by=ACE))
    contract.then(PayoutRequested)


async def test_two_requests_in_one_batch_pay_again_once(contract: Scenario) -> None:
    """The second one sees what the first has done."""
    payout_id = (await reversed_payout(contract)).data.payout_id
    again = Reissue(payout_id=payout_id, requested_by=ACE)
    first, second = await contract.when_together(again, again)
    contract.then(PayoutRequested, because_of=first)
    contract.then_rejected("already-reissued", second)


async def test_a_payout_that_was_paid_is_not_paid_again(contract: Scenario) -> None:
    """Only one whose money is back."""
    await earn(contract, 500)
    await contract.given(StartRun(period=day(2)))
    payout_id = contract.earlier(PayoutConfirmed).data.payout_id
    await contract.when(Reissue(payout_id=payout_id, requested_by=ACE))
    contract.then_rejected("not-reversed", key=payout_id)
    contract.then_nothing_else()


async def test_an_unknown_payout_is_not_paid_again(contract: Scenario) -> None:
    """A mistyped id pays nobody."""
    await contract.given(worker(ACE, "accountant"))
    await contract.when(Reissue(payout_id=A2, requested_by=ACE))
    rejected = contract.then_rejected("unknown-payout", key=A2)
    assert isinstance(rejected.data, PayoutsCommandRejected)
    contract.then_nothing_else()


async def test_who_may_not_move_money_does_not_pay_again(contract: Scenario) -> None:
    """Workers, managers, strangers, and who has left."""
    payout_id = (await reversed_payout(contract)).data.payout_id
    await contract.given(worker(MIA, "manager"), WorkerDeactivated(worker_id=ACE))
    for somebody in (ADA, MIA, ACE, NOBODY):
        await contract.when(Reissue(payout_id=payout_id, requested_by=somebody))
        contract.then_rejected("not-allowed", key=payout_id)
        contract.then_nothing_else()


async def test_money_that_has_been_spent_is_not_paid_again(contract: Scenario) -> None:
    """The balance must cover it."""
    payout_id = (await reversed_payout(contract)).data.payout_id
    await contract.given(adjust(-1))
    await contract.when(Reissue(payout_id=payout_id, requested_by=ACE))
    contract.then_rejected("insufficient-balance", key=payout_id)
    contract.then_nothing_else()


async def test_what_the_next_run_pays_is_not_paid_again(contract: Scenario) -> None:
    """Once the period in which the money came back is closed, its run pays it."""
    await earn(contract, REFUSED, days_before=4)
    await contract.given(StartRun(period=day(4)), at=days_ago(3))
    payout_id = contract.earlier(PayoutReversed).data.payout_id
    await contract.given(ClosePeriod(period=day(1)))
    await contract.when(Reissue(payout_id=payout_id, requested_by=ACE))
    contract.then_rejected("superseded", key=payout_id)
    contract.then_nothing_else()
    await contract.when(StartRun(period=day(1)))
    contract.then(PayoutRequested, amount_minor=REFUSED, period=day(1))


async def test_paying_again_is_not_undone_by_the_run_of_its_period(contract: Scenario) -> None:
    """Reversal and second payout count for the same period, so its run finds nothing left of them."""
    await earn(contract, REFUSED, days_before=4)
    await contract.given(StartRun(period=day(4)), at=days_ago(3))
    payout_id = contract.earlier(PayoutReversed).data.payout_id
    await contract.given(Reissue(payout_id=payout_id, requested_by=ACE), at=days_ago(1))
    assert contract.everything(TransactionApplied, kind="payout")[1].data.period == day(3)
    await contract.when(StartRun(period=day(3)))
    back = contract.everything(PayoutReversed)[1]
    contract.then_each(PayoutRequested, times=0)
    assert back.data.payout_id != payout_id


async def test_a_request_from_the_future_is_refused(contract: Scenario) -> None:
    """Beyond the clock skew, whoever asks."""
    await contract.given(worker(ACE, "accountant"))
    await contract.when(Reissue(payout_id=A2, requested_by=ACE), at=ahead(hours=1))
    contract.then_rejected("future-date", key=A2)
    contract.then_nothing_else()


async def test_what_follows_keeps_the_correlation_of_its_command(contract: Scenario) -> None:
    """Also what the bank's answer brings about."""
    await earn(contract, REFUSED)
    before = len(contract.everything(Message))
    await contract.when(StartRun(period=day(2)), correlation_id="the evening's run")
    told = contract.everything(Message)[before:]
    assert len(told) == 7
    assert {one.correlation_id for one in told} == {"the evening's run"}
