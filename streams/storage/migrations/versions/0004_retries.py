"""Retries and replays of parked records, partitions in use, suspects, pauses, acknowledged gaps."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Widen two tables and create three; what was to be tried again is due at once."""
    _widen_parked()
    op.drop_column("progress", "dirty")
    for name in ("lost_acknowledged", "skipped_acknowledged"):
        op.add_column("progress", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))
    op.create_table(
        "ownership",
        *_partition(),
        sa.Column("holder", sa.String(length=36), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("from_offset", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("group_name", "topic", "partition", name=op.f("pk_ownership")),
    )
    op.create_table(
        "suspect",
        *_partition(),
        sa.Column("offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("began_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("group_name", "topic", "partition", "offset", name=op.f("pk_suspect")),
    )
    op.create_table(
        "intake_pause",
        sa.Column("group_name", sa.String(length=255), nullable=False),
        sa.Column("cause", sa.String(length=255), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("holder", sa.String(length=36), nullable=False),
        sa.Column("detail", sa.String(length=2000), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("group_name", "cause", "subject", "holder", name=op.f("pk_intake_pause")),
    )


def _partition() -> tuple[sa.Column, ...]:  # type: ignore[type-arg]  # of several types
    return (
        sa.Column("group_name", sa.String(length=255), nullable=False),
        sa.Column("topic", sa.String(length=255), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
    )


def _widen_parked() -> None:
    op.add_column("parked", sa.Column("edits", sa.Integer(), server_default="0", nullable=False))
    op.add_column("parked", sa.Column("edited_value", sa.LargeBinary(), nullable=True))
    op.add_column("parked", sa.Column("edited_headers", sa.LargeBinary(), nullable=True))
    op.execute(
        "UPDATE parked SET next_attempt_at_ms = parked_at_ms "
        "WHERE resolved_at_ms IS NULL AND state = 'retrying' AND reason <> 'behind'"
    )
    where = sa.text("resolved_at_ms IS NULL AND next_attempt_at_ms IS NOT NULL")
    op.create_index(
        "ix_parked_due",
        "parked",
        ["group_name", "next_attempt_at_ms"],
        unique=False,
        sqlite_where=where,
        postgresql_where=where,
    )
