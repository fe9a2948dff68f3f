"""What the bare loop asks of its database: one statement for all rows of a table. Each database has a module for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["EVENT", "TRANSFER", "BareStore", "Row"]

Row = tuple[Any, ...]
TRANSFER = (
    "transfer_id", "source_ref", "kind", "debit_account", "credit_account", "amount_minor", "currency", "worker_id",
    "sequence", "signed_minor", "balance_after_minor", "period", "business_date", "task_id", "occurred_at_ms",
    "recorded_at_ms",
)  # fmt: skip
EVENT = ("id", "topic", "key", "lane", "value", "headers", "message_id", "type", "created_at_ms")


class BareStore(Protocol):
    """One connection. Rows have the columns of the tables in their order, where nothing else is said."""

    async def begin(self) -> None:
        """Begin a transaction."""

    async def commit(self) -> None:
        """Commit it; what is committed is on the disk."""

    async def known(self, group: str, messages: Sequence[tuple[str, str]]) -> bool:
        """Whether a group has handled one of these (source, id)."""

    async def tasks(self, task_ids: Sequence[str]) -> dict[str, Row]:
        """By id: task_id, assignee, number, completed_at_ms."""

    async def prices(self, task_ids: Sequence[str]) -> dict[str, Row]:
        """By id: task_id, fee, reward."""

    async def accounts(self) -> dict[str, tuple[int, int]]:
        """All of them: balance and version."""

    async def posted(self, source_refs: Sequence[str]) -> bool:
        """Whether one of these is in the ledger."""

    async def save_intake(self, inbox: Sequence[Row], progress: Sequence[Row]) -> None:
        """Add to the inbox, and move the positions: group, topic, partition, next offset, consumed, handled, time."""

    async def save_events(self, events: Sequence[Row]) -> None:
        """Add to the outbox the columns of `EVENT`."""

    async def mark_sent(self, event_ids: Sequence[int], now_ms: int) -> None:
        """They were acknowledged."""

    async def save_tasks(
        self, workers: Sequence[Row], tasks: Sequence[Row], assignments: Sequence[Row], done: Sequence[Row]
    ) -> None:
        """Write what a batch made, and what it completed of earlier batches.

        Of tasks: task_id, title, assignee, created_at_ms, completed_at_ms. Of those done: completed_at_ms, number.
        """

    async def save_accounting(
        self, workers: Sequence[Row], prices: Sequence[Row], accounts: Sequence[Row], transfers: Sequence[Row]
    ) -> None:
        """Write what a batch changed; of transfers the columns of `TRANSFER`."""

    async def close(self) -> None:
        """Disconnect."""
