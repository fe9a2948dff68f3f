"""All slices together: one command goes in, and everything that follows from it comes out."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING

from contracts.accounting import (
    AccountingCommandRejected,
    AdjustBalance,
    ClosePeriod,
    PeriodClosed,
    TaskPriced,
    TransactionApplied,
)
from contracts.message import Message
from contracts.rejections import CommandRejected
from contracts.tasks import (
    CompleteTask,
    CreateTask,
    ReassignOpenTasks,
    TaskAssigned,
    TaskCommandRejected,
    TaskCompleted,
    TaskCreated,
)
from contracts.workers import WorkerDeactivated
from tests.contract.cast import ACE, ADA, BOB, CYD, MIA, NOBODY, T1, T2, day, days_ago, numbered, worker

if TYPE_CHECKING:
    from streams.contract_kit.records import Received
    from streams.contract_kit.scenario import Scenario


def create(task_id: str = T1) -> CreateTask:
    return CreateTask(task_id=task_id, title="Repaint")


async def test_creating_a_task_charges_its_assignee(contract: Scenario) -> None:
    """Tasks says what happened, accounting what it costs; each event names the one that caused it."""
    await contract.given(worker(ADA))
    command = await contract.when(create())
    created = contract.then(TaskCreated, task_id=T1, because_of=command)
    assigned = contract.then(TaskAssigned, task_id=T1, worker_id=ADA, because_of=command)
    priced = contract.then(TaskPriced, task_id=T1, because_of=created)
    fee = priced.data.fee_minor
    contract.then(TransactionApplied, worker_id=ADA, kind="fee", amount_minor=-fee, because_of=assigned)
    contract.then_nothing_else()


async def test_completing_a_task_pays_its_assignee(contract: Scenario) -> None:
    """The balance is then the reward less the fee."""
    await contract.given(worker(ADA), create())
    command = await contract.when(CompleteTask(task_id=T1, worker_id=ADA))
    completed = contract.then(TaskCompleted, task_id=T1, because_of=command)
    price = contract.earlier(TaskPriced, task_id=T1).data
    contract.then(
        TransactionApplied,
        worker_id=ADA,
        sequence=2,
        kind="reward",
        amount_minor=price.reward_minor,
        balance_after_minor=price.reward_minor - price.fee_minor,
        because_of=completed,
    )
    contract.then_nothing_else()


async def test_reassigning_charges_every_new_assignee(contract: Scenario) -> None:
    """Each open task costs its fee once more, whoever is drawn."""
    tasks = [numbered("11111111", number) for number in range(30)]
    await contract.given(worker(MIA, "manager"), worker(ADA), *map(create, tasks))
    await contract.given(worker(BOB))
    await contract.when(ReassignOpenTasks(requested_by=MIA))
    fees = {one.data.task_id: -one.data.fee_minor for one in contract.everything(TaskPriced)}
    for assigned in contract.then_each(TaskAssigned, reason="reassigned", times=30):
        task_id = assigned.data.task_id
        contract.then(
            TransactionApplied,
            worker_id=assigned.data.worker_id,
            kind="fee",
            task_id=task_id,
            amount_minor=fees[task_id],
            because_of=assigned,
        )
    contract.then_nothing_else()


async def test_everything_that_follows_keeps_the_correlation_of_the_first_command(contract: Scenario) -> None:
    """Across slices, and also where the command carries none: then it is the command's id."""
    await contract.given(worker(ADA))
    command = await contract.when(create(T1))
    assert {one.correlation_id for one in _all(contract, 4)} == {command.id}
    await contract.when(create(T2), correlation_id="order 17")
    assert {one.correlation_id for one in _all(contract, 8)[4:]} == {"order 17"}


async def test_each_type_has_its_topic_its_key_and_its_source(contract: Scenario) -> None:
    """Spelled out once, as consumers elsewhere rely on it."""
    await contract.given(worker(ADA), worker(MIA, "manager"), worker(ACE, "accountant"), create(T1))
    await contract.given(CompleteTask(task_id=T1, worker_id=ADA), ClosePeriod(period=day(1)))
    await contract.when_together(
        create(T1), AdjustBalance(worker_id=NOBODY, amount_minor=1, currency="USD", note="", requested_by=ACE)
    )
    seen = {
        (one.type, one.topic, (one.key or b"").decode(), one.attributes["ce_source"])
        for one in contract.everything(Message)
    }
    assert seen == {
        ("tasks.task-created.v1", "tasks.events", T1, "payday/tasks"),
        ("tasks.task-assigned.v1", "tasks.events", T1, "payday/tasks"),
        ("tasks.task-completed.v1", "tasks.events", T1, "payday/tasks"),
        ("tasks.command-rejected.v1", "tasks.events", T1, "payday/tasks"),
        ("accounting.task-priced.v1", "accounting.events", T1, "payday/accounting"),
        ("accounting.transaction-applied.v1", "accounting.events", ADA, "payday/accounting"),
        ("accounting.period-closed.v1", "accounting.events", str(day(1)), "payday/accounting"),
        ("accounting.command-rejected.v1", "accounting.events", NOBODY, "payday/accounting"),
    }


