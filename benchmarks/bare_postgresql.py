"""The statements of the bare loop on PostgreSQL: COPY for rows that are new, arrays for those that change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import asyncpg  # type: ignore[import-untyped]

from benchmarks.bare_store import EVENT, TRANSFER, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PostgresqlStore"]

KNOWN = "SELECT EXISTS (SELECT FROM inbox WHERE group_name = $1 AND source = ANY($2) AND message_id = ANY($3))"
TASKS = "SELECT task_id, assignee, number, completed_at_ms FROM tasks_task WHERE task_id = ANY($1)"
PRICES = "SELECT task_id, fee_minor, reward_minor FROM accounting_price WHERE task_id = ANY($1)"
POSTED = "SELECT EXISTS (SELECT FROM ledger_transfer WHERE source_ref = ANY($1))"
PROGRESS = (
    "INSERT INTO progress (group_name, topic, partition, epoch, first_offset, next_offset, consumed, handled, "
    "updated_at_ms) SELECT group_name, topic, partition, 1, 0, next_offset, consumed, handled, at "
    "FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) "
    "AS new (group_name, topic, partition, next_offset, consumed, handled, at) "
    "ON CONFLICT (group_name, topic, partition) DO UPDATE SET next_offset = excluded.next_offset, "
    "consumed = progress.consumed + excluded.consumed, handled = progress.handled + excluded.handled, "
    "updated_at_ms = excluded.updated_at_ms"
)
DONE = (
    "UPDATE tasks_task SET completed_at_ms = done.at FROM unnest($1::bigint[], $2::bigint[]) AS done (at, number) "
    "WHERE tasks_task.number = done.number"
)
ACCOUNTS = (
    "INSERT INTO ledger_account (worker_id, balance_minor, version) "
    "SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[]) ON CONFLICT (worker_id) DO UPDATE SET "
    "balance_minor = excluded.balance_minor, version = excluded.version"
)
SENT = "UPDATE outbox SET sent_at_ms = $1, attempts = attempts + 1 WHERE id = ANY($2::bigint[])"


class PostgresqlStore:
    """A database that has its tables. Commits are as durable as the server says; statements without rows are left out.

    Args:
        connection: used by nobody else.
    """

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, dsn: str) -> Self:
        """Connect.

        Each statement is planned for the table as it is: a plan that was kept from when it was empty reads all of it.
        """
        return cls(await asyncpg.connect(dsn, server_settings={"plan_cache_mode": "force_custom_plan"}))

    async def begin(self) -> None:
        await self._connection.execute("BEGIN")

    async def commit(self) -> None:
        await self._connection.execute("COMMIT")

    async def known(self, group: str, messages: Sequence[tuple[str, str]]) -> bool:
        sources = list({source for source, _ in messages})
        return bool(await self._connection.fetchval(KNOWN, group, sources, [each for _, each in messages]))

    async def tasks(self, task_ids: Sequence[str]) -> dict[str, Row]:
        return {row[0]: tuple(row) for row in await self._connection.fetch(TASKS, task_ids)}

    async def prices(self, task_ids: Sequence[str]) -> dict[str, Row]:
        return {row[0]: tuple(row) for row in await self._connection.fetch(PRICES, task_ids)}

    async def accounts(self) -> dict[str, tuple[int, int]]:
        rows = await self._connection.fetch("SELECT worker_id, balance_minor, version FROM ledger_account")
        return {row[0]: (row[1], row[2]) for row in rows}

    async def posted(self, source_refs: Sequence[str]) -> bool:
        return bool(await self._connection.fetchval(POSTED, source_refs))

    async def save_intake(self, inbox: Sequence[Row], progress: Sequence[Row]) -> None:
        columns = ("group_name", "source", "message_id", "type", "body_hash", "recorded_at_ms")
        await self._copy("inbox", columns, inbox)
        await self._with_arrays(PROGRESS, progress)

    async def save_events(self, events: Sequence[Row]) -> None:
        await self._copy("outbox", EVENT, events)

    async def mark_sent(self, event_ids: Sequence[int], now_ms: int) -> None:
        await self._connection.execute(SENT, now_ms, event_ids)

    async def save_tasks(
        self, workers: Sequence[Row], tasks: Sequence[Row], assignments: Sequence[Row], done: Sequence[Row]
    ) -> None:
        await self._copy("tasks_worker", ("worker_id", "role", "active"), workers)
        await self._copy("tasks_task", ("task_id", "title", "assignee", "created_at_ms", "completed_at_ms"), tasks)
        columns = ("assignment_id", "task_id", "worker_id", "reason", "assigned_at_ms")
        await self._copy("tasks_assignment", columns, assignments)
        await self._with_arrays(DONE, done)

    async def save_accounting(
        self, workers: Sequence[Row], prices: Sequence[Row], accounts: Sequence[Row], transfers: Sequence[Row]
    ) -> None:
        await self._copy("accounting_worker", ("worker_id", "role", "active"), workers)
        await self._copy("accounting_price", ("task_id", "fee_minor", "reward_minor", "priced_at_ms"), prices)
        await self._with_arrays(ACCOUNTS, accounts)
        await self._copy("ledger_transfer", TRANSFER, transfers)

    async def close(self) -> None:
        await self._connection.close()

    async def _copy(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        if rows:
            await self._connection.copy_records_to_table(table, records=rows, columns=columns)

    async def _with_arrays(self, statement: str, rows: Sequence[Row]) -> None:
        """One array per column."""
        if rows:
            await self._connection.execute(statement, *map(list, zip(*rows, strict=True)))
