"""The ledger's rows in the database, loaded and saved a batch at a time."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select, update

from streams.ledger.directory import Worker, WorkerKey
from streams.ledger.domain import Account, AccountKey, Book, BookClosingKey, BookKey, Transfer, TransferKey
from streams.ledger.tables import BOOK_ID, accounting_worker, ledger_account, ledger_book, ledger_transfer
from streams.storage.bulk import among, execute_many, insert_new_rows, upsert_rows
from streams.storage.locks import lock_alone, lock_shared

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.intake.deciders import Rows
    from streams.intake.unit_of_work import UnitOfWork

__all__ = [
    "WorkerRows",
    "close_through",
    "insert_transfers",
    "ledger_rows",
    "load_closed_through",
    "share_book",
    "take_book_alone",
]


def ledger_rows() -> dict[type, Rows]:
    """What a slice that posts adds to its deciders' rows. The order is the order of locks."""
    return {
        BookClosingKey: _BookClosing(),
        BookKey: _Books(),
        AccountKey: _Accounts(),
        TransferKey: _Transfers(),
    }


BOOK = "ledger_book"
"""The lock of the book: every posting shares it, closing a period takes it alone."""


async def share_book(connection: AsyncConnection) -> Book:
    """Keep periods from being closed until this transaction ends, and say which are.

    Lock first, read in a second statement: a closing that committed while we waited must be seen.
    """
    await lock_shared(connection, BOOK)
    return await load_closed_through(connection)


async def take_book_alone(connection: AsyncConnection) -> None:
    """Wait until no posting is under way, and keep others from beginning until this transaction ends."""
    await lock_alone(connection, BOOK)


async def load_closed_through(connection: AsyncConnection) -> Book:
    """Which periods are closed; final only under one of the book's locks."""
    closed_through = (await connection.execute(select(ledger_book.c.closed_through))).scalar_one()
    return Book(date.fromisoformat(closed_through) if closed_through else None)


async def close_through(connection: AsyncConnection, period: date) -> None:
    """Close a period and every earlier one. The caller has taken the book alone."""
    await connection.execute(
        update(ledger_book).where(ledger_book.c.book_id == BOOK_ID).values(closed_through=period.isoformat())
    )


async def insert_transfers(connection: AsyncConnection, transfers: Iterable[Transfer], now_ms: int) -> None:
    """Add rows to the ledger.

    Args:
        connection: of the transaction that also changes the accounts.
        transfers: rows that are not there yet.
        now_ms: when they are written down.
    """
    rows = [
        (*transfer._replace(period=_text(transfer.period), business_date=_text(transfer.business_date)), now_ms)
        for transfer in transfers
    ]
    await insert_new_rows(connection, ledger_transfer, TRANSFER_COLUMNS, rows)


class WorkerRows:
    """The directory of who may do what with money."""

    async def load(self, connection: AsyncConnection, keys: set[WorkerKey]) -> Mapping[Any, Any]:
        """Without a lock: a worker is changed by the events of its own key alone, one after the other.

        Whoever asks for something while a change is under way counts as having asked before it.
        """
        rows = await connection.execute(
            select(accounting_worker).where(
                among(connection, accounting_worker.c.worker_id, {key.worker_id for key in keys})
            )
        )
        return {WorkerKey(row.worker_id): Worker(row.worker_id, row.role, row.active) for row in rows}

    async def save(self, work: UnitOfWork, changed: Mapping[WorkerKey, Worker]) -> None:
        await upsert_rows(
            work.connection,
            accounting_worker,
            ("worker_id", "role", "active"),
            sorted((worker.worker_id, worker.role, worker.active) for worker in changed.values()),
        )


class _BookClosing:
    async def load(self, connection: AsyncConnection, _keys: set[BookClosingKey]) -> Mapping[Any, Any]:
        await take_book_alone(connection)
        return {}

    async def save(self, work: UnitOfWork, changed: Mapping[Any, Any]) -> None:
        """The right to close is held, not written."""


class _Books:
    async def load(self, connection: AsyncConnection, keys: set[BookKey]) -> Mapping[Any, Any]:
        return dict.fromkeys(keys, await share_book(connection))

    async def save(self, work: UnitOfWork, changed: Mapping[BookKey, Book]) -> None:
        for book in changed.values():
            assert book.closed_through is not None, "a book that changed has a closed period"
            await close_through(work.connection, book.closed_through)


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
        """Two first postings of one account at once: the second is redone, and then finds the account."""
        await insert_new_rows(
            work.connection,
            ledger_account,
            ("worker_id", "balance_minor", "version"),
            sorted(
                (account.worker_id, account.balance_minor, account.version)
                for account in changed.values()
                if account.stored_version == 0
            ),
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
        await insert_transfers(work.connection, changed.values(), work.now_ms)


def _text(day: date) -> Any:
    """A date as its column holds it."""
    return day.isoformat()
