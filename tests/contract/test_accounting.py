"""The accounting slice as others see it: what each event and each command does to a worker's account."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import accumulate, permutations
from typing import TYPE_CHECKING, Literal

import pytest

from contracts.accounting import AdjustBalance, ClosePeriod, PeriodClosed, TaskPriced, TransactionApplied
from contracts.fields import AMOUNT_MAX_MINOR, INT64_MAX
from contracts.tasks import TaskAssigned, TaskCommandRejected, TaskCompleted, TaskCreated
from contracts.workers import WorkerDeactivated
from streams.ledger.tables import ledger_account
from tests.contract.cast import A1, A2, ACE, ADA, BOB, MIA, NOBODY, T1, T2, ahead, day, days_ago, numbered, worker

if TYPE_CHECKING:
    from contracts.fields import Role
    from contracts.message import Message
    from streams.contract_kit.records import Received
    from streams.contract_kit.scenario import Scenario

pytestmark = pytest.mark.slices("accounting")


def created(task_id: str = T1) -> TaskCreated:
    return TaskCreated(task_id=task_id, title="Repaint")


def assigned(
    worker_id: str = ADA,
    task_id: str = T1,
    assignment_id: str = A1,
    reason: Literal["created", "reassigned"] = "created",
) -> TaskAssigned:
    return TaskAssigned(task_id=task_id, assignment_id=assignment_id, worker_id=worker_id, reason=reason)


def completed(worker_id: str = ADA, task_id: str = T1) -> TaskCompleted:
    return TaskCompleted(task_id=task_id, worker_id=worker_id, completed_at=datetime.now(UTC))


def adjust(
    amount_minor: int = 500, *, worker_id: str = ADA, currency: str = "USD", requested_by: str = ACE
) -> AdjustBalance:
    return AdjustBalance(
        worker_id=worker_id, amount_minor=amount_minor, currency=currency, note="made good", requested_by=requested_by
    )


def price(contract: Scenario, task_id: str = T1) -> TaskPriced:
    """What a task costs and earns, by the one event that says so."""
    (priced,) = contract.everything(TaskPriced, task_id=task_id)
    return priced.data


def statement(contract: Scenario, worker_id: str = ADA) -> list[int]:
    """The amounts of a worker's postings, after a check that they add up and none is missing."""
    postings = [one.data for one in contract.everything(TransactionApplied, worker_id=worker_id)]
    amounts = [posting.amount_minor for posting in postings]
    assert [posting.sequence for posting in postings] == list(range(1, len(postings) + 1))
    assert [posting.balance_after_minor for posting in postings] == list(accumulate(amounts))
    assert len({posting.transfer_id for posting in postings}) == len(postings)
    return amounts


# --- prices ---------------------------------------------------------------------------------------------------------


async def test_a_task_is_priced_when_it_is_created(contract: Scenario) -> None:
    """Fee and reward in the deployment's currency, under the task's key."""
    event = await contract.when(created(T1))
    priced = contract.then(TaskPriced, task_id=T1, currency="USD", key=T1, because_of=event)
    contract.then_nothing_else()
    assert priced.topic == "accounting.events"
    assert priced.attributes["ce_source"] == "payday/accounting"


@pytest.mark.parametrize("order", list(permutations(("created", "assigned", "completed"))), ids=" ".join)
async def test_a_price_is_fixed_by_whichever_event_comes_first(contract: Scenario, order: tuple[str, ...]) -> None:
    """One price per task, and every posting is of that price, in any order of the task's events."""
    events: dict[str, Message] = {"created": created(), "assigned": assigned(), "completed": completed()}
    expected = []
    for number, name in enumerate(order):
        event = await contract.when(events[name])
        if number == 0:
            contract.then(TaskPriced, task_id=T1, because_of=event)
        if name == "assigned":
            amount = -price(contract).fee_minor
            expected.append(amount)
            contract.then(TransactionApplied, kind="fee", amount_minor=amount, because_of=event)
        elif name == "completed":
            amount = price(contract).reward_minor
            expected.append(amount)
            contract.then(TransactionApplied, kind="reward", amount_minor=amount, because_of=event)
        contract.then_nothing_else()
    assert statement(contract) == expected


