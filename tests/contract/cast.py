"""Who and what the contract tests are about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from contracts.tasks import CreateTask
from contracts.workers import WorkerRegistered

if TYPE_CHECKING:
    from datetime import date

    from contracts.fields import Role

ADA = "ada00000-0000-4000-8000-000000000001"
BOB = "b0b00000-0000-4000-8000-000000000002"
CYD = "c1d00000-0000-4000-8000-000000000003"
MIA = "a1a00000-0000-4000-8000-000000000004"
"""A manager."""
ACE = "ace00000-0000-4000-8000-000000000005"
"""An accountant."""
NOBODY = "00000000-0000-4000-8000-000000000000"
"""Never registered."""

T1 = "11111111-0000-4000-8000-000000000000"
T2 = "22222222-0000-4000-8000-000000000000"
T3 = "33333333-0000-4000-8000-000000000000"
A1 = "a1a1a1a1-0000-4000-8000-000000000000"
A2 = "a2a2a2a2-0000-4000-8000-000000000000"


def worker(worker_id: str, role: Role = "worker") -> WorkerRegistered:
    """Somebody joins."""
    return WorkerRegistered(worker_id=worker_id, name="Somebody", email="somebody@example.com", role=role)


def numbered(prefix: str, number: int) -> str:
    """A UUID made of eight characters and a number."""
    return f"{prefix}-0000-4000-8000-{number:012d}"


def days_ago(days: int) -> datetime:
    """Noon of an earlier day, in UTC."""
    return (datetime.now(UTC) - timedelta(days=days)).replace(hour=12, minute=0, second=0, microsecond=0)


def day(days_before_today: int) -> date:
    """The date of that day."""
    return days_ago(days_before_today).date()


def ahead(**time: float) -> datetime:
    """A moment that is still to come, or that has just passed."""
    return datetime.now(UTC) + timedelta(**time)


def create(task_id: str = T1) -> CreateTask:
    """Somebody wants a task done."""
    return CreateTask(task_id=task_id, title="[POP-1] - Repaint")
