"""Journal, weighings, totals and directory."""

import sqlalchemy as sa
from alembic import op

from services.journal import migrations as journal_migrations

revision = "0001_weighing"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything that the first release needs."""
    journal_migrations.create_v1()
    text = sa.Text(collation="C")
    op.create_table(
        "weighings",
        sa.Column("origin", text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("weigh_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("receive_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("gross_weight_kg", sa.Integer, nullable=False),
        sa.Column("verdict", sa.SmallInteger, nullable=False),
        sa.Column("severity", sa.SmallInteger, nullable=False),
        sa.Column("event", sa.SmallInteger, nullable=False),
        sa.Column("axle_count", sa.SmallInteger, nullable=False),
        sa.Column("quality_bits", sa.Integer, nullable=False),
        sa.Column("limit_kg", sa.Integer, nullable=False),
        sa.Column("excess_kg", sa.Integer, nullable=False),
        sa.Column("source_unit_id", text, nullable=False),
        sa.Column("weighing_point_id", text, nullable=False),
        sa.Column("scale_id", text, nullable=False),
        sa.Column("record_id", text, nullable=False),
        sa.Column("plate_number", text, nullable=False),
    )
    op.create_index("weighings_record_key", "weighings", ["record_id", "source_unit_id", "origin"], unique=True)
    op.create_index("weighings_time_idx", "weighings", ["weigh_time", "origin", "sequence"])
    op.create_index("weighings_unit_idx", "weighings", ["source_unit_id", "weigh_time", "origin", "sequence"])
    op.create_index(
        "weighings_plate_idx",
        "weighings",
        ["plate_number", "weigh_time"],
        postgresql_where=sa.text("plate_number <> ''"),
    )
    op.create_index(
        "weighings_verdict_idx",
        "weighings",
        ["verdict", "weigh_time"],
        postgresql_where=sa.text("verdict IN (2, 3)"),
    )
    op.create_table(
        "weighing_conflicts",
        sa.Column("origin", text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("source_unit_id", text, nullable=False),
        sa.Column("record_id", text, nullable=False),
        sa.Column("receive_time", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("weighing_conflicts_record_idx", "weighing_conflicts", ["origin", "source_unit_id", "record_id"])
    op.create_table(
        "day_totals",
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("origin", text, primary_key=True),
        sa.Column("source_unit_id", text, primary_key=True),
        sa.Column("weighing_count", sa.BigInteger, nullable=False),
        sa.Column("compliant_count", sa.BigInteger, nullable=False),
        sa.Column("undetermined_count", sa.BigInteger, nullable=False),
        sa.Column("suspected_count", sa.BigInteger, nullable=False),
        sa.Column("not_judged_count", sa.BigInteger, nullable=False),
        sa.Column("no_plate_count", sa.BigInteger, nullable=False),
        sa.Column("gross_weight_sum_kg", sa.BigInteger, nullable=False),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index("day_totals_unit_idx", "day_totals", ["source_unit_id", "day"])
    op.create_table(
        "directory_objects",
        sa.Column("kind", text, primary_key=True),
        sa.Column("key", text, primary_key=True),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "directory_positions",
        sa.Column("origin", text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
    )
