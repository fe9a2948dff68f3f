"""The tables of outgoing messages and of the relays that publish them."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, Table

from streams.storage.schema import kit_metadata
from streams.storage.types import AutoId, Bytes, Counter, Id, Millis, Name, Text

__all__ = ["LANES", "outbox", "relay_instance"]

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
    outbox.c.topic,
    outbox.c.id,
    sqlite_where=outbox.c.sent_at_ms.is_(None),
    postgresql_where=outbox.c.sent_at_ms.is_(None),
)
"""Each topic is read by itself, so that one that is held or has a long backlog costs the others nothing."""
Index(
    "ix_outbox_held",
    outbox.c.next_attempt_at_ms,
    sqlite_where=outbox.c.sent_at_ms.is_(None) & outbox.c.next_attempt_at_ms.is_not(None),
    postgresql_where=outbox.c.sent_at_ms.is_(None) & outbox.c.next_attempt_at_ms.is_not(None),
)

relay_instance = Table(
    "relay_instance",
    kit_metadata,
    Column("instance", Name, primary_key=True),
    Column("expires_at_ms", Millis, nullable=False),
    Column("breaker", Name, nullable=False),
    Column("breaker_since_ms", Millis, nullable=False),
    Column("breaker_error", Text),
)
"""The relays that live: each keeps its row fresh, and one that has expired no longer counts when lanes are divided.
It also says how the instance's circuit breaker stands, since when it was last closed, and what it met."""
