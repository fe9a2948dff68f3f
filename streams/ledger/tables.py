"""The ledger's tables. Amounts are whole minor units of the deployment's one currency."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, Index, Integer, Table, UniqueConstraint

from streams.storage.schema import app_metadata
from streams.storage.types import Counter, Day, Id, Millis, Name, Text

__all__ = ["BOOK_ID", "accounting_worker", "ledger_account", "ledger_book", "ledger_transfer"]

BOOK_ID = 1

ledger_book = Table(
    "ledger_book",
    app_metadata,
    Column("book_id", Integer, primary_key=True, autoincrement=False),
    Column("closed_through", Day),
)
"""One row: every period up to `closed_through` is closed. Postings share its lock, closing a period takes it alone."""

accounting_worker = Table(
    "accounting_worker",
    app_metadata,
    Column("worker_id", Id, primary_key=True),
    Column("role", Name, nullable=False),
    Column("active", Boolean, nullable=False),
)
"""Who may ask for what. The accounting slice writes it, hence its name; the other slices that move money read it."""

ledger_account = Table(
    "ledger_account",
    app_metadata,
    Column("worker_id", Id, primary_key=True),
    Column("balance_minor", Counter, nullable=False),
    Column("version", Counter, nullable=False),
)
"""What is owed to each worker. `version` is the sequence of the account's last posting. House accounts have no row:
they are derived from the transfers."""

ledger_transfer = Table(
    "ledger_transfer",
    app_metadata,
    Column("transfer_id", Id, primary_key=True),
    Column("source_ref", Name, nullable=False, unique=True),
    Column("kind", Name, nullable=False),
    Column("debit_account", Name, nullable=False),
    Column("credit_account", Name, nullable=False),
    Column("amount_minor", Counter, nullable=False),
    Column("currency", Name, nullable=False),
    Column("worker_id", Id),
    Column("sequence", Counter),
    Column("signed_minor", Counter),
    Column("balance_after_minor", Counter),
    Column("period", Day, nullable=False),
    Column("business_date", Day, nullable=False),
    Column("task_id", Id),
    Column("payout_id", Id),
    Column("note", Text),
    Column("occurred_at_ms", Millis, nullable=False),
    Column("recorded_at_ms", Millis, nullable=False),
    UniqueConstraint("worker_id", "sequence"),
    CheckConstraint("amount_minor > 0", name="amount_is_positive"),
    CheckConstraint(
        "(kind = 'settlement') = (worker_id IS NULL) AND (worker_id IS NULL) = (sequence IS NULL) "
        "AND (worker_id IS NULL) = (signed_minor IS NULL) AND (worker_id IS NULL) = (balance_after_minor IS NULL)",
        name="worker_side_is_whole",
    ),
)
"""Immutable double-entry rows. Each names the account that is debited and the one that is credited; the worker's side
of it is repeated as a signed amount with its place in the account's sequence. A settlement moves money from one house
account to another and has no worker's side."""
Index("ix_ledger_transfer_period", ledger_transfer.c.worker_id, ledger_transfer.c.period)
