"""Addressed entries of the journal. Frozen."""

from services.journal import migrations as journal_migrations

revision = "0003_addressed"
down_revision = "0002_credentials"


def upgrade() -> None:
    journal_migrations.create_addressed()
