"""A small consistent set of tables: two workers, three tasks, everything charged and rewarded as it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import insert, text

from streams.accounting.tables import accounting_price, accounting_rejection
from streams.intake.tables import parked, progress
from streams.ledger.tables import ledger_account, ledger_transfer
from streams.outbox.tables import outbox
from streams.storage.bulk import insert_rows
from streams.tasks.tables import tasks_assignment, tasks_rejection, tasks_task

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.storage.database import Database

__all__ = ["ANN", "BOB", "TASKS", "TOTALS", "execute", "park", "write_books"]

ANN = "00000000-0000-7000-8000-00000000000a"
BOB = "00000000-0000-7000-8000-00000000000b"
TASKS = tuple(f"00000000-0000-7000-8000-0000000001{number:02}" for number in range(3))
FEE_MINOR, REWARD_MINOR = 1000, 2500
DAY = "2026-11-22"
TOTALS = {
    "tasks_created": 3,
    "assignments": 4,
    "tasks_completed": 1,
    "rejected": {"task-exists": 2, "not-allowed": 1},
    "transactions": 6,
    "balance_total_minor": -1200,
    "balances": {ANN: 500, BOB: -1700},
}

POSTINGS = (
    # worker, kind, signed amount, source_ref, task
    (ANN, "fee", -FEE_MINOR, "fee:a0", TASKS[0]),
    (BOB, "fee", -FEE_MINOR, "fee:a1", TASKS[1]),
    (ANN, "reward", REWARD_MINOR, f"reward:{TASKS[0]}", TASKS[0]),
    (ANN, "fee", -FEE_MINOR, "fee:a2", TASKS[2]),
    (BOB, "fee", -FEE_MINOR, "fee:a3", TASKS[2]),
    (BOB, "adjustment", 300, "adjustment:c1", None),
)
HOUSE = {"fee": "house:fees", "reward": "house:rewards", "adjustment": "house:adjustments"}


async def execute(database: Database, *statements: str) -> None:
    """Change a database behind everybody's back."""
    async with database.write() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def write_books(database: Database) -> None:
    """Fill the tables."""
    async with database.write() as connection:
        await _write_slices(connection)
        await _write_ledger(connection)
        await _write_kit(connection)
    await park(database, 7)


async def _fill(connection: AsyncConnection, table: Table, *rows: tuple[object, ...]) -> None:
    """Insert rows whose values stand in the order of the columns."""
    await insert_rows(connection, table, tuple(column.name for column in table.columns)[-len(rows[0]) :], rows)


async def _write_slices(connection: AsyncConnection) -> None:
    await insert_rows(
        connection,
        tasks_task,
        ("task_id", "title", "assignee", "created_at_ms", "completed_at_ms"),
        [(TASKS[0], "t", ANN, 1, 2), (TASKS[1], "t", BOB, 1, None), (TASKS[2], "t", BOB, 1, None)],
    )
    await _fill(
        connection,
        tasks_assignment,
        ("a0", TASKS[0], ANN, "created", 1),
        ("a1", TASKS[1], BOB, "created", 1),
        ("a2", TASKS[2], ANN, "created", 1),
        ("a3", TASKS[2], BOB, "reassigned", 1),
    )
    await _fill(connection, accounting_price, *((task, FEE_MINOR, REWARD_MINOR, 1) for task in TASKS))
    await _fill(connection, tasks_rejection, ("r1", "x", "task-exists", 1), ("r2", "x", "task-exists", 1))
    await _fill(connection, accounting_rejection, ("r3", "x", "not-allowed", 1))


async def _write_ledger(connection: AsyncConnection) -> None:
    balances: dict[str, int] = {}
    versions: dict[str, int] = {}
    for number, (worker, kind, signed, source_ref, task) in enumerate(POSTINGS):
        balances[worker] = balances.get(worker, 0) + signed
        versions[worker] = versions.get(worker, 0) + 1
        sides = (HOUSE[kind], f"worker:{worker}")
        debit, credit = sides if signed > 0 else sides[::-1]
        row = (f"x{number}", source_ref, kind, debit, credit, abs(signed), "USD", worker, versions[worker], signed)
        await _fill(connection, ledger_transfer, (*row, balances[worker], DAY, DAY, task, None, None, 1, 1))
    await _fill(connection, ledger_account, *((worker, balances[worker], versions[worker]) for worker in balances))


async def _write_kit(connection: AsyncConnection) -> None:
    position = {"group_name": "payday.tasks", "topic": "tasks.commands", "partition": 0, "epoch": 1}
    counts = {"consumed": 10, "handled": 6, "duplicate": 3, "parked": 1}
    await connection.execute(
        insert(progress).values(**position, **counts, first_offset=0, next_offset=10, updated_at_ms=1)
    )
    event = {"topic": "tasks.events", "lane": 0, "value": b"{}", "headers": b"[]", "message_id": "m1", "type": "t.v1"}
    await connection.execute(insert(outbox).values(**event, created_at_ms=1, sent_at_ms=1))


async def park(
    database: Database,
    offset: int,
    *,
    group: str = "payday.tasks",
    topic: str = "tasks.commands",
    key: bytes = b"k",
    reason: str = "invalid",
    state: str = "dead",
    next_attempt_at_ms: int | None = None,
    resolved_at_ms: int | None = None,
) -> None:
    """Set a record aside."""
    async with database.write() as connection:
        await connection.execute(
            insert(parked).values(
                group_name=group,
                topic=topic,
                partition=0,
                offset=offset,
                timestamp_ms=1,
                record_hash=b"\x00",
                key=key,
                key_hash="h",
                value=b"{",
                headers=b'[["ce_type","t.v1"]]',
                type="t.v1",
                reason=reason,
                state=state,
                holds_key=False,
                error_type="Oops",
                error="is wrong",
                next_attempt_at_ms=next_attempt_at_ms,
                resolved_at_ms=resolved_at_ms,
                parked_at_ms=1,
            )
        )
