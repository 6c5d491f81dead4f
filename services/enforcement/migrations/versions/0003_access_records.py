"""Access records of the journal. Frozen."""

from services.journal import migrations as journal_migrations

revision = "0003_access_records"
down_revision = "0002_recovering"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table of access records, empty."""
    journal_migrations.create_access_records()
