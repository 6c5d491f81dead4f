"""Addressed entries of the journal. Frozen."""

from services.journal import migrations as journal_migrations

revision = "0002_addressed"
down_revision = "0001_weighing"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables of addressed entries, empty."""
    journal_migrations.create_addressed()
