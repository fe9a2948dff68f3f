"""The rows of the accounting slice in the database, loaded and saved a batch at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from streams.accounting.domain import Price, PriceKey, Rejection, RejectionKey
from streams.accounting.tables import accounting_price, accounting_rejection
from streams.ledger.directory import WorkerKey
from streams.ledger.store import WorkerRows, ledger_rows
from streams.storage.bulk import among, insert_new_rows, insert_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.intake.deciders import Rows
    from streams.intake.unit_of_work import UnitOfWork

__all__ = ["accounting_rows"]


def accounting_rows() -> dict[type, Rows]:
    """What the slice's deciders work on, in the order of locks: the book before any account."""
    return {WorkerKey: WorkerRows(), PriceKey: _Prices(), **ledger_rows(), RejectionKey: _Rejections()}


class _Prices:
    async def load(self, connection: AsyncConnection, keys: set[PriceKey]) -> Mapping[Any, Any]:
        rows = await connection.execute(
            select(
                accounting_price.c.task_id,
                accounting_price.c.fee_minor,
                accounting_price.c.reward_minor,
                accounting_price.c.priced_at_ms,
            ).where(among(connection, accounting_price.c.task_id, {key.task_id for key in keys}))
        )
        return {PriceKey(row[0]): Price(*row) for row in rows}

    async def save(self, work: UnitOfWork, changed: Mapping[PriceKey, Price]) -> None:
        """A price is only ever put when there is none."""
        await insert_new_rows(
            work.connection,
            accounting_price,
            ("task_id", "fee_minor", "reward_minor", "priced_at_ms"),
            sorted((row.task_id, row.fee_minor, row.reward_minor, row.priced_at_ms) for row in changed.values()),
        )


class _Rejections:
    async def load(self, connection: AsyncConnection, keys: set[RejectionKey]) -> Mapping[Any, Any]:
        raise NotImplementedError("rejections are only ever added")

    async def save(self, work: UnitOfWork, changed: Mapping[RejectionKey, Rejection]) -> None:
        await insert_rows(
            work.connection,
            accounting_rejection,
            ("command_id", "command_type", "reason_code", "rejected_at_ms"),
            [(row.command_id, row.command_type, row.reason_code, row.rejected_at_ms) for row in changed.values()],
        )
