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
    TaskCommandRejected,
    TaskCompleted,
    TaskCreated,
)
from contracts.workers import WorkerDeactivated
from tests.contract.cast import ACE, ADA, BOB, CYD, MIA, NOBODY, T1, T2, T3, ahead, numbered, worker

if TYPE_CHECKING:
    from contracts.fields import Role
    from streams.contract_kit.scenario import Scenario

pytestmark = pytest.mark.slices("tasks")

MANY_TASKS = 1100
"""More than two of the chunks in which tasks are reassigned."""


def create(task_id: str = T1) -> CreateTask:
    return CreateTask(task_id=task_id, title="[POP-1] - Repaint")


# --- creating -------------------------------------------------------------------------------------------------------


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


# --- completing -----------------------------------------------------------------------------------------------------


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


# --- reassigning ----------------------------------------------------------------------------------------------------


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


# --- workers --------------------------------------------------------------------------------------------------------


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


# --- dates ----------------------------------------------------------------------------------------------------------


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


# --- duplicates -----------------------------------------------------------------------------------------------------


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