async def test_an_event_that_the_relay_repeats_is_not_applied_twice(contract: Scenario) -> None:
    """Publishing is at least once, so accounting may read any event of tasks again."""
    await contract.given(worker(ADA), create(T1), CompleteTask(task_id=T1, worker_id=ADA))
    for event in (contract.earlier(TaskCreated), contract.earlier(TaskAssigned), contract.earlier(TaskCompleted)):
        await contract.when_again(event)
        contract.then_duplicate()


async def test_each_rejected_command_is_answered_once(contract: Scenario) -> None:
    """By the slice that it was sent to, and by no other."""
    await contract.given(worker(ADA), create(T1))
    late, again, poor = await contract.when_together(
        CompleteTask(task_id=T2, worker_id=ADA),
        create(T1),
        AdjustBalance(worker_id=ADA, amount_minor=1, currency="USD", note="", requested_by=ADA),
    )
    assert isinstance(contract.then_rejected("unknown-task", late).data, TaskCommandRejected)
    assert isinstance(contract.then_rejected("task-exists", again).data, TaskCommandRejected)
    assert isinstance(contract.then_rejected("not-allowed", poor).data, AccountingCommandRejected)
    contract.then_nothing_else()
    assert len(contract.everything(CommandRejected)) == 3


async def test_a_worker_who_leaves_is_known_to_have_left_everywhere(contract: Scenario) -> None:
    """Both slices read the same events of workers."""
    await contract.given(worker(MIA, "admin"), worker(ADA), create(T1), WorkerDeactivated(worker_id=MIA))
    reassign, adjust = await contract.when_together(
        ReassignOpenTasks(requested_by=MIA),
        AdjustBalance(worker_id=ADA, amount_minor=1, currency="USD", note="", requested_by=MIA),
    )
    contract.then_rejected("not-allowed", reassign, key="all")
    contract.then_rejected("not-allowed", adjust, key=ADA)
    contract.then_nothing_else()


async def test_a_late_task_is_counted_for_an_open_period(contract: Scenario) -> None:
    """The command's time decides about the business date of a posting two messages later."""
    await contract.given(worker(ADA), ClosePeriod(period=day(2)))
    await contract.when(create(), at=days_ago(4))
    charged = contract.then(TransactionApplied, kind="fee", business_date=day(4), period=day(1))
    assert charged.time_ms == round(days_ago(4).timestamp() * 1000)


async def test_a_busy_day_adds_up(contract: Scenario) -> None:
    """Hundreds of tasks, three workers, a reassignment: every balance is its postings, and every cent has a reason."""
    tasks = [numbered("11111111", number) for number in range(300)]
    await contract.given(worker(MIA, "manager"), worker(ADA), worker(BOB), worker(CYD), *map(create, tasks))
    await contract.given(ReassignOpenTasks(requested_by=MIA))
    assignee = {one.data.task_id: one.data.worker_id for one in contract.everything(TaskAssigned)}
    await contract.when_together(*(CompleteTask(task_id=one, worker_id=assignee[one]) for one in tasks[:200]))
    contract.then_each(TaskCompleted, times=200)
    contract.then_each(TransactionApplied, kind="reward", times=200)
    contract.then_nothing_else()
    prices = {one.data.task_id: one.data for one in contract.everything(TaskPriced)}
    expected: Counter[str] = Counter()
    for one in contract.everything(TaskAssigned):
        expected[one.data.worker_id] -= prices[one.data.task_id].fee_minor
    for done in contract.everything(TaskCompleted):
        expected[done.data.worker_id] += prices[done.data.task_id].reward_minor
    for worker_id in (ADA, BOB, CYD):
        postings = [one.data for one in contract.everything(TransactionApplied, worker_id=worker_id)]
        assert [one.sequence for one in postings] == list(range(1, len(postings) + 1))
        assert [one.balance_after_minor for one in postings] == list(accumulate(one.amount_minor for one in postings))
        assert postings[-1].balance_after_minor == expected[worker_id]
    assert not contract.everything(PeriodClosed)


def _all(contract: Scenario, number: int) -> list[Received[Message]]:
    """Everything that was emitted, when it should be so many."""
    every = contract.everything(Message)
    assert len(every) == number
    return every
