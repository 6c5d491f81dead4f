"""The enforcement service's first schema: the journal with addressed entries, and the tables of directives. Frozen."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from services.journal import migrations as journal_migrations

revision = "0001_enforcement"
down_revision = None


def upgrade() -> None:
    journal_migrations.create_v1()
    journal_migrations.create_addressed()
    op.create_table(
        "directives",
        *_name(),
        sa.Column("first_sequence", sa.BigInteger, nullable=False),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sa.Column("issue_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deadline_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("subkind", sa.Integer, nullable=False),
        sa.Column("audiences", postgresql.ARRAY(sa.Text(collation="C")), nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("issuer", "kind", "directive_id"),
        sa.CheckConstraint("first_sequence BETWEEN 1 AND last_sequence", name="directives_sequence_check"),
    )
    op.create_index("directives_by_issue_time", "directives", ["kind", "issue_time", "issuer", "directive_id"])
    op.create_table(
        "directive_recipients",
        *_name(),
        _text("platform"),
        sa.PrimaryKeyConstraint("issuer", "kind", "directive_id", "platform"),
    )
    op.create_index("directive_recipients_by_platform", "directive_recipients", ["platform"])
    op.create_table(
        "directive_withdrawals",
        *_name(),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("issuer", "kind", "directive_id"),
    )
    op.create_table(
        "directive_responses",
        *_name(),
        _text("platform"),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("response_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("issuer", "kind", "directive_id", "platform"),
    )
    op.create_table(
        "inbox_changes",
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("change", sa.SmallInteger, nullable=False),
        _text("issuer"),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        _text("directive_id"),
        _text("platform"),
    )


def _name() -> list[sa.Column[Any]]:
    return [_text("issuer"), sa.Column("kind", sa.SmallInteger, nullable=False), _text("directive_id")]


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(collation="C"), nullable=False)
