"""A small consistent set of tables: two workers, three tasks, everything charged and rewarded as it should be."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ANN", "BOB", "TASKS", "TOTALS", "execute", "write_books"]

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


def execute(file: Path, *statements: str) -> None:
    """Change a database behind everybody's back."""
    with closing(sqlite3.connect(file)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def write_books(file: Path) -> None:
    """Fill the tables."""
    with closing(sqlite3.connect(file)) as connection:
        _write_slices(connection)
        _write_ledger(connection)
        _write_kit(connection)
        connection.commit()


def _write_slices(connection: sqlite3.Connection) -> None:
    connection.executemany(
        "INSERT INTO tasks_task (task_id, title, assignee, created_at_ms, completed_at_ms) VALUES (?, 't', ?, 1, ?)",
        [(TASKS[0], ANN, 2), (TASKS[1], BOB, None), (TASKS[2], BOB, None)],
    )
    connection.executemany(
        "INSERT INTO tasks_assignment VALUES (?, ?, ?, ?, 1)",
        [
            ("a0", TASKS[0], ANN, "created"),
            ("a1", TASKS[1], BOB, "created"),
            ("a2", TASKS[2], ANN, "created"),
            ("a3", TASKS[2], BOB, "reassigned"),
        ],
    )
    connection.executemany(
        "INSERT INTO accounting_price VALUES (?, ?, ?, 1)", [(task, FEE_MINOR, REWARD_MINOR) for task in TASKS]
    )
    connection.executemany(
        "INSERT INTO tasks_rejection VALUES (?, 'x', ?, 1)", [("r1", "task-exists"), ("r2", "task-exists")]
    )
    connection.execute("INSERT INTO accounting_rejection VALUES ('r3', 'x', 'not-allowed', 1)")


def _write_ledger(connection: sqlite3.Connection) -> None:
    balances: dict[str, int] = {}
    versions: dict[str, int] = {}
    for number, (worker, kind, signed, source_ref, task) in enumerate(POSTINGS):
        balances[worker] = balances.get(worker, 0) + signed
        versions[worker] = versions.get(worker, 0) + 1
        sides = (HOUSE[kind], f"worker:{worker}")
        debit, credit = sides if signed > 0 else sides[::-1]
        row = (f"x{number}", source_ref, kind, debit, credit, abs(signed), "USD", worker, versions[worker], signed)
        connection.execute(
            "INSERT INTO ledger_transfer VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, 1, 1)",
            (*row, balances[worker], DAY, DAY, task),
        )
    connection.executemany(
        "INSERT INTO ledger_account VALUES (?, ?, ?)",
        [(worker, balances[worker], versions[worker]) for worker in balances],
    )


def _write_kit(connection: sqlite3.Connection) -> None:
    connection.execute(
        'INSERT INTO progress (group_name, topic, "partition", epoch, first_offset, next_offset, consumed, handled, '
        "duplicate, parked, updated_at_ms) VALUES ('payday.tasks', 'tasks.commands', 0, 1, 0, 10, 10, 6, 3, 1, 1)"
    )
    park(connection, 7)
    connection.execute(
        "INSERT INTO outbox (topic, lane, value, headers, message_id, type, created_at_ms, sent_at_ms) "
        "VALUES ('tasks.events', 0, x'7b7d', x'5b5d', 'm1', 't.v1', 1, 1)"
    )


def park(
    connection: sqlite3.Connection,
    offset: int,
    *,
    group: str = "payday.tasks",
    topic: str = "tasks.commands",
    key: bytes = b"k",
    reason: str = "invalid",
    state: str = "dead",
    next_attempt_at_ms: int | None = None,
) -> None:
    """Set a record aside."""
    connection.execute(
        'INSERT INTO parked (group_name, topic, "partition", "offset", timestamp_ms, record_hash, key, key_hash, '
        "value, headers, type, reason, state, holds_key, error_type, error, next_attempt_at_ms, parked_at_ms) "
        "VALUES (?, ?, 0, ?, 1, x'00', ?, 'h', x'7b', ?, 't.v1', ?, ?, 0, 'Oops', 'is wrong', ?, 1)",
        (group, topic, offset, key, b'[["ce_type","t.v1"]]', reason, state, next_attempt_at_ms),
    )
