"""Payouts: runs, shards, payouts; and transfers between house accounts, which have no worker's side."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

WORKER_SIDE = (
    "(kind = 'settlement') = (worker_id IS NULL) AND (worker_id IS NULL) = (sequence IS NULL) "
    "AND (worker_id IS NULL) = (signed_minor IS NULL) AND (worker_id IS NULL) = (balance_after_minor IS NULL)"
)


def upgrade() -> None:
    """Widen the ledger and create the slice's tables."""
    with op.batch_alter_table(
        "ledger_transfer",
        # SQLite's way to alter is to make the table anew, and it forgets the checks
        table_args=(sa.CheckConstraint("amount_minor > 0", name=op.f("ck_ledger_transfer_amount_is_positive")),),
    ) as table:
        table.alter_column("worker_id", existing_type=sa.String(length=36), nullable=True)
        for name in ("sequence", "signed_minor", "balance_after_minor"):
            table.alter_column(name, existing_type=sa.BigInteger(), nullable=True)
        table.create_check_constraint(op.f("ck_ledger_transfer_worker_side_is_whole"), WORKER_SIDE)
    op.create_table(
        "payout_run",
        sa.Column("period", sa.String(length=10), nullable=False),
        sa.Column("status", sa.String(length=255), nullable=False),
        sa.Column("trigger", sa.String(length=255), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("cause_id", sa.String(length=255), nullable=True),
        sa.Column("correlation_id", sa.String(length=255), nullable=True),
        sa.Column("traceparent", sa.String(length=255), nullable=True),
        sa.Column("parked_at_close", sa.BigInteger(), nullable=False),
        sa.Column("registered_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("reserved_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("completed_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("paid_count", sa.BigInteger(), nullable=True),
        sa.Column("failed_count", sa.BigInteger(), nullable=True),
        sa.Column("total_minor", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("period", name=op.f("pk_payout_run")),
    )
    op.create_table(
        "payout_shard",
        sa.Column("period", sa.String(length=10), nullable=False),
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("up_to", sa.String(length=36), nullable=True),
        sa.Column("cursor", sa.String(length=36), nullable=False),
        sa.Column("holder", sa.String(length=255), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_expires_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("accounts_done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("accounts_total", sa.BigInteger(), nullable=False),
        sa.Column("finished_at_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("period", "shard", name=op.f("pk_payout_shard")),
    )
    _create_payout()
    op.create_table(
        "payout_set_aside",
        sa.Column("period", sa.String(length=10), nullable=False),
        sa.Column("worker_id", sa.String(length=36), nullable=False),
        sa.Column("error", sa.String(length=2000), nullable=False),
        sa.Column("set_aside_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("resolved_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.String(length=2000), nullable=True),
        sa.PrimaryKeyConstraint("period", "worker_id", name=op.f("pk_payout_set_aside")),
    )
    op.create_table(
        "payout_difference",
        sa.Column("period", sa.String(length=10), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("reference", sa.String(length=255), nullable=False),
        sa.Column("detail", sa.String(length=2000), nullable=False),
        sa.Column("found_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("resolved_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.String(length=2000), nullable=True),
        sa.PrimaryKeyConstraint("period", "kind", "reference", name=op.f("pk_payout_difference")),
    )
    op.create_table(
        "payout_rejection",
        sa.Column("command_id", sa.String(length=255), nullable=False),
        sa.Column("command_type", sa.String(length=255), nullable=False),
        sa.Column("reason_code", sa.String(length=255), nullable=False),
        sa.Column("rejected_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("command_id", name=op.f("pk_payout_rejection")),
    )


def _create_payout() -> None:
    op.create_table(
        "payout",
        sa.Column("payout_id", sa.String(length=36), nullable=False),
        sa.Column("worker_id", sa.String(length=36), nullable=False),
        sa.Column("period", sa.String(length=10), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=255), nullable=False),
        sa.Column("attempts", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("unanswered", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("next_attempt_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("sendable_since_ms", sa.BigInteger(), nullable=False),
        sa.Column("first_sent_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("holder", sa.String(length=255), nullable=True),
        sa.Column("provider_ref", sa.String(length=255), nullable=True),
        sa.Column("reason_code", sa.String(length=255), nullable=True),
        sa.Column("note", sa.String(length=2000), nullable=True),
        sa.Column("reversal_period", sa.String(length=10), nullable=True),
        sa.Column("requested_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("decided_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("time_ms", sa.BigInteger(), nullable=True),
        sa.Column("cause_id", sa.String(length=255), nullable=True),
        sa.Column("correlation_id", sa.String(length=255), nullable=True),
        sa.Column("traceparent", sa.String(length=255), nullable=True),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_payout_amount_is_positive")),
        sa.CheckConstraint(
            "(state IN ('requested', 'sending', 'unknown')) = (next_attempt_at_ms IS NOT NULL)",
            name=op.f("ck_payout_open_has_a_time"),
        ),
        sa.PrimaryKeyConstraint("payout_id", name=op.f("pk_payout")),
        sa.UniqueConstraint("period", "worker_id", "seq", name=op.f("uq_payout_period_worker_id_seq")),
    )
    for name, columns, where in (
        ("ix_payout_due", ["next_attempt_at_ms"], "next_attempt_at_ms IS NOT NULL"),
        ("ix_payout_open", ["period"], "next_attempt_at_ms IS NOT NULL"),
        ("ix_payout_review", ["period"], "state = 'manual-review'"),
    ):
        op.create_index(
            name, "payout", columns, unique=False, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
        )
