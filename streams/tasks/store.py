"""The rows of the tasks slice in the database, loaded and saved a batch at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, select, update

from streams.outbox.envelope import Cause
from streams.storage.bulk import among, execute_many, insert_new_rows, insert_rows, upsert_rows
from streams.tasks.domain import (
    ActiveWorkersKey,
    Assignment,
    AssignmentKey,
    Reassignment,
    ReassignmentKey,
    Rejection,
    RejectionKey,
    Task,
    TaskKey,
    Worker,
    WorkerKey,
)
from streams.tasks.tables import (
    tasks_assignment,
    tasks_reassignment,
    tasks_rejection,
    tasks_task,
    tasks_worker,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.intake.deciders import Rows
    from streams.intake.unit_of_work import UnitOfWork

__all__ = [
    "PendingReassignment",
    "active_workers",
    "finish_chunk",
    "insert_assignments",
    "is_reassigning",
    "next_reassignment",
    "open_tasks",
    "task_rows",
    "update_tasks",
]


def task_rows(wake_reassigner: Callable[[], None]) -> dict[type, Rows]:
    """What the slice's deciders work on.

    The order is the order of locks, and tasks are saved before a reassignment notes up to which number it goes.
    """
    return {
        WorkerKey: _Workers(),
        ActiveWorkersKey: _ActiveWorkers(),
        TaskKey: _Tasks(),
        AssignmentKey: _Assignments(),
        RejectionKey: _Rejections(),
        ReassignmentKey: _Reassignments(wake_reassigner),
    }


class _Workers:
    async def load(self, connection: AsyncConnection, keys: set[WorkerKey]) -> Mapping[Any, Any]:
        rows = await connection.execute(
            select(tasks_worker)
            .where(among(connection, tasks_worker.c.worker_id, {key.worker_id for key in keys}))
            .order_by(tasks_worker.c.worker_id)
            .with_for_update()
        )
        return {WorkerKey(row.worker_id): Worker(row.worker_id, row.role, row.active) for row in rows}

    async def save(self, work: UnitOfWork, changed: Mapping[WorkerKey, Worker]) -> None:
        await upsert_rows(
            work.connection,
            tasks_worker,
            ("worker_id", "role", "active"),
            sorted((worker.worker_id, worker.role, worker.active) for worker in changed.values()),
        )


class _ActiveWorkers:
    async def load(self, connection: AsyncConnection, keys: set[ActiveWorkersKey]) -> Mapping[Any, Any]:
        return dict.fromkeys(keys, await active_workers(connection))

    async def save(self, work: UnitOfWork, changed: Mapping[Any, Any]) -> None:
        """A view of the workers, who are saved themselves."""


class _Tasks:
    async def load(self, connection: AsyncConnection, keys: set[TaskKey]) -> Mapping[Any, Any]:
        rows = await connection.execute(
            _select_tasks()
            .where(among(connection, tasks_task.c.task_id, {key.task_id for key in keys}))
            .order_by(tasks_task.c.number)
            .with_for_update()
        )
        return {TaskKey(row[0]): Task(*row) for row in rows}

    async def save(self, work: UnitOfWork, changed: Mapping[TaskKey, Task]) -> None:
        await insert_new_rows(
            work.connection,
            tasks_task,
            ("task_id", "title", "assignee", "created_at_ms", "completed_at_ms"),
            [
                (task.task_id, task.title, task.assignee, task.created_at_ms, task.completed_at_ms)
                for task in changed.values()
                if task.number is None
            ],
        )
        await update_tasks(work.connection, [task for task in changed.values() if task.number is not None])


class _Assignments:
    async def load(self, connection: AsyncConnection, keys: set[AssignmentKey]) -> Mapping[Any, Any]:
        raise NotImplementedError("assignments are only ever added")

    async def save(self, work: UnitOfWork, changed: Mapping[AssignmentKey, Assignment]) -> None:
        await insert_assignments(work.connection, list(changed.values()))


class _Rejections:
    async def load(self, connection: AsyncConnection, keys: set[RejectionKey]) -> Mapping[Any, Any]:
        raise NotImplementedError("rejections are only ever added")

    async def save(self, work: UnitOfWork, changed: Mapping[RejectionKey, Rejection]) -> None:
        await insert_rows(
            work.connection,
            tasks_rejection,
            ("command_id", "command_type", "reason_code", "rejected_at_ms"),
            [(row.command_id, row.command_type, row.reason_code, row.rejected_at_ms) for row in changed.values()],
        )


class _Reassignments:
    def __init__(self, wake_reassigner: Callable[[], None]) -> None:
        self._wake_reassigner = wake_reassigner

    async def load(self, connection: AsyncConnection, keys: set[ReassignmentKey]) -> Mapping[Any, Any]:
        rows = await connection.execute(
            select(tasks_reassignment.c.command_id).where(
                among(connection, tasks_reassignment.c.command_id, {key.command_id for key in keys})
            )
        )
        return {ReassignmentKey(row.command_id): row for row in rows}

    async def save(self, work: UnitOfWork, changed: Mapping[ReassignmentKey, Reassignment]) -> None:
        up_to = (await work.connection.execute(select(func.coalesce(func.max(tasks_task.c.number), 0)))).scalar_one()
        await insert_rows(
            work.connection,
            tasks_reassignment,
            (
                "command_id",
                "command_source",
                "command_type",
                "command_key",
                "command_time_ms",
                "correlation_id",
                "traceparent",
                "cursor",
                "up_to",
            ),
            [
                (
                    row.cause.id,
                    row.cause.source,
                    row.cause.type,
                    row.cause.key,
                    row.cause.time_ms,
                    row.cause.correlation_id,
                    row.cause.traceparent,
                    0,
                    up_to,
                )
                for row in changed.values()
            ],
        )
        work.after_commit(self._wake_reassigner)


def _select_tasks() -> Any:
    return select(
        tasks_task.c.task_id,
        tasks_task.c.title,
        tasks_task.c.assignee,
        tasks_task.c.created_at_ms,
        tasks_task.c.completed_at_ms,
        tasks_task.c.number,
    )


_UPDATE_TASK = (
    update(tasks_task)
    .where(tasks_task.c.number == bindparam("in_number"))
    .values(assignee=bindparam("new_assignee"), completed_at_ms=bindparam("new_completed_at_ms"))
)


async def update_tasks(connection: AsyncConnection, tasks: Sequence[Task]) -> None:
    """Save tasks that are stored already."""
    await execute_many(
        connection,
        _UPDATE_TASK,
        [
            {
                "in_number": task.number,
                "new_assignee": task.assignee,
                "new_completed_at_ms": task.completed_at_ms,
            }
            for task in tasks
        ],
    )


async def insert_assignments(connection: AsyncConnection, assignments: Sequence[Assignment]) -> None:
    """Add to the history."""
    await insert_rows(
        connection,
        tasks_assignment,
        ("assignment_id", "task_id", "worker_id", "reason", "assigned_at_ms"),
        [(row.assignment_id, row.task_id, row.worker_id, row.reason, row.assigned_at_ms) for row in assignments],
    )


async def active_workers(connection: AsyncConnection) -> list[str]:
    """The sorted ids of everybody whom a task can be assigned to."""
    rows = await connection.execute(
        select(tasks_worker.c.worker_id).where(tasks_worker.c.active, tasks_worker.c.role == "worker")
    )
    return sorted(row[0] for row in rows)


class PendingReassignment:
    """An accepted reassignment that is not finished: its command as a cause, and how far it has come."""

    def __init__(self, row: Any, now_ms: int) -> None:
        self.cursor: int = row.cursor
        self.up_to: int = row.up_to
        self.cause = Cause(
            row.command_id,
            row.command_source,
            row.command_type,
            row.command_time_ms,
            row.command_key,
            row.correlation_id,
            row.traceparent,
            now_ms,
        )


async def is_reassigning(connection: AsyncConnection) -> bool:
    """Whether a reassignment is unfinished; for a look, which may not lock."""
    unfinished = select(tasks_reassignment.c.number).where(tasks_reassignment.c.finished_at_ms.is_(None)).limit(1)
    return (await connection.execute(unfinished)).first() is not None


async def next_reassignment(connection: AsyncConnection, now_ms: int) -> PendingReassignment | None:
    """The reassignment to go on with, locked; None where all are finished."""
    row = (
        await connection.execute(
            select(tasks_reassignment)
            .where(tasks_reassignment.c.finished_at_ms.is_(None))
            .order_by(tasks_reassignment.c.number)
            .limit(1)
            .with_for_update()
        )
    ).first()
    return None if row is None else PendingReassignment(row, now_ms)


async def open_tasks(connection: AsyncConnection, after: int, up_to: int, at_most: int) -> list[Task]:
    """Open tasks with numbers in (after, up_to], locked, in order."""
    rows = await connection.execute(
        _select_tasks()
        .where(tasks_task.c.completed_at_ms.is_(None), tasks_task.c.number > after, tasks_task.c.number <= up_to)
        .order_by(tasks_task.c.number)
        .limit(at_most)
        .with_for_update()
    )
    return [Task(*row) for row in rows]


async def finish_chunk(
    connection: AsyncConnection, reassignment: PendingReassignment, cursor: int, finished_at_ms: int | None
) -> None:
    """Write down how far a reassignment has come."""
    await connection.execute(
        update(tasks_reassignment)
        .where(tasks_reassignment.c.command_id == reassignment.cause.id)
        .values(cursor=cursor, finished_at_ms=finished_at_ms)
    )
