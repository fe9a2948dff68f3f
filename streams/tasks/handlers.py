"""How messages reach the tasks slice: one subscription, one FastStream handler."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from faststream.confluent import KafkaRouter

from contracts.catalog import entry_of
from contracts.tasks import CompleteTask, CreateTask, ReassignOpenTasks
from contracts.workers import WorkerDeactivated, WorkerRegistered
from streams.intake.batch import Batch
from streams.intake.deciders import Deciders
from streams.middleware.unit_of_work import Work
from streams.tasks import domain
from streams.tasks.domain import ActiveWorkersKey, ReassignmentKey, TaskKey, WorkerKey
from streams.tasks.store import task_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.middleware.intake import Intake
    from streams.tasks.domain import Rules

__all__ = ["GROUP", "TOPICS", "deciders", "router"]

GROUP = "tasks"
TOPICS = ("workers.events", "tasks.commands", "tasks.admin-commands")
UNHELD_TOPICS = ("tasks.admin-commands",)
"""All its commands share one key, so one that fails must not keep the others waiting."""

Handled = CreateTask | CompleteTask | ReassignOpenTasks | WorkerRegistered | WorkerDeactivated


def deciders(rules: Rules, wake_reassigner: Callable[[], None]) -> Deciders:
    """The slice's decisions, bound to a deployment's rules."""
    decisions = Deciders(task_rows(wake_reassigner))
    decisions.add(
        WorkerRegistered,
        domain.register_worker,
        needs=lambda event, _cause: (WorkerKey(event.worker_id), ActiveWorkersKey()),
    )
    decisions.add(
        WorkerDeactivated,
        domain.deactivate_worker,
        needs=lambda event, _cause: (WorkerKey(event.worker_id), ActiveWorkersKey()),
    )
    decisions.add(
        CreateTask,
        partial(domain.create_task, rules),
        needs=lambda command, _cause: (TaskKey(command.task_id), ActiveWorkersKey()),
    )
    decisions.add(
        CompleteTask,
        partial(domain.complete_task, rules),
        needs=lambda command, _cause: (TaskKey(command.task_id),),
    )
    decisions.add(
        ReassignOpenTasks,
        partial(domain.reassign_open_tasks, rules),
        needs=lambda command, cause: (
            WorkerKey(command.requested_by),
            ActiveWorkersKey(),
            ReassignmentKey(cause.id),
        ),
    )
    return decisions


def router(intake: Intake, rules: Rules, wake_reassigner: Callable[[], None]) -> KafkaRouter:
    """The slice's part of the app."""
    decisions = deciders(rules, wake_reassigner)
    subscription = intake.subscribe(
        *TOPICS,
        group=GROUP,
        accepts=[entry_of(contract).type_name for contract in decisions.message_types],
        unheld_topics=UNHELD_TOPICS,
    )
    slice_router = KafkaRouter()

    @slice_router.subscriber(*subscription.topics, **intake.options(subscription))  # type: ignore[untyped-decorator]
    async def tasks(batch: Batch[Handled], work: Work) -> None:
        """Decides about tasks: who does them, and when they are done."""
        await decisions.decide(batch, work)

    return slice_router
