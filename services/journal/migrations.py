"""The journal's schema changes, called by the first migrations of each service so that all services move in step."""

import sqlalchemy as sa
from alembic import op


def create_v1() -> None:
    """Create the journal's tables as of schema version 1. Frozen: later changes are functions of their own."""
    origin = sa.Text(collation="C")
    op.create_table(
        "journal_logs",
        sa.Column("origin", origin, primary_key=True),
        sa.Column("is_own", sa.Boolean, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("peaks", sa.LargeBinary, nullable=False),
        sa.Column("total_bytes", sa.BigInteger, nullable=False),
        sa.Column("last_write_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("digest_algorithm", sa.Text, nullable=False),
        sa.Column("verifier_key", sa.Text, nullable=False),
        sa.CheckConstraint("size >= 0", name="journal_logs_size_check"),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index("journal_logs_own_key", "journal_logs", ["is_own"], unique=True, postgresql_where=sa.text("is_own"))
    op.create_table(
        "journal_entries",
        sa.Column("origin", origin, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("entry", sa.LargeBinary, nullable=False),
        sa.Column("leaf", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "journal_nodes",
        sa.Column("origin", origin, primary_key=True),
        sa.Column("level", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("index", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "journal_checkpoints",
        sa.Column("origin", origin, primary_key=True),
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("total_bytes", sa.BigInteger, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_table(
        "journal_parked",
        sa.Column("origin", origin, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("park_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempt_count", sa.Integer, nullable=False),
    )


def create_addressed() -> None:
    """Create the tables of addressed entries. Frozen.

    They begin empty, which is right for logs of earlier releases: no entry of theirs has an audience.
    """
    origin = sa.Text(collation="C")
    op.create_table(
        "journal_addressed",
        sa.Column("origin", origin, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("audience", origin, nullable=False),
        sa.Column("entry", sa.LargeBinary, nullable=True),
        sa.Column("leaf", sa.LargeBinary, nullable=True),
        sa.Column("inclusion_path", sa.LargeBinary, nullable=True),
        sa.CheckConstraint(
            "(entry IS NULL) = (leaf IS NULL) AND (entry IS NULL) = (inclusion_path IS NULL)",
            name="journal_addressed_entry_check",
        ),
    )
    op.create_index("journal_addressed_audience_idx", "journal_addressed", ["origin", "audience", "sequence"])
    op.create_table(
        "journal_addressed_steps",
        sa.Column("origin", origin, primary_key=True),
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("previous_size", sa.BigInteger, nullable=False),
        sa.Column("note", sa.Text, nullable=True),
        sa.Column("consistency_path", sa.LargeBinary, nullable=True),
        sa.CheckConstraint("previous_size >= 0 AND previous_size < size", name="journal_addressed_steps_size_check"),
    )
    op.create_table(
        "journal_addressed_logs",
        sa.Column("origin", origin, primary_key=True),
        sa.Column("through_sequence", sa.BigInteger, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("digest_algorithm", sa.Text, nullable=False),
        sa.Column("verifier_key", sa.Text, nullable=False),
        sa.Column("last_receive_time", sa.DateTime(timezone=True), nullable=True),
    )
    op.create_table(
        "journal_addressed_receipts",
        sa.Column("origin", origin, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("platform", origin, primary_key=True),
        sa.Column("receipt_sequence", sa.BigInteger, nullable=False),
        sa.Column("receive_time", sa.DateTime(timezone=True), nullable=False),
    )


def add_recovering() -> None:
    """Add the mark of an own log that was restored and is not written to yet. Frozen."""
    op.add_column("journal_logs", sa.Column("is_recovering", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_check_constraint("journal_logs_recovering_check", "journal_logs", "is_own OR NOT is_recovering")


def create_access_records() -> None:
    """Create the table of access records, empty: earlier releases have written none. Frozen."""
    origin = sa.Text(collation="C")
    op.create_table(
        "journal_access_records",
        sa.Column("origin", origin, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("access_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("principal", origin, nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
    )
    op.create_index("journal_access_records_time_idx", "journal_access_records", ["access_time", "origin", "sequence"])
