"""The account statement of one worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from streams.ledger.tables import ledger_account, ledger_transfer

if TYPE_CHECKING:
    from streams.storage.database import Database

__all__ = ["statement"]

ENTRY_COLUMNS = (
    "sequence",
    "transfer_id",
    "kind",
    "signed_minor",
    "currency",
    "balance_after_minor",
    "period",
    "business_date",
    "task_id",
    "payout_id",
    "note",
    "source_ref",
    "occurred_at_ms",
    "recorded_at_ms",
)


async def statement(database: Database, worker_id: str, currency: str) -> dict[str, Any] | None:
    """What `payday ledger --json` prints; None for a worker without an account.

    Args:
        database: of the app.
        worker_id: a UUID.
        currency: the deployment's.

    Raises:
        StorageError: the database cannot be read.
    """
    async with database.read() as connection:
        balance = (
            await connection.execute(
                select(ledger_account.c.balance_minor).where(ledger_account.c.worker_id == worker_id)
            )
        ).scalar_one_or_none()
        if balance is None:
            return None
        rows = await connection.execute(
            select(*(ledger_transfer.c[name] for name in ENTRY_COLUMNS))
            .where(ledger_transfer.c.worker_id == worker_id)
            .order_by(ledger_transfer.c.sequence)
        )
        entries = [_entry(dict(row)) for row in rows.mappings()]
    return {"worker_id": worker_id, "balance_minor": balance, "currency": currency, "entries": entries}


def _entry(row: dict[str, Any]) -> dict[str, Any]:
    """Named as in `transaction-applied`: `amount_minor` is signed; what does not apply is left out."""
    renamed = {"amount_minor" if name == "signed_minor" else name: value for name, value in row.items()}
    return {name: value for name, value in renamed.items() if value is not None}
