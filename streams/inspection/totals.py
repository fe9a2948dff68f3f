"""What the app has done as a few numbers, and their comparison with expected ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select, union_all

from streams.accounting.tables import accounting_rejection
from streams.ledger.tables import ledger_account, ledger_transfer
from streams.payouts.tables import payout_rejection
from streams.tasks.tables import tasks_assignment, tasks_rejection, tasks_task

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["Difference", "Totals", "compare_totals", "load_totals"]

Count = Annotated[int, Field(ge=0)]


class Totals(BaseModel):
    """`totals.json`: what is left out is not compared, down to the single reason and worker.

    `rejected` counts rejected commands by reason code over all slices, `transactions` the workers' postings. All
    amounts are minor units.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    tasks_created: Count | None = None
    assignments: Count | None = None
    tasks_completed: Count | None = None
    rejected: dict[str, Count] | None = None
    transactions: Count | None = None
    balance_total_minor: int | None = None
    balances: dict[str, int] | None = None


class Difference(NamedTuple):
    """A number that is not the expected one."""

    what: str
    expected: int
    found: int

    def as_row(self) -> dict[str, Any]:
        """As the audit shows rows."""
        return self._asdict()


async def load_totals(connection: AsyncConnection) -> Totals:
    """The totals as they are."""
    reasons = union_all(
        *(select(one.c.reason_code) for one in (tasks_rejection, accounting_rejection, payout_rejection))
    ).subquery()
    rejected = await connection.execute(
        select(reasons.c.reason_code, func.count()).group_by(reasons.c.reason_code).order_by(reasons.c.reason_code)
    )
    balances = await connection.execute(
        select(ledger_account.c.worker_id, ledger_account.c.balance_minor).order_by(ledger_account.c.worker_id)
    )
    by_worker = {row[0]: row[1] for row in balances}

    async def count(statement: Select[int]) -> int:
        found = (await connection.execute(statement)).one()
        return int(found[0])

    tasks = select(func.count()).select_from(tasks_task)
    return Totals(
        tasks_created=await count(tasks),
        assignments=await count(select(func.count()).select_from(tasks_assignment)),
        tasks_completed=await count(tasks.where(tasks_task.c.completed_at_ms.is_not(None))),
        rejected={row[0]: row[1] for row in rejected},
        transactions=await count(select(func.count()).where(ledger_transfer.c.worker_id.is_not(None))),
        balance_total_minor=sum(by_worker.values()),
        balances=by_worker,
    )


def compare_totals(expected: Totals, found: Totals) -> list[Difference]:
    """Every expected number that was not found. A reason or worker that is unknown here counts as 0."""
    differences = []
    there = found.model_dump()
    for name, value in expected.model_dump(exclude_none=True).items():
        if isinstance(value, dict):
            pairs = {f"{name}.{key}": (number, there[name].get(key, 0)) for key, number in value.items()}
        else:
            pairs = {name: (value, there[name])}
        differences += [Difference(what, *pair) for what, pair in pairs.items() if pair[0] != pair[1]]
    return differences
