"""The ledger's rows in the database, loaded and saved a batch at a time."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select, update

from streams.ledger.domain import Account, AccountKey, Book, BookClosingKey, BookKey, Transfer, TransferKey
from streams.ledger.tables import BOOK_ID, ledger_account, ledger_book, ledger_transfer
from streams.storage.bulk import among, execute_many, insert_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.intake.deciders import Rows
    from streams.intake.unit_of_work import UnitOfWork

__all__ = ["ledger_rows"]


def ledger_rows() -> dict[type, Rows]:
    """What a slice that posts adds to its deciders' rows. The order is the order of locks."""
    return {
        BookClosingKey: _BookClosing(),
        BookKey: _Books(),
        AccountKey: _Accounts(),
        TransferKey: _Transfers(),
    }


class _BookClosing:
    async def load(self, connection: AsyncConnection, _keys: set[BookClosingKey]) -> Mapping[Any, Any]:
        await connection.execute(select(ledger_book.c.book_id).with_for_update())
        return {}

    async def save(self, work: UnitOfWork, changed: Mapping[Any, Any]) -> None:
        """The right to close is held, not written."""


class _Books:
    async def load(self, connection: AsyncConnection, keys: set[BookKey]) -> Mapping[Any, Any]:
        """Lock first, read in a second statement: a closing that committed while we waited must be seen."""
        await connection.execute(select(ledger_book.c.book_id).with_for_update(read=True))
        closed_through = (await connection.execute(select(ledger_book.c.closed_through))).scalar_one()
        return dict.fromkeys(keys, Book(date.fromisoformat(closed_through) if closed_through else None))

    async def save(self, work: UnitOfWork, changed: Mapping[BookKey, Book]) -> None:
        for book in changed.values():
            assert book.closed_through is not None, "a book that changed has a closed period"
            await work.connection.execute(
                update(ledger_book)
                .where(ledger_book.c.book_id == BOOK_ID)
                .values(closed_through=book.closed_through.isoformat())
            )


_UPDATE_ACCOUNT = (
    update(ledger_account)
    .where(ledger_account.c.worker_id == bindparam("in_worker_id"))
    .values(balance_minor=bindparam("new_balance"), version=bindparam("new_version"))
)


class _Accounts:
    async def load(self, connection: AsyncConnection, keys: set[AccountKey]) -> Mapping[Any, Any]:
        rows = await connection.execute(
            select(ledger_account.c.worker_id, ledger_account.c.balance_minor, ledger_account.c.version)
            .where(among(connection, ledger_account.c.worker_id, {key.worker_id for key in keys}))
            .order_by(ledger_account.c.worker_id)
            .with_for_update()
        )
        return {AccountKey(row[0]): Account(row[0], row[1], row[2], row[2]) for row in rows}

    async def save(self, work: UnitOfWork, changed: Mapping[AccountKey, Account]) -> None:
        new = [account for account in changed.values() if account.stored_version == 0]
        await insert_rows(
            work.connection,
            ledger_account,
            ("worker_id", "balance_minor", "version"),
            [(account.worker_id, account.balance_minor, account.version) for account in new],
        )
        await execute_many(
            work.connection,
            _UPDATE_ACCOUNT,
            [
                {
                    "in_worker_id": account.worker_id,
                    "new_balance": account.balance_minor,
                    "new_version": account.version,
                }
                for account in changed.values()
                if account.stored_version > 0
            ],
        )


TRANSFER_COLUMNS = (*Transfer._fields, "recorded_at_ms")
KNOWN = object()
"""Stands for a transfer that exists; nobody needs more of it."""


class _Transfers:
    async def load(self, connection: AsyncConnection, keys: set[TransferKey]) -> Mapping[Any, Any]:
        rows = await connection.execute(
            select(ledger_transfer.c.source_ref).where(
                among(connection, ledger_transfer.c.source_ref, {key.source_ref for key in keys})
            )
        )
        return {TransferKey(row[0]): KNOWN for row in rows}

    async def save(self, work: UnitOfWork, changed: Mapping[TransferKey, Transfer]) -> None:
        rows = [
            (
                *transfer._replace(period=_text(transfer.period), business_date=_text(transfer.business_date)),
                work.now_ms,
            )
            for transfer in changed.values()
        ]
        await insert_rows(work.connection, ledger_transfer, TRANSFER_COLUMNS, rows)


def _text(day: date) -> Any:
    """A date as its column holds it."""
    return day.isoformat()
