"""Messages about money, and what they add up to."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

from contracts.accounting import AdjustBalance, TaskPriced, TransactionApplied
from contracts.tasks import TaskAssigned, TaskCompleted, TaskCreated
from tests.contract.cast import A1, ACE, ADA, T1

if TYPE_CHECKING:
    from streams.contract_kit.scenario import Scenario


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
