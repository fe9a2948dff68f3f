"""The table of outgoing messages."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, Table

from streams.storage.schema import kit_metadata
from streams.storage.types import AutoId, Bytes, Counter, Id, Millis, Name, Text

__all__ = ["LANES", "outbox"]

LANES = 16
"""Into how many shares the rows fall by topic and key, so that several instances can divide the work. A constant of
the schema: changing it moves keys between lanes, which takes a migration and a quiet outbox."""

outbox = Table(
    "outbox",
    kit_metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("topic", Name, nullable=False),
    Column("key", Bytes),
    Column("lane", Integer, nullable=False),
    Column("value", Bytes, nullable=False),
    Column("headers", Bytes, nullable=False),
    Column("message_id", Id, nullable=False),
    Column("type", Name, nullable=False),
    Column("created_at_ms", Millis, nullable=False),
    Column("sent_at_ms", Millis),
    Column("attempts", Counter, nullable=False, server_default="0"),
    Column("next_attempt_at_ms", Millis),
    Column("expired_at_ms", Millis),
    Column("error", Text),
)
Index(
    "ix_outbox_unsent",
    outbox.c.id,
    sqlite_where=outbox.c.sent_at_ms.is_(None),
    postgresql_where=outbox.c.sent_at_ms.is_(None),
)
