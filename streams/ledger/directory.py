"""Who may do what with money: the people as `workers.events` tells of them.

The accounting slice keeps it up to date; every slice whose commands name somebody who asks reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["MAY_MOVE_MONEY", "Worker", "WorkerKey", "may"]

MAY_MOVE_MONEY = frozenset({"accountant", "admin"})
"""The roles that adjust balances and reissue payouts."""


@dataclass(frozen=True, slots=True)
class WorkerKey:
    """A worker, of whatever role."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class Worker:
    """Known from `workers.events`."""

    worker_id: str
    role: str
    active: bool


def may(asking: Worker | None, roles: Collection[str]) -> bool:
    """Whether somebody is known, active and of one of these roles."""
    return asking is not None and asking.active and asking.role in roles
