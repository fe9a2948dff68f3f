"""Alarms: conditions for the whole fleet, and which sink knows of them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "alarm_condition",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("severity", sa.String(length=255), nullable=False),
        sa.Column("detail", sa.String(length=2000), nullable=False),
        sa.Column("raised_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("times_seen", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("cleared_at_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_condition")),
    )
    op.create_index(
        "uq_alarm_condition_open",
        "alarm_condition",
        ["name", "subject"],
        unique=True,
        sqlite_where=sa.text("cleared_at_ms IS NULL"),
        postgresql_where=sa.text("cleared_at_ms IS NULL"),
    )
    op.create_index("ix_alarm_condition_cleared_at_ms", "alarm_condition", ["cleared_at_ms"], unique=False)
    op.create_table(
        "alarm_notice",
        sa.Column("condition_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sink", sa.String(length=255), nullable=False),
        sa.Column("told", sa.String(length=255), nullable=True),
        sa.Column("notified_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("notifications", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("next_attempt_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("error", sa.String(length=2000), nullable=True),
        sa.Column("claimed_by", sa.String(length=255), nullable=True),
        sa.Column("claimed_until_ms", sa.BigInteger(), nullable=True),
        sa.Column("finished_at_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("condition_id", "sink", name=op.f("pk_alarm_notice")),
    )
    op.create_index(
        "ix_alarm_notice_unfinished",
        "alarm_notice",
        ["sink", "next_attempt_at_ms"],
        unique=False,
        sqlite_where=sa.text("finished_at_ms IS NULL"),
        postgresql_where=sa.text("finished_at_ms IS NULL"),
    )
