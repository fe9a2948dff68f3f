"""The accounting slice as others see it: what each event does to a worker's account."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from contracts.accounting import TaskPriced, TransactionApplied
from contracts.tasks import TaskCommandRejected
from contracts.workers import WorkerDeactivated
from tests.contract.accounting import assigned, completed, created, price, statement
from tests.contract.cast import A2, ADA, BOB, NOBODY, T1, ahead, days_ago, numbered, worker

if TYPE_CHECKING:
    from contracts.message import Message
    from streams.contract_kit.scenario import Scenario

pytestmark = pytest.mark.slices("accounting")


# --- prices ----------------------------------------------------------------------------------------------------------


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


# --- fees and rewards ------------------------------------------------------------------------------------------------


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


# --- events that are dated ahead -------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [created(), assigned(), completed()], ids=lambda event: type(event).__name__)
async def test_an_event_from_the_future_is_parked(contract: Scenario, event: Message) -> None:
    """It changes nothing, not even the price, and holds nobody up."""
    await contract.when(event, at=ahead(minutes=6))
    contract.then_parked(reason="invalid", state="dead")
    contract.then_nothing_else()
    await contract.when(event, at=ahead(minutes=4))
    contract.then(TaskPriced, task_id=T1)


# --- workers, and what does not concern this slice -------------------------------------------------------------------


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
