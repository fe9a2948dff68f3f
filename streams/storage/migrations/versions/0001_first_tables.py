"""The first tables: the kit's, the ledger's, those of the slices tasks and accounting."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table, and the one row of the book."""
    op.create_table(
        "inbox",
        sa.Column("group_name", sa.String(length=255), nullable=False),
        sa.Column("source", sa.String(length=255), nullable=False),
        sa.Column("message_id", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=255), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(), nullable=False),
        sa.Column("recorded_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("group_name", "source", "message_id", name=op.f("pk_inbox")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "lease",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("holder", sa.String(length=255), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease")),
    )
    op.create_table(
        "operator_action",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.String(length=255), nullable=False),
        sa.Column("action", sa.String(length=255), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.String(length=2000), nullable=True),
        sa.Column("detail", sa.String(length=2000), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operator_action")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("topic", sa.String(length=255), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("lane", sa.Integer(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("headers", sa.LargeBinary(), nullable=False),
        sa.Column("message_id", sa.String(length=36), nullable=False),
        sa.Column("type", sa.String(length=255), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("sent_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("next_attempt_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("expired_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.String(length=2000), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index(
        "ix_outbox_unsent",
        "outbox",
        ["id"],
        unique=False,
        sqlite_where=sa.text("sent_at_ms IS NULL"),
        postgresql_where=sa.text("sent_at_ms IS NULL"),
    )
    op.create_table(
        "parked",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("group_name", sa.String(length=255), nullable=False),
        sa.Column("topic", sa.String(length=255), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("timestamp_ms", sa.BigInteger(), nullable=False),
        sa.Column("record_hash", sa.LargeBinary(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("key_hash", sa.String(length=36), nullable=True),
        sa.Column("value", sa.LargeBinary(), nullable=True),
        sa.Column("headers", sa.LargeBinary(), nullable=False),
        sa.Column("type", sa.String(length=255), nullable=True),
        sa.Column("source", sa.String(length=255), nullable=True),
        sa.Column("message_id", sa.String(length=255), nullable=True),
        sa.Column("reason", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=255), nullable=False),
        sa.Column("holds_key", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("error_type", sa.String(length=255), nullable=True),
        sa.Column("error", sa.String(length=2000), nullable=True),
        sa.Column("stack", sa.String(length=2000), nullable=True),
        sa.Column("parked_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("resolved_at_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_parked")),
        sa.UniqueConstraint(
            "group_name",
            "topic",
            "partition",
            "offset",
            "timestamp_ms",
            "record_hash",
            name=op.f("uq_parked_group_name_topic_partition_offset_timestamp_ms_record_hash"),
        ),
    )
    op.create_index(
        "ix_parked_holding",
        "parked",
        ["group_name", "topic", "key_hash"],
        unique=False,
        sqlite_where=sa.text("resolved_at_ms IS NULL AND holds_key = 1"),
        postgresql_where=sa.text("resolved_at_ms IS NULL AND holds_key = true"),
    )
    op.create_index(
        "ix_parked_unresolved",
        "parked",
        ["group_name", "state"],
        unique=False,
        sqlite_where=sa.text("resolved_at_ms IS NULL"),
        postgresql_where=sa.text("resolved_at_ms IS NULL"),
    )
    op.create_table(
        "progress",
        sa.Column("group_name", sa.String(length=255), nullable=False),
        sa.Column("topic", sa.String(length=255), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("first_offset", sa.BigInteger(), nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.Column("consumed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("handled", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("duplicate", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("parked", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("discarded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lost", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("skipped", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("dirty", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("group_name", "topic", "partition", name=op.f("pk_progress")),
    )
    op.create_table(
        "accounting_price",
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("fee_minor", sa.BigInteger(), nullable=False),
        sa.Column("reward_minor", sa.BigInteger(), nullable=False),
        sa.Column("priced_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_accounting_price")),
    )
    op.create_table(
        "accounting_rejection",
        sa.Column("command_id", sa.String(length=255), nullable=False),
        sa.Column("command_type", sa.String(length=255), nullable=False),
        sa.Column("reason_code", sa.String(length=255), nullable=False),
        sa.Column("rejected_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("command_id", name=op.f("pk_accounting_rejection")),
    )
    op.create_table(
        "accounting_worker",
        sa.Column("worker_id", sa.String(length=36), nullable=False),
        sa.Column("role", sa.String(length=255), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_accounting_worker")),
    )
    op.create_table(
        "ledger_account",
        sa.Column("worker_id", sa.String(length=36), nullable=False),
        sa.Column("balance_minor", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_ledger_account")),
    )
    op.create_table(
        "ledger_book",
        sa.Column("book_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("closed_through", sa.String(length=10), nullable=True),
        sa.PrimaryKeyConstraint("book_id", name=op.f("pk_ledger_book")),
    )
    op.create_table(
        "ledger_transfer",
        sa.Column("transfer_id", sa.String(length=36), nullable=False),
        sa.Column("source_ref", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("debit_account", sa.String(length=255), nullable=False),
        sa.Column("credit_account", sa.String(length=255), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=255), nullable=False),
        sa.Column("worker_id", sa.String(length=36), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("signed_minor", sa.BigInteger(), nullable=False),
        sa.Column("balance_after_minor", sa.BigInteger(), nullable=False),
        sa.Column("period", sa.String(length=10), nullable=False),
        sa.Column("business_date", sa.String(length=10), nullable=False),
        sa.Column("task_id", sa.String(length=36), nullable=True),
        sa.Column("payout_id", sa.String(length=36), nullable=True),
        sa.Column("note", sa.String(length=2000), nullable=True),
        sa.Column("occurred_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_ledger_transfer_amount_is_positive")),
        sa.PrimaryKeyConstraint("transfer_id", name=op.f("pk_ledger_transfer")),
        sa.UniqueConstraint("source_ref", name=op.f("uq_ledger_transfer_source_ref")),
        sa.UniqueConstraint("worker_id", "sequence", name=op.f("uq_ledger_transfer_worker_id_sequence")),
    )
    op.create_index("ix_ledger_transfer_period", "ledger_transfer", ["worker_id", "period"], unique=False)
    op.create_table(
        "tasks_assignment",
        sa.Column("assignment_id", sa.String(length=36), nullable=False),
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("worker_id", sa.String(length=36), nullable=False),
        sa.Column("reason", sa.String(length=255), nullable=False),
        sa.Column("assigned_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("assignment_id", name=op.f("pk_tasks_assignment")),
    )
    op.create_table(
        "tasks_reassignment",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("command_id", sa.String(length=255), nullable=False),
        sa.Column("command_source", sa.String(length=255), nullable=False),
        sa.Column("command_type", sa.String(length=255), nullable=False),
        sa.Column("command_key", sa.LargeBinary(), nullable=True),
        sa.Column("command_time_ms", sa.BigInteger(), nullable=False),
        sa.Column("correlation_id", sa.String(length=255), nullable=False),
        sa.Column("traceparent", sa.String(length=255), nullable=True),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("up_to", sa.BigInteger(), nullable=False),
        sa.Column("finished_at_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_tasks_reassignment")),
        sa.UniqueConstraint("command_id", name=op.f("uq_tasks_reassignment_command_id")),
    )
    op.create_table(
        "tasks_rejection",
        sa.Column("command_id", sa.String(length=255), nullable=False),
        sa.Column("command_type", sa.String(length=255), nullable=False),
        sa.Column("reason_code", sa.String(length=255), nullable=False),
        sa.Column("rejected_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("command_id", name=op.f("pk_tasks_rejection")),
    )
    op.create_table(
        "tasks_task",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("title", sa.String(length=255), nullable=False),
        sa.Column("assignee", sa.String(length=36), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("completed_at_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_tasks_task")),
        sa.UniqueConstraint("task_id", name=op.f("uq_tasks_task_task_id")),
    )
    op.create_index(
        "ix_tasks_task_open",
        "tasks_task",
        ["number"],
        unique=False,
        sqlite_where=sa.text("completed_at_ms IS NULL"),
        postgresql_where=sa.text("completed_at_ms IS NULL"),
    )
    op.create_table(
        "tasks_worker",
        sa.Column("worker_id", sa.String(length=36), nullable=False),
        sa.Column("role", sa.String(length=255), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_tasks_worker")),
    )
    op.execute("INSERT INTO ledger_book (book_id, closed_through) VALUES (1, NULL)")