async def test_prices_stay_within_their_bounds_and_differ(contract: Scenario) -> None:
    """Fees from 10 to 20 dollars, rewards from 20 to 40."""
    await contract.when_together(*(created(numbered("11111111", number)) for number in range(300)))
    prices = [one.data for one in contract.then_each(TaskPriced, times=300)]
    contract.then_nothing_else()
    fees, rewards = [one.fee_minor for one in prices], [one.reward_minor for one in prices]
    assert 1000 <= min(fees) < 1100
    assert 1900 < max(fees) <= 2000
    assert 2000 <= min(rewards) < 2200
    assert 3800 < max(rewards) <= 4000
    assert len(set(zip(fees, rewards, strict=True))) > 290


# --- fees and rewards -----------------------------------------------------------------------------------------------


async def test_the_assignee_is_charged_the_fee(contract: Scenario) -> None:
    """The posting is whole: who, what for, how much, what is left, and for which day."""
    await contract.given(created())
    at = days_ago(1)
    event = await contract.when(assigned(), at=at)
    fee = price(contract).fee_minor
    charged = contract.then(
        TransactionApplied,
        worker_id=ADA,
        sequence=1,
        kind="fee",
        amount_minor=-fee,
        currency="USD",
        balance_after_minor=-fee,
        period=at.date(),
        business_date=at.date(),
        task_id=T1,
        payout_id=None,
        key=ADA,
        because_of=event,
    )
    contract.then_nothing_else()
    assert charged.attributes["ce_source"] == "payday/accounting"


async def test_the_reward_is_paid_at_completion(contract: Scenario) -> None:
    """It is added to what the fee has left."""
    await contract.given(created(), assigned())
    event = await contract.when(completed())
    one = price(contract)
    contract.then(
        TransactionApplied,
        worker_id=ADA,
        sequence=2,
        kind="reward",
        amount_minor=one.reward_minor,
        balance_after_minor=one.reward_minor - one.fee_minor,
        task_id=T1,
        key=ADA,
        because_of=event,
    )
    contract.then_nothing_else()


async def test_every_assignment_is_charged(contract: Scenario) -> None:
    """A reassignment costs the new assignee the same fee, also where it is the old one."""
    await contract.given(created(), assigned(ADA))
    fee = price(contract).fee_minor
    await contract.when(assigned(ADA, assignment_id=A2, reason="reassigned"))
    contract.then(TransactionApplied, worker_id=ADA, kind="fee", amount_minor=-fee, balance_after_minor=-2 * fee)
    contract.then_nothing_else()
    await contract.when(assigned(BOB, assignment_id=numbered("a3a3a3a3", 0), reason="reassigned"))
    contract.then(TransactionApplied, worker_id=BOB, kind="fee", amount_minor=-fee, sequence=1, key=BOB)
    contract.then_nothing_else()


async def test_an_assignment_is_charged_once(contract: Scenario) -> None:
    """The same assignment in another message, with a new id, is not charged again."""
    await contract.given(created(), assigned())
    await contract.when(assigned())
    contract.then_nothing_else()
    assert statement(contract) == [-price(contract).fee_minor]


async def test_a_task_is_rewarded_once(contract: Scenario) -> None:
    """Whatever says again that it is done, and whoever is said to have done it."""
    await contract.given(created(), assigned(), completed())
    await contract.when(completed(ADA))
    contract.then_nothing_else()
    await contract.when(completed(BOB))
    contract.then_nothing_else()
    assert statement(contract) == [-price(contract).fee_minor, price(contract).reward_minor]
    assert statement(contract, BOB) == []


async def test_postings_of_one_batch_follow_each_other(contract: Scenario) -> None:
    """Sequence and balance go on within a batch as they do between batches, for each account by itself."""
    tasks = [numbered("11111111", number) for number in range(40)]
    events: list[Message] = [
        assigned((ADA, BOB)[number % 2], task_id, numbered("a1a1a1a1", number)) for number, task_id in enumerate(tasks)
    ]
    events += [completed((ADA, BOB)[number % 2], task_id) for number, task_id in enumerate(tasks)]
    await contract.given(*events[:30])
    await contract.when_together(*events[30:])
    contract.then_each(TaskPriced, times=10)
    contract.then_each(TransactionApplied, times=50)
    contract.then_nothing_else()
    assert len(statement(contract, ADA)) == len(statement(contract, BOB)) == 40
    prices = [price(contract, task_id) for task_id in tasks]
    expected = sum(one.reward_minor - one.fee_minor for one in prices)
    assert sum(statement(contract, ADA)) + sum(statement(contract, BOB)) == expected


