"""The statements of the bare loop on SQLite: executemany."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

from sqlalchemy import create_engine

from benchmarks.bare_store import EVENT, TRANSFER, Row
from streams.app import ALL_METADATA

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["SqliteStore"]

PROGRESS = (
    "INSERT INTO progress (group_name, topic, partition, epoch, first_offset, next_offset, consumed, handled, "
    "updated_at_ms) VALUES (?, ?, ?, 1, 0, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "next_offset = excluded.next_offset, consumed = consumed + excluded.consumed, "
    "handled = handled + excluded.handled, updated_at_ms = excluded.updated_at_ms"
)


class SqliteStore:
    """A file that is made with its tables; each commit is flushed to the disk."""

    def __init__(self, file: Path) -> None:
        engine = create_engine(f"sqlite:///{file}")
        for metadata in ALL_METADATA:
            metadata.create_all(engine)
        engine.dispose()
        self._database = sqlite3.connect(file, isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            self._database.execute(f"PRAGMA {pragma}")

    async def begin(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    async def commit(self) -> None:
        self._database.execute("COMMIT")

    async def known(self, group: str, messages: Sequence[tuple[str, str]]) -> bool:
        found = self._database.execute(
            "SELECT message_id FROM inbox WHERE group_name = ? AND message_id IN (SELECT value FROM json_each(?))",
            (group, json.dumps([message_id for _, message_id in messages])),
        )
        return bool(found.fetchall())

    async def tasks(self, task_ids: Sequence[str]) -> dict[str, Row]:
        return self._by_id("SELECT task_id, assignee, number, completed_at_ms FROM tasks_task", task_ids)

    async def prices(self, task_ids: Sequence[str]) -> dict[str, Row]:
        return self._by_id("SELECT task_id, fee_minor, reward_minor FROM accounting_price", task_ids)

    async def accounts(self) -> dict[str, tuple[int, int]]:
        rows = self._database.execute("SELECT worker_id, balance_minor, version FROM ledger_account")
        return {row[0]: (row[1], row[2]) for row in rows}

    async def posted(self, source_refs: Sequence[str]) -> bool:
        found = self._database.execute(
            "SELECT source_ref FROM ledger_transfer WHERE source_ref IN (SELECT value FROM json_each(?))",
            (json.dumps(source_refs),),
        )
        return bool(found.fetchall())

    async def save_intake(self, inbox: Sequence[Row], progress: Sequence[Row]) -> None:
        self._insert("inbox", ("group_name", "source", "message_id", "type", "body_hash", "recorded_at_ms"), inbox)
        self._database.executemany(PROGRESS, progress)

    async def save_events(self, events: Sequence[Row]) -> None:
        self._insert("outbox", EVENT, events)

    async def mark_sent(self, event_ids: Sequence[int], now_ms: int) -> None:
        self._database.executemany(
            "UPDATE outbox SET sent_at_ms = ?, attempts = attempts + 1 WHERE id = ?",
            [(now_ms, number) for number in event_ids],
        )

    async def save_tasks(
        self, workers: Sequence[Row], tasks: Sequence[Row], assignments: Sequence[Row], done: Sequence[Row]
    ) -> None:
        self._insert("tasks_worker", ("worker_id", "role", "active"), workers)
        self._insert("tasks_task", ("task_id", "title", "assignee", "created_at_ms", "completed_at_ms"), tasks)
        columns = ("assignment_id", "task_id", "worker_id", "reason", "assigned_at_ms")
        self._insert("tasks_assignment", columns, assignments)
        self._database.executemany("UPDATE tasks_task SET completed_at_ms = ? WHERE number = ?", done)

    async def save_accounting(
        self, workers: Sequence[Row], prices: Sequence[Row], accounts: Sequence[Row], transfers: Sequence[Row]
    ) -> None:
        self._insert("accounting_worker", ("worker_id", "role", "active"), workers)
        self._insert("accounting_price", ("task_id", "fee_minor", "reward_minor", "priced_at_ms"), prices)
        self._database.executemany(
            "INSERT INTO ledger_account VALUES (?, ?, ?) ON CONFLICT (worker_id) DO UPDATE SET "
            "balance_minor = excluded.balance_minor, version = excluded.version",
            accounts,
        )
        self._insert("ledger_transfer", TRANSFER, transfers)

    async def close(self) -> None:
        self._database.close()

    def _by_id(self, select: str, task_ids: Sequence[str]) -> dict[str, Row]:
        where = f"{select} WHERE task_id IN (SELECT value FROM json_each(?))"
        return {row[0]: row for row in self._database.execute(where, (json.dumps(task_ids),))}

    def _insert(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        marks = ", ".join("?" * len(columns))
        self._database.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
