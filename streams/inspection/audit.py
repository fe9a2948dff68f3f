"""Whether every invariant of the kit and the ledger holds, and whether the totals are the expected ones."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text

from streams.inspection.checks import CHECKS, SETTLED_CHECKS, Check
from streams.inspection.totals import compare_totals, load_totals
from streams.intake.tables import parked

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.inspection.totals import Totals
    from streams.storage.database import Database

__all__ = ["EXPECTED", "Audit", "Finding", "audit"]

EXAMPLES_MAX = 10
EXPECTED = "expected-totals"
TEXTS = {
    "sqlite": "SELECT value FROM json_each(:parked_tasks)",
    "postgresql": "SELECT jsonb_array_elements_text(CAST(:parked_tasks AS jsonb))",
}
TASK_EVENTS = "tasks.events"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        name: of the check.
        holds: what should be true.
        rows: how many rows break it.
        examples: up to `EXAMPLES_MAX` of them.
    """

    name: str
    holds: str
    rows: int
    examples: tuple[dict[str, Any], ...] = ()


@dataclass(slots=True)
class Audit:
    """All findings; a check that was not run is not among them."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not any(finding.rows for finding in self.findings)

    @property
    def counts(self) -> dict[str, int]:
        """Offending rows per check."""
        return {finding.name: finding.rows for finding in self.findings}


async def audit(
    database: Database,
    *,
    settled: bool,
    expected: Totals | None = None,
    topic_prefix: str = "",
    on_check: Callable[[int, int], None] = lambda _done, _all: None,
) -> Audit:
    """Run every check.

    Args:
        database: of the app.
        settled: run also what is only true when nothing is under way.
        expected: totals to compare with.
        topic_prefix: of the app.
        on_check: told how many checks are done, and how many there are.

    Raises:
        StorageError: the database cannot be read.
    """
    checks = CHECKS + (SETTLED_CHECKS if settled else ())
    result = Audit()
    async with database.read() as connection:
        parameters = {"parked_tasks": await _parked_tasks(connection, topic_prefix) if settled else "[]"}
        for number, check in enumerate(checks):
            on_check(number, len(checks))
            result.findings.append(await _run(connection, check, parameters))
        if expected is not None:
            differences = compare_totals(expected, await load_totals(connection))
            holds = "the totals are those expected"
            result.findings.append(
                Finding(EXPECTED, holds, len(differences), tuple(one.as_row() for one in differences[:EXAMPLES_MAX]))
            )
    on_check(len(checks), len(checks))
    return result


async def _run(connection: AsyncConnection, check: Check, parameters: dict[str, str]) -> Finding:
    sql = check.sql.replace("{texts}", TEXTS[connection.dialect.name])
    statement = text(f"SELECT *, count(*) OVER () AS offending_rows FROM ({sql}) offending LIMIT {EXAMPLES_MAX}")  # noqa: S608  constants only
    rows = (await connection.execute(statement, parameters if ":parked_tasks" in sql else {})).mappings().all()
    examples = tuple({name: value for name, value in row.items() if name != "offending_rows"} for row in rows)
    return Finding(check.name, check.holds, rows[0]["offending_rows"] if rows else 0, examples)


async def _parked_tasks(connection: AsyncConnection, topic_prefix: str) -> str:
    """The tasks of which an event is set aside: their money is late, not missing."""
    rows = await connection.execute(
        select(parked.c.key)
        .where(
            parked.c.resolved_at_ms.is_(None), parked.c.topic == topic_prefix + TASK_EVENTS, parked.c.key.is_not(None)
        )
        .distinct()
    )
    return json.dumps([row.key.decode(errors="replace") for row in rows])
