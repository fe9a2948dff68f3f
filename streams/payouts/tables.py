"""The tables of the payouts slice; the money itself is in the ledger's. Amounts are whole minor units."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, Integer, Table, UniqueConstraint

from streams.storage.schema import app_metadata
from streams.storage.types import Counter, Day, Id, Millis, Name, Text

__all__ = [
    "payout",
    "payout_difference",
    "payout_rejection",
    "payout_run",
    "payout_set_aside",
    "payout_shard",
]

payout_run = Table(
    "payout_run",
    app_metadata,
    Column("period", Day, primary_key=True),
    Column("status", Name, nullable=False),
    Column("trigger", Name, nullable=False),
    Column("time_ms", Millis, nullable=False),
    Column("cause_id", Name),
    Column("correlation_id", Name),
    Column("traceparent", Name),
    Column("parked_at_close", Counter, nullable=False),
    Column("registered_at_ms", Millis, nullable=False),
    Column("reserved_at_ms", Millis),
    Column("completed_at_ms", Millis),
    Column("paid_count", Counter),
    Column("failed_count", Counter),
    Column("total_minor", Counter),
)
"""A day's payout, registered once. `time_ms` and the three columns after it say what asked for it, a message or a
moment; the counts are those at its completion. `parked_at_close`: records whose money was late at that time."""

payout_shard = Table(
    "payout_shard",
    app_metadata,
    Column("period", Day, primary_key=True),
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("up_to", Id),
    Column("cursor", Id, nullable=False),
    Column("holder", Name),
    Column("fence", Counter, nullable=False, server_default="0"),
    Column("lease_expires_at_ms", Millis),
    Column("accounts_done", Counter, nullable=False, server_default="0"),
    Column("accounts_total", Counter, nullable=False),
    Column("finished_at_ms", Millis),
)
"""A stretch of account ids, (first cursor, up_to]; the last one is open at its end. `cursor` is the last account that
is done. `fence` grows at every claim: a transaction of an earlier holder finds another one and is refused."""

payout = Table(
    "payout",
    app_metadata,
    Column("payout_id", Id, primary_key=True),
    Column("worker_id", Id, nullable=False),
    Column("period", Day, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("amount_minor", Counter, nullable=False),
    Column("currency", Name, nullable=False),
    Column("state", Name, nullable=False),
    Column("attempts", Counter, nullable=False, server_default="0"),
    Column("unanswered", Counter, nullable=False, server_default="0"),
    Column("next_attempt_at_ms", Millis),
    Column("sendable_since_ms", Millis, nullable=False),
    Column("first_sent_at_ms", Millis),
    Column("holder", Name),
    Column("provider_ref", Name),
    Column("reason_code", Name),
    Column("note", Text),
    Column("reversal_period", Day),
    Column("requested_at_ms", Millis, nullable=False),
    Column("decided_at_ms", Millis),
    Column("time_ms", Millis),
    Column("cause_id", Name),
    Column("correlation_id", Name),
    Column("traceparent", Name),
    UniqueConstraint("period", "worker_id", "seq"),
    CheckConstraint("amount_minor > 0", name="amount_is_positive"),
    CheckConstraint(
        "(state IN ('requested', 'sending', 'unknown')) = (next_attempt_at_ms IS NOT NULL)", name="open_has_a_time"
    ),
)
"""One payment of one account. While it is open, `next_attempt_at_ms` says when it may be claimed next: at the end of
the lease while it is being sent. `attempts` counts the claims and is the fence of what they find out; `unanswered`
counts those that found out nothing. `sendable_since_ms`: the bank cannot have known its key before. The last four
columns are those of a reissue's command; they are empty where the run says it."""

Index(
    "ix_payout_due",
    payout.c.next_attempt_at_ms,
    sqlite_where=payout.c.next_attempt_at_ms.is_not(None),
    postgresql_where=payout.c.next_attempt_at_ms.is_not(None),
)
Index(
    "ix_payout_open",
    payout.c.period,
    sqlite_where=payout.c.next_attempt_at_ms.is_not(None),
    postgresql_where=payout.c.next_attempt_at_ms.is_not(None),
)
Index(
    "ix_payout_review",
    payout.c.period,
    sqlite_where=payout.c.state == "manual-review",
    postgresql_where=payout.c.state == "manual-review",
)

payout_set_aside = Table(
    "payout_set_aside",
    app_metadata,
    Column("period", Day, primary_key=True),
    Column("worker_id", Id, primary_key=True),
    Column("error", Text, nullable=False),
    Column("set_aside_at_ms", Millis, nullable=False),
    Column("resolved_at_ms", Millis),
    Column("note", Text),
)
"""Accounts that a run could not pay; what they are owed stays in their balances, for the next run."""

payout_difference = Table(
    "payout_difference",
    app_metadata,
    Column("period", Day, primary_key=True),
    Column("kind", Name, primary_key=True),
    Column("reference", Name, primary_key=True),
    Column("detail", Text, nullable=False),
    Column("found_at_ms", Millis, nullable=False),
    Column("seen_at_ms", Millis, nullable=False),
    Column("resolved_at_ms", Millis),
    Column("note", Text),
)
"""Where payouts, ledger and the bank's report disagree. Resolved by a person with a note, or by a later look that no
longer finds it."""

payout_rejection = Table(
    "payout_rejection",
    app_metadata,
    Column("command_id", Name, primary_key=True),
    Column("command_type", Name, nullable=False),
    Column("reason_code", Name, nullable=False),
    Column("rejected_at_ms", Millis, nullable=False),
)
