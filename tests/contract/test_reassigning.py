"""Reassigning open tasks, and who may ask for it and be drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from contracts.tasks import (
    CompleteTask,
    ReassignOpenTasks,
    TaskAssigned,
    TaskCommandRejected,
    TaskCompleted,
    TaskCreated,
)
from contracts.workers import WorkerDeactivated
from tests.contract.cast import ACE, ADA, BOB, CYD, MIA, NOBODY, T1, T2, T3, create, numbered, worker

if TYPE_CHECKING:
    from contracts.fields import Role
    from streams.contract_kit.scenario import Scenario

pytestmark = pytest.mark.slices("tasks")

MANY_TASKS = 1100
"""More than two of the chunks in which tasks are reassigned."""


@pytest.mark.parametrize("role", ["manager", "admin"])
async def test_all_open_tasks_are_drawn_anew(contract: Scenario, role: Role) -> None:
    """Each open task gets a new assignment, a completed one does not."""
    await contract.given(worker(MIA, role), worker(ADA), create(T1), create(T2), create(T3))
    await contract.given(CompleteTask(task_id=T2, worker_id=ADA), worker(BOB), WorkerDeactivated(worker_id=ADA))
    command = await contract.when(ReassignOpenTasks(requested_by=MIA))
    for task_id in (T1, T3):
        contract.then(
            TaskAssigned, task_id=task_id, worker_id=BOB, reason="reassigned", key=task_id, because_of=command
        )
    contract.then_nothing_else()


async def test_reassigning_to_the_same_worker_is_an_assignment_like_any_other(contract: Scenario) -> None:
    """With one worker the new assignee is the old one, under a new assignment id."""
    await contract.given(worker(MIA, "manager"), worker(ADA), create(T1))
    first = contract.earlier(TaskAssigned, task_id=T1)
    await contract.when(ReassignOpenTasks(requested_by=MIA))
    second = contract.then(TaskAssigned, task_id=T1, worker_id=ADA, reason="reassigned")
    contract.then_nothing_else()
    assert second.data.assignment_id != first.data.assignment_id


async def test_after_a_reassignment_only_the_new_assignee_completes_the_task(contract: Scenario) -> None:
    """The old assignee has nothing to do with it any more."""
    await contract.given(worker(MIA, "manager"), worker(ADA), create(T1))
    await contract.given(worker(BOB), WorkerDeactivated(worker_id=ADA), ReassignOpenTasks(requested_by=MIA))
    await contract.when(CompleteTask(task_id=T1, worker_id=ADA))
    contract.then_rejected("not-the-assignee")
    await contract.when(CompleteTask(task_id=T1, worker_id=BOB))
    contract.then(TaskCompleted, task_id=T1, worker_id=BOB)
    contract.then_nothing_else()


async def test_reassigning_many_tasks_touches_each_open_one_once(contract: Scenario) -> None:
    """Chunks neither skip a task nor draw one twice, and completed tasks among them are left alone."""
    await contract.given(worker(MIA, "manager"), worker(ADA))
    tasks = [numbered("11111111", number) for number in range(MANY_TASKS)]
    await contract.given(*(create(task_id) for task_id in tasks))
    completed = set(tasks[::7])
    await contract.given(*(CompleteTask(task_id=task_id, worker_id=ADA) for task_id in sorted(completed)))
    await contract.given(worker(BOB), worker(CYD))
    await contract.when(ReassignOpenTasks(requested_by=MIA))
    assigned = contract.then_each(TaskAssigned, reason="reassigned", times=MANY_TASKS - len(completed))
    contract.then_nothing_else()
    assert {one.data.task_id for one in assigned} == set(tasks) - completed
    assert {one.data.worker_id for one in assigned} == {ADA, BOB, CYD}
    assert len({one.data.assignment_id for one in assigned}) == len(assigned)


async def test_reassigning_without_open_tasks_is_no_error(contract: Scenario) -> None:
    """The command is accepted and there is nothing to say."""
    await contract.given(worker(MIA, "manager"), worker(ADA))
    await contract.when(ReassignOpenTasks(requested_by=MIA))
    contract.then_nothing_else()


async def test_two_reassignments_are_two_draws(contract: Scenario) -> None:
    """Each command has its own round of assignments."""
    await contract.given(worker(MIA, "manager"), worker(ADA), create(T1))
    first, second = await contract.when_together(
        ReassignOpenTasks(requested_by=MIA), ReassignOpenTasks(requested_by=MIA)
    )
    assigned = contract.then_each(TaskAssigned, task_id=T1, reason="reassigned", times=2)
    contract.then_nothing_else()
    assert {one.cause_id for one in assigned} == {first.id, second.id}


@pytest.mark.parametrize("role", ["worker", "accountant"])
async def test_only_managers_and_admins_reassign(contract: Scenario, role: Role) -> None:
    """Who asks must have the role for it."""
    await contract.given(worker(CYD, role), worker(ADA), create(T1))
    await contract.when(ReassignOpenTasks(requested_by=CYD))
    contract.then_rejected("not-allowed", key="all")
    contract.then_nothing_else()


async def test_a_manager_who_is_unknown_or_has_left_does_not_reassign(contract: Scenario) -> None:
    """Who asks must be known and active."""
    await contract.given(worker(MIA, "manager"), worker(ADA), create(T1), WorkerDeactivated(worker_id=MIA))
    for somebody in (MIA, NOBODY):
        await contract.when(ReassignOpenTasks(requested_by=somebody))
        contract.then_rejected("not-allowed", key="all")
        contract.then_nothing_else()


async def test_a_change_of_role_counts_at_once(contract: Scenario) -> None:
    """A worker who becomes a manager may reassign and is no longer drawn; and the other way round."""
    await contract.given(worker(ADA), worker(CYD), worker(CYD, "manager"), create(T1))
    await contract.when(ReassignOpenTasks(requested_by=CYD))
    contract.then(TaskAssigned, task_id=T1, worker_id=ADA)
    contract.then_nothing_else()
    await contract.given(worker(CYD, "worker"))
    await contract.when(ReassignOpenTasks(requested_by=CYD))
    contract.then_rejected("not-allowed")
    contract.then_nothing_else()


@pytest.mark.memory_only("it needs records of two topics in one batch, in this order")
async def test_who_can_be_assigned_changes_within_a_batch(contract: Scenario) -> None:
    """Joining, leaving and other roles count for a task later in the same batch."""
    await contract.when_together(
        create(T1),
        worker(MIA, "manager"),
        worker(ACE, "accountant"),
        worker(CYD, "admin"),
        worker(BOB),
        worker(ADA),
        WorkerDeactivated(worker_id=BOB),
        *(create(numbered("11111112", number)) for number in range(20)),
        WorkerDeactivated(worker_id=ADA),
        create(T2),
    )
    rejected = contract.then_each(TaskCommandRejected, reason_code="no-active-worker", times=2)
    assert [one.key for one in rejected] == [T1.encode(), T2.encode()]
    contract.then_each(TaskCreated, times=20)
    contract.then_each(TaskAssigned, worker_id=ADA, times=20)
    contract.then_nothing_else()


async def test_somebody_who_comes_back_is_active_again(contract: Scenario) -> None:
    """Registering after leaving undoes the leaving."""
    await contract.given(worker(ADA), WorkerDeactivated(worker_id=ADA), worker(ADA))
    await contract.when(create(T1))
    contract.then(TaskCreated, task_id=T1)
    contract.then(TaskAssigned, worker_id=ADA)
    contract.then_nothing_else()


async def test_without_an_active_worker_nothing_is_reassigned(contract: Scenario) -> None:
    """Open tasks keep the assignee they have."""
    await contract.given(worker(MIA, "manager"), worker(ADA), create(T1), WorkerDeactivated(worker_id=ADA))
    await contract.when(ReassignOpenTasks(requested_by=MIA))
    contract.then_rejected("no-active-worker", key="all")
    contract.then_nothing_else()
