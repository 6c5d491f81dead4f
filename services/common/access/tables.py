"""The tables in which a service keeps what it has heard of access, beside the tables of its own. Neither is part of a
journal: both are copies of what the registry holds, or is still to be told.
"""

import sqlalchemy as sa


def define(metadata: sa.MetaData) -> None:
    """Declare the tables in a service's metadata."""
    # Collation C: ids and codes are compared byte by byte.
    text = sa.Text(collation="C")
    sa.Table(
        "access_statements",
        metadata,
        # One row: what the registry of the platform has said last, as one complete statement.
        sa.Column("platform", text, primary_key=True),
        # When it was complete, by the registry's clock. Written often, the rest only when it changes.
        sa.Column("as_of_time", sa.DateTime(timezone=True), nullable=False),
        # SHA-256 of the statement, so that a new time is never put on what another replica has written.
        sa.Column("digest", sa.LargeBinary, nullable=False),
        # HMAC with the service token over platform, time and digest: whoever writes here without it lets nobody in.
        sa.Column("seal", sa.LargeBinary, nullable=False),
        # A WatchAccessResponse without names: digests of secrets, bindings, roles, platforms, places of divisions.
        sa.Column("statement", sa.LargeBinary, nullable=False),
    )
    sa.Table(
        "access_untold_uses",
        metadata,
        # Credentials whose last use the registry could not be told yet.
        sa.Column("credential_id", text, primary_key=True),
        sa.Column("last_use_time", sa.DateTime(timezone=True), nullable=False),
    )
