"""The tables of the tasks slice."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Table

from streams.storage.schema import app_metadata
from streams.storage.types import AutoId, Bytes, Counter, Id, Millis, Name

__all__ = ["tasks_assignment", "tasks_reassignment", "tasks_rejection", "tasks_task", "tasks_worker"]

tasks_worker = Table(
    "tasks_worker",
    app_metadata,
    Column("worker_id", Id, primary_key=True),
    Column("role", Name, nullable=False),
    Column("active", Boolean, nullable=False),
)

tasks_task = Table(
    "tasks_task",
    app_metadata,
    Column("number", AutoId, primary_key=True, autoincrement=True),
    Column("task_id", Id, nullable=False, unique=True),
    Column("title", Name, nullable=False),
    Column("assignee", Id, nullable=False),
    Column("created_at_ms", Millis, nullable=False),
    Column("completed_at_ms", Millis),
)
"""`number` grows with creation, so that a reassignment can go through the tasks that existed when it was asked for."""
Index(
    "ix_tasks_task_open",
    tasks_task.c.number,
    sqlite_where=tasks_task.c.completed_at_ms.is_(None),
    postgresql_where=tasks_task.c.completed_at_ms.is_(None),
)

tasks_assignment = Table(
    "tasks_assignment",
    app_metadata,
    Column("assignment_id", Id, primary_key=True),
    Column("task_id", Id, nullable=False),
    Column("worker_id", Id, nullable=False),
    Column("reason", Name, nullable=False),
    Column("assigned_at_ms", Millis, nullable=False),
)
"""Every assignment there ever was: each of them is charged."""

tasks_rejection = Table(
    "tasks_rejection",
    app_metadata,
    Column("command_id", Name, primary_key=True),
    Column("command_type", Name, nullable=False),
    Column("reason_code", Name, nullable=False),
    Column("rejected_at_ms", Millis, nullable=False),
)

tasks_reassignment = Table(
    "tasks_reassignment",
    app_metadata,
    Column("number", AutoId, primary_key=True, autoincrement=True),
    Column("command_id", Name, nullable=False, unique=True),
    Column("command_source", Name, nullable=False),
    Column("command_type", Name, nullable=False),
    Column("command_key", Bytes),
    Column("command_time_ms", Millis, nullable=False),
    Column("correlation_id", Name, nullable=False),
    Column("traceparent", Name),
    Column("cursor", Counter, nullable=False),
    Column("up_to", Counter, nullable=False),
    Column("finished_at_ms", Millis),
)
"""Reassignments that were accepted, in that order: all open tasks up to the number `up_to`, done up to `cursor`."""
