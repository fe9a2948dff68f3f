"""The table of leases: who may do a piece of work for how long, with a fence that grows at every change of holder."""

from __future__ import annotations

from sqlalchemy import Column, Table

from streams.storage.schema import kit_metadata
from streams.storage.types import Counter, Millis, Name

__all__ = ["lease"]

lease = Table(
    "lease",
    kit_metadata,
    Column("name", Name, primary_key=True),
    Column("holder", Name),
    Column("fence", Counter, nullable=False, server_default="0"),
    Column("expires_at_ms", Millis),
)
