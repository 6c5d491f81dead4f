"""The mark of an own log that was restored from a backup. Frozen."""

from services.journal import migrations as journal_migrations

revision = "0003_recovering"
down_revision = "0002_addressed"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the mark; no log has it."""
    journal_migrations.add_recovering()
