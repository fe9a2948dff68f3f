"""Whether the work was done: what is in the database must be what comes of the workload."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from benchmarks.process import WrongResult
from benchmarks.workload import EVENTS_PER_TASK, RECORDS_PER_TASK
from streams.storage.database import Database

if TYPE_CHECKING:
    from benchmarks.workload import Workload

__all__ = ["check"]


@dataclass(frozen=True, slots=True)
class _Found:
    """Counts of rows, unless said otherwise.

    Attributes:
        balances: of each worker, in minor units.
        handled: the inbox of all groups.
        parked: by reason.
    """

    balances: dict[str, int]
    transfers: int
    completed: int
    handled: int
    emitted: int
    sent: int
    parked: dict[str, int]


def check(url: str, workload: Workload) -> None:
    """Compare what is in the database with what must come of the work.

    Raises:
        WrongResult: something differs.
    """
    found = asyncio.run(_look(url))
    if found.balances != workload.balances:
        raise WrongResult("balances differ")
    if (found.transfers, found.completed) != (2 * workload.tasks, workload.tasks):
        raise WrongResult(f"{found.transfers} transfers and {found.completed} completed tasks of {workload.tasks}")
    if found.handled != 2 * len(workload.workers) + workload.tasks * RECORDS_PER_TASK:
        raise WrongResult(f"{found.handled} records handled")
    events = workload.tasks * EVENTS_PER_TASK
    if found.emitted and (found.emitted, found.sent) != (events, events):  # (b) has no outbox
        raise WrongResult(f"{found.emitted} events, {found.sent} of them sent")
    if found.parked != ({"failed": workload.failing} if workload.failing else {}):
        raise WrongResult(f"parked are {found.parked}")


async def _look(url: str) -> _Found:
    database = Database(url)
    try:
        async with database.read() as connection:

            async def rows(sql: str) -> list[tuple[object, ...]]:
                return [tuple(row) for row in await connection.execute(text(sql))]

            async def number(sql: str) -> int:
                return int((await connection.execute(text(sql))).scalar_one())

            return _Found(
                balances=dict(await rows("SELECT worker_id, balance_minor FROM ledger_account")),  # type: ignore[arg-type]
                transfers=await number("SELECT count(*) FROM ledger_transfer"),
                completed=await number("SELECT count(*) FROM tasks_task WHERE completed_at_ms IS NOT NULL"),
                handled=await number("SELECT count(*) FROM inbox"),
                emitted=await number("SELECT count(*) FROM outbox"),
                sent=await number("SELECT count(sent_at_ms) FROM outbox"),
                parked=dict(await rows("SELECT reason, count(*) FROM parked GROUP BY reason")),  # type: ignore[arg-type]
            )
    finally:
        await database.close()