async def test_a_worker_need_not_be_known_to_be_charged(contract: Scenario) -> None:
    """Events of workers and of tasks come in any order."""
    await contract.when(assigned(NOBODY))
    contract.then(TaskPriced, task_id=T1)
    contract.then(TransactionApplied, worker_id=NOBODY, kind="fee")
    contract.then_nothing_else()


# --- adjustments ----------------------------------------------------------------------------------------------------


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


# --- periods --------------------------------------------------------------------------------------------------------


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


# --- events that are dated ahead --------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [created(), assigned(), completed()], ids=lambda event: type(event).__name__)
async def test_an_event_from_the_future_is_parked(contract: Scenario, event: Message) -> None:
    """It changes nothing, not even the price, and holds nobody up."""
    await contract.when(event, at=ahead(minutes=6))
    contract.then_parked(reason="invalid", state="dead")
    contract.then_nothing_else()
    await contract.when(event, at=ahead(minutes=4))
    contract.then(TaskPriced, task_id=T1)


# --- workers, and what does not concern this slice ------------------------------------------------------------------


async def test_worker_events_are_answered_by_nothing(contract: Scenario) -> None:
    """The slice takes note."""
    for event in (
        worker(ADA),
        worker(ADA, "admin"),
        WorkerDeactivated(worker_id=ADA),
        WorkerDeactivated(worker_id=BOB),
    ):
        await contract.when(event)
        contract.then_nothing_else()


async def test_a_rejected_task_command_does_not_concern_money(contract: Scenario) -> None:
    """A catalogued type that the slice has no use for is taken and leaves no trace."""
    rejection = TaskCommandRejected(
        command_id=NOBODY, command_type="tasks.create-task.v1", reason_code="task-exists", message="there is one"
    )
    await contract.when(rejection, key=T1)
    contract.then_nothing_else()


# --- duplicates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        created(T2),
        assigned(task_id=T2, assignment_id=A2),
        completed(task_id=T2),
        adjust(),
        adjust(requested_by=NOBODY),
        ClosePeriod(period=day(1)),
        ClosePeriod(period=day(0)),
        worker(BOB),
    ],
    ids=["created", "assigned", "completed", "adjust", "not-allowed", "close", "period-not-over", "registered"],
)
async def test_the_same_message_again_has_no_effect(contract: Scenario, message: Message) -> None:
    """Nothing is applied twice, nothing is answered twice."""
    await contract.given(worker(ADA), worker(ACE, "accountant"), assigned())
    sent = await contract.when(message)
    await contract.when_again(sent)
    contract.then_duplicate()
    statement(contract)


async def test_the_same_id_with_another_amount_is_parked(contract: Scenario) -> None:
    """Which of the two was meant, a person has to say; the first one stands."""
    await contract.given(worker(ADA), worker(ACE, "accountant"))
    first = await contract.when(adjust(500))
    contract.then(TransactionApplied, amount_minor=500)
    await contract.when(adjust(501), id=first.id)
    contract.then_parked(reason="id-conflict", state="dead")
    contract.then_nothing_else()
    await contract.when(adjust(1))
    contract.then(TransactionApplied, amount_minor=1, sequence=2, balance_after_minor=501)
    contract.then_nothing_else()


async def test_a_rejected_command_is_not_reconsidered(contract: Scenario) -> None:
    """The same command again stays rejected although it would be accepted now; a new one is accepted."""
    await contract.given(worker(ACE, "accountant"))
    refused = await contract.when(adjust())
    contract.then_rejected("unknown-worker")
    await contract.given(worker(ADA))
    await contract.when_again(refused)
    contract.then_duplicate()
    await contract.when(adjust())
    contract.then(TransactionApplied, amount_minor=500)
    contract.then_nothing_else()


async def test_a_batch_may_bring_everything_at_once(contract: Scenario) -> None:
    """Repeats, refusals and postings of one account in a single delivery."""
    await contract.given(worker(ADA), worker(ACE, "accountant"))
    first, _again, refused, last = await contract.when_together(
        adjust(500), adjust(500), adjust(1, requested_by=NOBODY), adjust(-200)
    )
    one: Received[TransactionApplied] = contract.then(TransactionApplied, sequence=1, because_of=first)
    contract.then(TransactionApplied, sequence=2, amount_minor=500)
    contract.then_rejected("not-allowed", refused)
    contract.then(TransactionApplied, sequence=3, balance_after_minor=800, because_of=last)
    contract.then_nothing_else()
    assert one.data.period == one.data.business_date <= datetime.now(UTC).date() + timedelta(days=1)
