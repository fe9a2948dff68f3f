"""The tasks slice as others see it: what it answers to each command and each event that it reads."""

from __future__ import annotations

from datetime import UTC, datetime
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
from tests.contract.cast import ACE, ADA, BOB, CYD, MIA, NOBODY, T1, T2, ahead, create, numbered, worker

if TYPE_CHECKING:
    from contracts.fields import Role
    from streams.contract_kit.scenario import Scenario

pytestmark = pytest.mark.slices("tasks")


# --- creating --------------------------------------------------------------------------------------------------------


async def test_a_task_is_assigned_when_it_is_created(contract: Scenario) -> None:
    """The creation and the first assignment are two events of one command, in this order, under the task's key."""
    await contract.given(worker(ADA))
    command = await contract.when(create(T1))
    contract.then(TaskCreated(task_id=T1, title="[POP-1] - Repaint"), key=T1, because_of=command)
    assigned = contract.then(TaskAssigned, task_id=T1, worker_id=ADA, reason="created", key=T1, because_of=command)
    contract.then_nothing_else()
    assert assigned.attributes["ce_source"] == "payday/tasks"
    assert assigned.topic == "tasks.events"


async def test_events_carry_the_time_and_the_correlation_of_their_command(contract: Scenario) -> None:
    """What an event says about itself comes from the command, not from when and where it was handled."""
    await contract.given(worker(ADA))
    at = datetime(2026, 3, 4, 5, 6, 7, 891000, tzinfo=UTC)
    await contract.when(create(), at=at, correlation_id="order 17", headers={"traceparent": "00-0af7-b7ad-01"})
    contract.then(TaskCreated, task_id=T1)
    assigned = contract.then(TaskAssigned, task_id=T1)
    assert assigned.attributes["ce_time"] == "2026-03-04T05:06:07.891Z"
    assert assigned.attributes["ce_correlationid"] == "order 17"
    assert assigned.attributes["traceparent"] == "00-0af7-b7ad-01"


async def test_nobody_but_an_active_worker_is_assigned_a_task(contract: Scenario) -> None:
    """Managers, accountants and admins do no tasks, nor do workers who have left."""
    await contract.given(
        worker(MIA, "manager"), worker(ACE, "accountant"), worker(CYD, "admin"), worker(ADA), worker(BOB)
    )
    await contract.given(WorkerDeactivated(worker_id=BOB))
    tasks = [create(numbered("11111111", number)) for number in range(20)]
    await contract.when_together(*tasks)
    contract.then_each(TaskCreated, times=20)
    contract.then_each(TaskAssigned, worker_id=ADA, reason="created", times=20)
    contract.then_nothing_else()


async def test_tasks_are_spread_over_the_active_workers(contract: Scenario) -> None:
    """Each active worker is drawn for some of many tasks."""
    await contract.given(worker(ADA), worker(BOB), worker(CYD))
    await contract.when_together(*(create(numbered("11111111", number)) for number in range(60)))
    assigned = contract.then_each(TaskAssigned, times=60)
    assert {one.data.worker_id for one in assigned} == {ADA, BOB, CYD}


async def test_an_existing_task_is_not_created_again(contract: Scenario) -> None:
    """Another command for the same task is refused, whatever its title."""
    await contract.given(worker(ADA), create(T1))
    await contract.when(CreateTask(task_id=T1, title="Another"))
    contract.then_rejected("task-exists", key=T1)
    contract.then_nothing_else()


@pytest.mark.parametrize("role", ["manager", "accountant", "admin"])
async def test_without_an_active_worker_a_task_is_rejected(contract: Scenario, role: Role) -> None:
    """A task always has an assignee, so none is created without one."""
    await contract.given(worker(MIA, role), worker(ADA), WorkerDeactivated(worker_id=ADA))
    await contract.when(create(T1))
    contract.then_rejected("no-active-worker", key=T1)
    contract.then_nothing_else()


async def test_a_rejected_task_can_be_created_later(contract: Scenario) -> None:
    """A rejection leaves nothing behind that stands in the way of another command."""
    await contract.when(create(T1))
    contract.then_rejected("no-active-worker")
    await contract.given(worker(ADA))
    await contract.when(create(T1))
    contract.then(TaskCreated, task_id=T1)
    contract.then(TaskAssigned, task_id=T1, worker_id=ADA)
    contract.then_nothing_else()


