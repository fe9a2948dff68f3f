"""Relays that share lanes; the outbox read topic by topic, held rows by their time."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Replace the index of unsent rows and create the table of relays."""
    op.drop_index("ix_outbox_unsent", table_name="outbox")
    unsent = sa.text("sent_at_ms IS NULL")
    op.create_index(
        "ix_outbox_unsent", "outbox", ["topic", "id"], unique=False, sqlite_where=unsent, postgresql_where=unsent
    )
    held = sa.text("sent_at_ms IS NULL AND next_attempt_at_ms IS NOT NULL")
    op.create_index(
        "ix_outbox_held", "outbox", ["next_attempt_at_ms"], unique=False, sqlite_where=held, postgresql_where=held
    )
    op.create_table(
        "relay_instance",
        sa.Column("instance", sa.String(length=255), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("breaker", sa.String(length=255), nullable=False),
        sa.Column("breaker_since_ms", sa.BigInteger(), nullable=False),
        sa.Column("breaker_error", sa.String(length=2000), nullable=True),
        sa.PrimaryKeyConstraint("instance", name=op.f("pk_relay_instance")),
    )
