"""The tables of alarms: what is wrong, and who has been told."""

from __future__ import annotations

from sqlalchemy import Column, Index, Table

from streams.storage.schema import kit_metadata
from streams.storage.types import AutoId, Counter, Millis, Name, Text

__all__ = ["alarm_condition", "alarm_notice"]

alarm_condition = Table(
    "alarm_condition",
    kit_metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("name", Name, nullable=False),
    Column("subject", Name, nullable=False),
    Column("severity", Name, nullable=False),
    Column("detail", Text, nullable=False),
    Column("raised_at_ms", Millis, nullable=False),
    Column("last_seen_at_ms", Millis, nullable=False),
    Column("times_seen", Counter, nullable=False, server_default="1"),
    Column("cleared_at_ms", Millis),
)
"""Something that is, or was, wrong. Of each name and subject at most one row is open (not cleared), for all instances
together. A condition that comes back after it was cleared is a new row."""

Index(
    "uq_alarm_condition_open",
    alarm_condition.c.name,
    alarm_condition.c.subject,
    unique=True,
    sqlite_where=alarm_condition.c.cleared_at_ms.is_(None),
    postgresql_where=alarm_condition.c.cleared_at_ms.is_(None),
)
Index("ix_alarm_condition_cleared_at_ms", alarm_condition.c.cleared_at_ms)

alarm_notice = Table(
    "alarm_notice",
    kit_metadata,
    Column("condition_id", Counter, primary_key=True, autoincrement=False),
    Column("sink", Name, primary_key=True),
    Column("told", Name),
    Column("notified_at_ms", Millis),
    Column("notifications", Counter, nullable=False, server_default="0"),
    Column("next_attempt_at_ms", Millis, nullable=False),
    Column("failures", Counter, nullable=False, server_default="0"),
    Column("error", Text),
    Column("claimed_by", Name),
    Column("claimed_until_ms", Millis),
    Column("finished_at_ms", Millis),
)
"""What one sink knows of one condition: the last event it took, how often it was told, when it is tried again after a
failure, and which instance is telling it now. Finished once it knows that the condition was cleared."""

Index(
    "ix_alarm_notice_unfinished",
    alarm_notice.c.sink,
    alarm_notice.c.next_attempt_at_ms,
    sqlite_where=alarm_notice.c.finished_at_ms.is_(None),
    postgresql_where=alarm_notice.c.finished_at_ms.is_(None),
)
