"""What may happen to a task, as pure functions.

Invariant: a task always has an assignee, who was an active worker when the task was drawn for them; only the assignee
completes it, once.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal, NamedTuple

from contracts.tasks import TaskAssigned, TaskCommandRejected, TaskCompleted, TaskCreated
from streams.intake.deciders import Put

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from contracts.fields import ReasonCode
    from contracts.message import Message
    from contracts.tasks import CompleteTask, CreateTask, ReassignOpenTasks
    from contracts.workers import WorkerDeactivated, WorkerRegistered
    from streams.intake.deciders import Change, State
    from streams.outbox.envelope import Cause

__all__ = [
    "ActiveWorkersKey",
    "Assignment",
    "AssignmentKey",
    "Reassignment",
    "ReassignmentKey",
    "Rejection",
    "RejectionKey",
    "Rules",
    "Task",
    "TaskKey",
    "Worker",
    "WorkerKey",
    "assign",
    "assignee_for",
    "complete_task",
    "create_task",
    "deactivate_worker",
    "reassign_open_tasks",
    "register_worker",
]

Outcome = "Iterator[Change | Message]"
MAY_REASSIGN = frozenset({"manager", "admin"})


@dataclass(frozen=True, slots=True)
class Rules:
    """What a deployment fixes.

    Attributes:
        secret: seeds the draw of assignees, so that nobody outside can foresee or steer it.
        clock_skew_seconds: a command may be dated this far ahead of this machine's clock.
    """

    secret: bytes
    clock_skew_seconds: int


@dataclass(frozen=True, slots=True)
class TaskKey:
    """A task."""

    task_id: str


@dataclass(frozen=True, slots=True)
class WorkerKey:
    """A worker, of whatever role."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class ActiveWorkersKey:
    """The sorted ids of everybody whom a task can be assigned to."""


@dataclass(frozen=True, slots=True)
class AssignmentKey:
    """One assignment of one task."""

    assignment_id: str


@dataclass(frozen=True, slots=True)
class RejectionKey:
    """The answer to a refused command."""

    command_id: str


@dataclass(frozen=True, slots=True)
class ReassignmentKey:
    """A reassignment by the command that asked for it."""

    command_id: str


class Task(NamedTuple):
    """`number` is None until the task is stored."""

    task_id: str
    title: str
    assignee: str
    created_at_ms: int
    completed_at_ms: int | None = None
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Worker:
    """Known from `workers.events`."""

    worker_id: str
    role: str
    active: bool

    @property
    def can_be_assigned(self) -> bool:
        """Tasks go to active workers, never to managers or administrators."""
        return self.active and self.role == "worker"


class Assignment(NamedTuple):
    """A row of the history of assignments."""

    assignment_id: str
    task_id: str
    worker_id: str
    reason: Literal["created", "reassigned"]
    assigned_at_ms: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """A refused command."""

    command_id: str
    command_type: str
    reason_code: str
    rejected_at_ms: int


@dataclass(frozen=True, slots=True)
class Reassignment:
    """An accepted command to reassign, to be carried out in chunks."""

    cause: Cause


def assignee_for(secret: bytes, assignment_id: str, active_workers: Sequence[str]) -> str:
    """Draw a worker: uniform over the sorted active workers, and the same again for the same assignment.

    A keyed hash (BLAKE2b with a key is a MAC) scaled to the number of workers by multiply-and-shift.
    """
    digest = blake2b(assignment_id.encode(), key=secret, digest_size=8, person=b"assignee").digest()
    return active_workers[int.from_bytes(digest) * len(active_workers) >> 64]


def register_worker(state: State, event: WorkerRegistered, _cause: Cause) -> Iterator[Change | Message]:
    """A worker is known and active, or has a new role."""
    yield from _put_worker(state, Worker(event.worker_id, event.role, active=True))


def deactivate_worker(state: State, event: WorkerDeactivated, _cause: Cause) -> Iterator[Change | Message]:
    """A worker gets no more tasks; the open ones stay until they are completed or reassigned."""
    known: Worker | None = state[WorkerKey(event.worker_id)]
    yield from _put_worker(state, Worker(event.worker_id, known.role if known else "worker", active=False))


