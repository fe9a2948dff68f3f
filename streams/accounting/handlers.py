"""How messages reach the accounting slice: one subscription, one FastStream handler."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from faststream.confluent import KafkaRouter

from contracts.accounting import AdjustBalance, ClosePeriod
from contracts.catalog import entry_of
from contracts.tasks import TaskAssigned, TaskCompleted, TaskCreated
from contracts.workers import WorkerDeactivated, WorkerRegistered
from streams.accounting import domain
from streams.accounting.domain import PriceKey, adjustment_ref, fee_ref, reward_ref
from streams.accounting.store import accounting_rows
from streams.intake.batch import Batch
from streams.intake.deciders import Deciders
from streams.ledger.directory import WorkerKey
from streams.ledger.domain import BookClosingKey, BookKey, posting_keys
from streams.middleware.unit_of_work import Work

if TYPE_CHECKING:
    from streams.accounting.domain import Rules
    from streams.middleware.intake import Intake

__all__ = ["GROUP", "TOPICS", "deciders", "router"]

GROUP = "accounting"
TOPICS = ("workers.events", "tasks.events", "accounting.commands", "accounting.admin-commands")
UNHELD_TOPICS = ("accounting.admin-commands",)
"""All its commands share one key, so one that fails must not keep the others waiting."""

Handled = (
    TaskCreated | TaskAssigned | TaskCompleted | AdjustBalance | ClosePeriod | WorkerRegistered | WorkerDeactivated
)


def deciders(rules: Rules) -> Deciders:
    """The slice's decisions, bound to a deployment's rules."""
    decisions = Deciders(accounting_rows())
    decisions.add(WorkerRegistered, domain.register_worker, needs=lambda event, _cause: (WorkerKey(event.worker_id),))
    decisions.add(
        WorkerDeactivated, domain.deactivate_worker, needs=lambda event, _cause: (WorkerKey(event.worker_id),)
    )
    decisions.add(
        TaskCreated,
        partial(domain.task_created, rules),
        needs=lambda event, _cause: (PriceKey(event.task_id),),
    )
    decisions.add(
        TaskAssigned,
        partial(domain.task_assigned, rules),
        needs=lambda event, _cause: (
            PriceKey(event.task_id),
            *posting_keys(event.worker_id, fee_ref(event.assignment_id)),
        ),
    )
    decisions.add(
        TaskCompleted,
        partial(domain.task_completed, rules),
        needs=lambda event, _cause: (
            PriceKey(event.task_id),
            *posting_keys(event.worker_id, reward_ref(event.task_id)),
        ),
    )
    decisions.add(
        AdjustBalance,
        partial(domain.adjust_balance, rules),
        needs=lambda command, cause: (
            WorkerKey(command.worker_id),
            WorkerKey(command.requested_by),
            *posting_keys(command.worker_id, adjustment_ref(cause.id)),
        ),
    )
    decisions.add(
        ClosePeriod,
        partial(domain.close_period, rules),
        needs=lambda _command, _cause: (BookClosingKey(), BookKey()),
    )
    return decisions


def router(intake: Intake, rules: Rules) -> KafkaRouter:
    """The slice's part of the app."""
    decisions = deciders(rules)
    subscription = intake.subscribe(
        *TOPICS,
        group=GROUP,
        accepts=[entry_of(contract).type_name for contract in decisions.message_types],
        unheld_topics=UNHELD_TOPICS,
    )
    slice_router = KafkaRouter()

    @slice_router.subscriber(*subscription.topics, **intake.options(subscription))  # type: ignore[untyped-decorator]
    async def accounting(batch: Batch[Handled], work: Work) -> None:
        """Turns tasks into money: prices, postings, corrections, periods."""
        await decisions.decide(batch, work)

    return slice_router
