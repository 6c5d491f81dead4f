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
