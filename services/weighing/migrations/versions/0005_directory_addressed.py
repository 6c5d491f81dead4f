"""What platforms above have addressed, in the directory: rule sets of theirs judge here. Frozen."""

import sqlalchemy as sa
from alembic import op

revision = "0005_directory_addressed"
down_revision = "0004_access_records"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables, empty: everything that the registry holds is read when the service starts."""
    text = sa.Text(collation="C")
    op.create_table(
        "directory_addressed_logs",
        sa.Column("origin", text, primary_key=True),
        sa.Column("through_sequence", sa.BigInteger, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("digest_algorithm", sa.Text, nullable=False),
        sa.Column("verifier_key", sa.Text, nullable=False),
    )
    op.create_table(
        "directory_addressed_entries",
        sa.Column("origin", text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("audience", text, nullable=False),
        sa.Column("kind", text, nullable=False),
        sa.Column("schema", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
