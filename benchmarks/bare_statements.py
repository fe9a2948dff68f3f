"""The statements of the bare loop: one for all rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3

__all__ = ["INBOX", "OUTBOX", "PRICES", "PROGRESS", "TASKS", "Row", "save_accounting", "save_tasks"]

Row = tuple[Any, ...]

INBOX = "INSERT INTO inbox (group_name, source, message_id, type, body_hash, recorded_at_ms) VALUES (?, ?, ?, ?, ?, ?)"
OUTBOX = (
    "INSERT INTO outbox (id, topic, key, lane, value, headers, message_id, type, created_at_ms) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
TRANSFER = (
    "INSERT INTO ledger_transfer (transfer_id, source_ref, kind, debit_account, credit_account, amount_minor, "
    "currency, worker_id, sequence, signed_minor, balance_after_minor, period, business_date, task_id, occurred_at_ms, "
    "recorded_at_ms) VALUES (?, ?, ?, ?, ?, ?, 'USD', ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
PROGRESS = (
    "INSERT INTO progress (group_name, topic, partition, epoch, first_offset, next_offset, consumed, handled, dirty, "
    "updated_at_ms) VALUES (?, ?, ?, 1, 0, ?, ?, ?, 0, ?) ON CONFLICT DO UPDATE SET "
    "next_offset = excluded.next_offset, consumed = consumed + excluded.consumed, "
    "handled = handled + excluded.handled, updated_at_ms = excluded.updated_at_ms"
)
TASKS = (
    "SELECT task_id, assignee, number, completed_at_ms FROM tasks_task "
    "WHERE task_id IN (SELECT value FROM json_each(?))"
)
PRICES = (
    "SELECT task_id, fee_minor, reward_minor FROM accounting_price WHERE task_id IN (SELECT value FROM json_each(?))"
)


def save_tasks(
    database: sqlite3.Connection, workers: list[Row], tasks: list[list[Any]], assignments: list[Row], done: list[Row]
) -> None:
    """Write what a batch made, and what it completed of earlier batches."""
    database.executemany("INSERT INTO tasks_worker VALUES (?, ?, 1)", workers)
    database.executemany(
        "INSERT INTO tasks_task (task_id, title, assignee, created_at_ms, completed_at_ms) VALUES (?, ?, ?, ?, ?)",
        tasks,
    )
    database.executemany("INSERT INTO tasks_assignment VALUES (?, ?, ?, 'created', ?)", assignments)
    database.executemany("UPDATE tasks_task SET completed_at_ms = ? WHERE number = ?", done)


def save_accounting(
    database: sqlite3.Connection,
    workers: list[Row],
    prices: list[Row],
    accounts: dict[str, tuple[int, int]],
    transfers: list[Row],
) -> None:
    """Write what a batch changed; of the accounts those that a transfer touches."""
    database.executemany("INSERT INTO accounting_worker VALUES (?, ?, 1)", workers)
    database.executemany("INSERT INTO accounting_price VALUES (?, ?, ?, ?)", prices)
    database.executemany(
        "INSERT INTO ledger_account VALUES (?, ?, ?) ON CONFLICT (worker_id) DO UPDATE SET "
        "balance_minor = excluded.balance_minor, version = excluded.version",
        [(worker_id, *accounts[worker_id]) for worker_id in {row[6] for row in transfers}],
    )
    database.executemany(TRANSFER, transfers)