# --- completing ------------------------------------------------------------------------------------------------------


async def test_the_assignee_completes_a_task(contract: Scenario) -> None:
    """The event says when, which is the command's time."""
    await contract.given(worker(ADA), create(T1))
    at = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    command = await contract.when(CompleteTask(task_id=T1, worker_id=ADA), at=at)
    contract.then(TaskCompleted(task_id=T1, worker_id=ADA, completed_at=at), key=T1, because_of=command)
    contract.then_nothing_else()


async def test_an_unknown_task_is_not_completed(contract: Scenario) -> None:
    """There is nothing to complete."""
    await contract.given(worker(ADA))
    await contract.when(CompleteTask(task_id=T2, worker_id=ADA))
    contract.then_rejected("unknown-task", key=T2)
    contract.then_nothing_else()


async def test_nobody_but_the_assignee_completes_a_task(contract: Scenario) -> None:
    """Not even another worker or a manager."""
    await contract.given(worker(ADA), worker(MIA, "manager"), create(T1))
    await contract.given(worker(BOB))
    for other in (BOB, MIA, NOBODY):
        await contract.when(CompleteTask(task_id=T1, worker_id=other))
        contract.then_rejected("not-the-assignee", key=T1)
        contract.then_nothing_else()


async def test_a_task_is_completed_once(contract: Scenario) -> None:
    """A second command, with an id of its own, is refused; so is somebody else's."""
    await contract.given(worker(ADA), create(T1), CompleteTask(task_id=T1, worker_id=ADA))
    for somebody in (ADA, BOB):
        await contract.when(CompleteTask(task_id=T1, worker_id=somebody))
        contract.then_rejected("already-completed", key=T1)
        contract.then_nothing_else()


async def test_a_worker_who_has_left_can_still_complete_an_open_task(contract: Scenario) -> None:
    """Open tasks stay with their assignee until they are reassigned."""
    await contract.given(worker(ADA), create(T1), WorkerDeactivated(worker_id=ADA))
    await contract.when(CompleteTask(task_id=T1, worker_id=ADA))
    contract.then(TaskCompleted, task_id=T1, worker_id=ADA)
    contract.then_nothing_else()


async def test_commands_of_one_batch_see_each_other(contract: Scenario) -> None:
    """Created, completed and refused in a single delivery, in the order of the records."""
    await contract.given(worker(ADA))
    done = CompleteTask(task_id=T1, worker_id=ADA)
    early, creation, completion, late = await contract.when_together(done, create(T1), done, done)
    contract.then_rejected("unknown-task", early)
    contract.then(TaskCreated, task_id=T1, because_of=creation)
    contract.then(TaskAssigned, task_id=T1, because_of=creation)
    contract.then(TaskCompleted, task_id=T1, because_of=completion)
    contract.then_rejected("already-completed", late)
    contract.then_nothing_else()


# --- workers ---------------------------------------------------------------------------------------------------------


async def test_worker_events_are_answered_by_nothing(contract: Scenario) -> None:
    """The slice takes note."""
    for event in (worker(ADA), worker(ADA, "manager"), WorkerDeactivated(worker_id=ADA)):
        await contract.when(event)
        contract.then_nothing_else()


async def test_somebody_may_leave_before_being_heard_of(contract: Scenario) -> None:
    """An unknown worker who leaves is no error, and gets no tasks."""
    await contract.when(WorkerDeactivated(worker_id=NOBODY))
    contract.then_nothing_else()
    await contract.when(create(T1))
    contract.then_rejected("no-active-worker")


# --- dates -----------------------------------------------------------------------------------------------------------


@pytest.mark.settings(clock_skew_seconds=60)
@pytest.mark.parametrize(
    "command",
    [create(T2), CompleteTask(task_id=T1, worker_id=ADA), ReassignOpenTasks(requested_by=MIA)],
    ids=lambda command: type(command).__name__,
)
async def test_a_command_from_the_future_is_rejected(
    contract: Scenario, command: CreateTask | CompleteTask | ReassignOpenTasks
) -> None:
    """Up to the clock skew a command is taken at its word, beyond it is refused, before anything else is looked at."""
    await contract.given(worker(MIA, "manager"), worker(ADA), create(T1))
    await contract.when(command, at=ahead(seconds=90))
    contract.then_rejected("future-date")
    contract.then_nothing_else()
    await contract.given(command, at=ahead(seconds=30))
