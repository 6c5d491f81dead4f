"""What is kept of the registry's word on access. Frozen."""

from services.common.access import migrations as access_migrations

revision = "0004_kept_access"
down_revision = "0003_access_records"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables, empty."""
    access_migrations.create_kept_access()