def create_task(rules: Rules, state: State, command: CreateTask, cause: Cause) -> Iterator[Change | Message]:
    """A new task is created and assigned at once."""
    active_workers: list[str] = state[ActiveWorkersKey()]
    if _is_future(rules, cause):
        yield from _reject(cause, "future-date", f"dated more than {rules.clock_skew_seconds} s ahead")
    elif state[TaskKey(command.task_id)] is not None:
        yield from _reject(cause, "task-exists", "there is a task with this id already")
    elif not active_workers:
        yield from _reject(cause, "no-active-worker", "there is nobody to assign the task to")
    else:
        yield TaskCreated(task_id=command.task_id, title=command.title)
        task = Task(command.task_id, command.title, "", cause.time_ms)
        yield from assign(rules, task, active_workers, cause, "created")


def complete_task(rules: Rules, state: State, command: CompleteTask, cause: Cause) -> Iterator[Change | Message]:
    """The assignee has done the task."""
    task: Task | None = state[TaskKey(command.task_id)]
    if _is_future(rules, cause):
        yield from _reject(cause, "future-date", f"dated more than {rules.clock_skew_seconds} s ahead")
    elif task is None:
        yield from _reject(cause, "unknown-task", "there is no task with this id")
    elif task.completed_at_ms is not None:
        yield from _reject(cause, "already-completed", "the task has been completed before")
    elif task.assignee != command.worker_id:
        yield from _reject(cause, "not-the-assignee", "the task is assigned to somebody else")
    else:
        yield Put(TaskKey(task.task_id), task._replace(completed_at_ms=cause.time_ms))
        yield TaskCompleted(
            task_id=task.task_id,
            worker_id=task.assignee,
            completed_at=datetime.fromtimestamp(cause.time_ms / 1000, UTC),
        )


def reassign_open_tasks(
    rules: Rules, state: State, command: ReassignOpenTasks, cause: Cause
) -> Iterator[Change | Message]:
    """All open tasks are to be drawn anew; a worker in the background does it in chunks."""
    asking: Worker | None = state[WorkerKey(command.requested_by)]
    if state[ReassignmentKey(cause.id)] is not None:
        return
    if _is_future(rules, cause):
        yield from _reject(cause, "future-date", f"dated more than {rules.clock_skew_seconds} s ahead")
    elif asking is None or not asking.active or asking.role not in MAY_REASSIGN:
        yield from _reject(cause, "not-allowed", "only an active manager or admin may reassign tasks")
    elif not state[ActiveWorkersKey()]:
        yield from _reject(cause, "no-active-worker", "there is nobody to assign the tasks to")
    else:
        yield Put(ReassignmentKey(cause.id), Reassignment(cause))


def assign(
    rules: Rules,
    task: Task,
    active_workers: Sequence[str],
    cause: Cause,
    reason: Literal["created", "reassigned"],
) -> Iterator[Change | Message]:
    """Draw a worker for a task. Drawing the same one again is an assignment like any other."""
    assignment_id = cause.derive(f"assignment/{task.task_id}")
    worker_id = assignee_for(rules.secret, assignment_id, active_workers)
    yield Put(TaskKey(task.task_id), task._replace(assignee=worker_id))
    yield Put(
        AssignmentKey(assignment_id),
        Assignment(assignment_id, task.task_id, worker_id, reason, cause.time_ms),
    )
    yield TaskAssigned(task_id=task.task_id, assignment_id=assignment_id, worker_id=worker_id, reason=reason)


def _put_worker(state: State, worker: Worker) -> Iterator[Change]:
    yield Put(WorkerKey(worker.worker_id), worker)
    active_workers: list[str] = state[ActiveWorkersKey()]
    if worker.can_be_assigned != (worker.worker_id in active_workers):
        others = [worker_id for worker_id in active_workers if worker_id != worker.worker_id]
        if worker.can_be_assigned:
            insort(others, worker.worker_id)
        yield Put(ActiveWorkersKey(), others)


def _is_future(rules: Rules, cause: Cause) -> bool:
    return cause.time_ms > cause.now_ms + rules.clock_skew_seconds * 1000


def _reject(cause: Cause, reason_code: ReasonCode, message: str) -> Iterator[Change | Message]:
    yield Put(RejectionKey(cause.id), Rejection(cause.id, cause.type, reason_code, cause.time_ms))
    yield TaskCommandRejected(command_id=cause.id, command_type=cause.type, reason_code=reason_code, message=message)
