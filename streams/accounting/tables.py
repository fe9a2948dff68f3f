"""The tables of the accounting slice; the money itself is in the ledger's."""

from __future__ import annotations

from sqlalchemy import Column, Table

from streams.storage.schema import app_metadata
from streams.storage.types import Counter, Id, Millis, Name

__all__ = ["accounting_price", "accounting_rejection"]

accounting_price = Table(
    "accounting_price",
    app_metadata,
    Column("task_id", Id, primary_key=True),
    Column("fee_minor", Counter, nullable=False),
    Column("reward_minor", Counter, nullable=False),
    Column("priced_at_ms", Millis, nullable=False),
)
"""Fixed once per task."""

accounting_rejection = Table(
    "accounting_rejection",
    app_metadata,
    Column("command_id", Name, primary_key=True),
    Column("command_type", Name, nullable=False),
    Column("reason_code", Name, nullable=False),
    Column("rejected_at_ms", Millis, nullable=False),
)
