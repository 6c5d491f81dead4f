"""Schema changes of what services keep of access, called by the migrations of each service that keeps it."""

import sqlalchemy as sa
from alembic import op


def create_kept_access() -> None:
    """Create the tables, empty: a service fills them once it has heard from the registry. Frozen."""
    text = sa.Text(collation="C")
    op.create_table(
        "access_statements",
        sa.Column("platform", text, primary_key=True),
        sa.Column("as_of_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("seal", sa.LargeBinary, nullable=False),
        sa.Column("statement", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "access_untold_uses",
        sa.Column("credential_id", text, primary_key=True),
        sa.Column("last_use_time", sa.DateTime(timezone=True), nullable=False),
    )
