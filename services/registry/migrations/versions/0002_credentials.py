"""Credentials, and when they were used last. Frozen."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002_credentials"
down_revision = "0001_registry"


def upgrade() -> None:
    op.create_table(
        "credentials",
        _text("origin"),
        _text("credential_id"),
        sa.Column("kind", sa.Integer, nullable=False),
        _text("division_code"),
        sa.Column("source_unit_ids", postgresql.ARRAY(sa.Text(collation="C")), nullable=False),
        sa.Column("roles", postgresql.ARRAY(sa.Integer), nullable=False),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoke_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("origin", "credential_id"),
    )
    op.create_table(
        "credential_uses",
        _text("credential_id"),
        sa.Column("last_use_time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("credential_id"),
    )


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=False)
