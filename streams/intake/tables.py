"""The tables of the consume side: what was taken, how far, and what was set aside."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, Table, UniqueConstraint, and_, true

from streams.storage.schema import kit_metadata
from streams.storage.types import AutoId, Bytes, Counter, Id, Millis, Name, Text

__all__ = ["inbox", "intake_pause", "operator_action", "ownership", "parked", "progress", "suspect"]

inbox = Table(
    "inbox",
    kit_metadata,
    Column("group_name", Name, primary_key=True),
    Column("source", Name, primary_key=True),
    Column("message_id", Name, primary_key=True),
    Column("type", Name, nullable=False),
    Column("body_hash", Bytes, nullable=False),
    Column("recorded_at_ms", Millis, nullable=False),
    sqlite_with_rowid=False,
)
"""One row per message that a group has handled: what is read again finds itself here."""

progress = Table(
    "progress",
    kit_metadata,
    Column("group_name", Name, primary_key=True),
    Column("topic", Name, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Counter, nullable=False),
    Column("first_offset", Counter, nullable=False),
    Column("next_offset", Counter, nullable=False),
    *(
        Column(name, Counter, nullable=False, server_default="0")
        for name in ("consumed", "handled", "duplicate", "parked", "discarded", "lost", "skipped")
    ),
    *(Column(f"{name}_acknowledged", Counter, nullable=False, server_default="0") for name in ("lost", "skipped")),
    Column("updated_at_ms", Millis, nullable=False),
)
"""How far a group has come in a partition, moved by compare-and-set in each batch's transaction. `epoch` grows with
every assignment: a consumer that was frozen and replaced finds another epoch and is refused. `parked` are unresolved
records, so that consumed = handled + duplicate + parked + discarded at every commit. Of `lost` and `skipped`, so many
were acknowledged by an operator and raise no alarm any more."""

parked = Table(
    "parked",
    kit_metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("group_name", Name, nullable=False),
    Column("topic", Name, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", Counter, nullable=False),
    Column("timestamp_ms", Millis, nullable=False),
    Column("record_hash", Bytes, nullable=False),
    Column("key", Bytes),
    Column("key_hash", Id),
    Column("value", Bytes),
    Column("headers", Bytes, nullable=False),
    Column("type", Name),
    Column("source", Name),
    Column("message_id", Name),
    Column("reason", Name, nullable=False),
    Column("state", Name, nullable=False),
    Column("holds_key", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at_ms", Millis),
    Column("error_type", Name),
    Column("error", Text),
    Column("stack", Text),
    Column("parked_at_ms", Millis, nullable=False),
    Column("resolved_at_ms", Millis),
    Column("edits", Integer, nullable=False, server_default="0"),
    Column("edited_value", Bytes),
    Column("edited_headers", Bytes),
    UniqueConstraint("group_name", "topic", "partition", "offset", "timestamp_ms", "record_hash"),
)
"""Records that could not be handled, whole: dead letters and the queue of delayed retries in one.

Of the unresolved rows that hold a key exactly one is its *head*, the oldest: it is `dead`, or it has a time for its
next attempt. The others have none: they wait for their turn. Where an operator has edited a record (`edits` > 0), the
edited value and headers are what is handled; the original stays beside them."""

Index(
    "ix_parked_holding",
    parked.c.group_name,
    parked.c.topic,
    parked.c.key_hash,
    sqlite_where=and_(parked.c.resolved_at_ms.is_(None), parked.c.holds_key == true()),
    postgresql_where=and_(parked.c.resolved_at_ms.is_(None), parked.c.holds_key == true()),
)
Index(
    "ix_parked_unresolved",
    parked.c.group_name,
    parked.c.state,
    sqlite_where=parked.c.resolved_at_ms.is_(None),
    postgresql_where=parked.c.resolved_at_ms.is_(None),
)

Index(
    "ix_parked_due",
    parked.c.group_name,
    parked.c.next_attempt_at_ms,
    sqlite_where=and_(parked.c.resolved_at_ms.is_(None), parked.c.next_attempt_at_ms.is_not(None)),
    postgresql_where=and_(parked.c.resolved_at_ms.is_(None), parked.c.next_attempt_at_ms.is_not(None)),
)

ownership = Table(
    "ownership",
    kit_metadata,
    Column("group_name", Name, primary_key=True),
    Column("topic", Name, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("holder", Id, nullable=False),
    Column("since_ms", Millis, nullable=False),
    Column("from_offset", Counter),
)
"""Which process is handling a partition's records, and where its progress stood when it began (null: there was none).
The row goes when the partition is given back in good order: who finds one of somebody else knows that its last owner
died, or was taken for dead."""

suspect = Table(
    "suspect",
    kit_metadata,
    Column("group_name", Name, primary_key=True),
    Column("topic", Name, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("offset", Counter, primary_key=True, autoincrement=False),
    Column("attempts", Integer, nullable=False),
    Column("began_at_ms", Millis, nullable=False),
)
"""Records that were being handled, each alone, when their process died, or are being handled so now."""

intake_pause = Table(
    "intake_pause",
    kit_metadata,
    Column("group_name", Name, primary_key=True),
    Column("cause", Name, primary_key=True),
    Column("subject", Name, primary_key=True),
    Column("holder", Id, primary_key=True),
    Column("detail", Text, nullable=False),
    Column("since_ms", Millis, nullable=False),
    Column("seen_at_ms", Millis, nullable=False),
)
"""What keeps a process from reading on, and since when; seen again and again while it lasts."""

operator_action = Table(
    "operator_action",
    kit_metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("at_ms", Millis, nullable=False),
    Column("who", Name, nullable=False),
    Column("action", Name, nullable=False),
    Column("subject", Name, nullable=False),
    Column("reason", Text),
    Column("detail", Text),
)
"""Who did what to which record, when and why."""
