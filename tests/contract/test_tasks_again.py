"""Messages that the tasks slice sees again: duplicates, and ids that name two things."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from contracts.tasks import (
    CompleteTask,
    CreateTask,
    ReassignOpenTasks,
    TaskAssigned,
    TaskCompleted,
    TaskCreated,
)
from contracts.workers import WorkerDeactivated
from tests.contract.cast import ADA, BOB, MIA, T1, T2, create, worker

if TYPE_CHECKING:
    from streams.contract_kit.scenario import Scenario

pytestmark = pytest.mark.slices("tasks")


@pytest.mark.parametrize(
    "message",
    [
        create(T2),
        create(T1),
        CompleteTask(task_id=T1, worker_id=ADA),
        CompleteTask(task_id=T1, worker_id=BOB),
        ReassignOpenTasks(requested_by=MIA),
        ReassignOpenTasks(requested_by=ADA),
        worker(BOB),
        WorkerDeactivated(worker_id=ADA),
    ],
    ids=["create", "task-exists", "complete", "not-the-assignee", "reassign", "not-allowed", "registered", "left"],
)
async def test_the_same_message_again_has_no_effect(
    contract: Scenario, message: CreateTask | CompleteTask | ReassignOpenTasks | WorkerDeactivated
) -> None:
    """Accepted or rejected, the second time there is no event."""
    await contract.given(worker(MIA, "manager"), worker(ADA), create(T1))
    sent = await contract.when(message)
    await contract.when_again(sent)
    contract.then_duplicate()


async def test_a_duplicate_within_one_batch_has_no_effect(contract: Scenario) -> None:
    """Also where the first one is not committed yet."""
    await contract.given(worker(ADA))
    record = await contract.when(create(T1))
    contract.then(TaskCreated, task_id=T1)
    contract.then(TaskAssigned, task_id=T1)
    await contract.when_again(record, record)
    contract.then_nothing_else()


async def test_the_same_id_with_another_body_is_parked(contract: Scenario) -> None:
    """Two different messages cannot both be the one with that id; the key is not held."""
    await contract.given(worker(ADA))
    first = await contract.when(create(T1))
    contract.then(TaskCreated, task_id=T1)
    contract.then(TaskAssigned, task_id=T1)
    await contract.when(CreateTask(task_id=T1, title="Another"), id=first.id)
    contract.then_parked(reason="id-conflict", state="dead")
    contract.then_nothing_else()
    await contract.when(CompleteTask(task_id=T1, worker_id=ADA))
    contract.then(TaskCompleted, task_id=T1)
    contract.then_nothing_else()


async def test_the_same_id_with_another_type_is_parked(contract: Scenario) -> None:
    """A sender that numbers each kind of command by itself must not lose any of them in silence."""
    await contract.given(worker(ADA))
    first = await contract.when(create(T1))
    contract.then(TaskCreated, task_id=T1)
    contract.then(TaskAssigned, task_id=T1)
    await contract.when(CompleteTask(task_id=T1, worker_id=ADA), id=first.id)
    contract.then_parked(reason="id-conflict", state="dead")
    contract.then_nothing_else()


async def test_the_same_id_of_another_source_is_another_message(contract: Scenario) -> None:
    """CloudEvents promises that source and id together are unique."""
    await contract.given(worker(ADA))
    first = await contract.when(create(T1), source="one")
    await contract.when(create(T2), id=first.id, source="another")
    contract.then(TaskCreated, task_id=T2)
    contract.then(TaskAssigned, task_id=T2)
    contract.then_nothing_else()
