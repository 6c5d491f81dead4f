"""The tables of the weighing service: projections of its journal, and its copy of the registry's directory."""

import sqlalchemy as sa

from services.common.access import tables as access_tables
from services.common.database import APPEND_ONLY
from services.journal import tables as journal_tables

metadata = sa.MetaData()
journal_tables.define(metadata)
access_tables.define(metadata)

# Identifiers are compared byte by byte: collation C is faster and the same on every server.
_ID = sa.Text(collation="C")

weighings = sa.Table(
    "weighings",
    metadata,
    # Place in the journal; the entry there holds the whole record.
    sa.Column("origin", _ID, primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    # What was weighed where.
    sa.Column("weigh_time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("receive_time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("gross_weight_kg", sa.Integer, nullable=False),
    sa.Column("verdict", sa.SmallInteger, nullable=False),
    sa.Column("severity", sa.SmallInteger, nullable=False),
    sa.Column("event", sa.SmallInteger, nullable=False),
    # Axle count, 0 when not known.
    sa.Column("axle_count", sa.SmallInteger, nullable=False),
    # Bit n-1 is set for quality flag n.
    sa.Column("quality_bits", sa.Integer, nullable=False),
    # Lenient limit and excess over it, 0 when not judged.
    sa.Column("limit_kg", sa.Integer, nullable=False),
    sa.Column("excess_kg", sa.Integer, nullable=False),
    sa.Column("source_unit_id", _ID, nullable=False),
    sa.Column("weighing_point_id", _ID, nullable=False),
    sa.Column("scale_id", _ID, nullable=False),
    sa.Column("record_id", _ID, nullable=False),
    # Normalised; empty when there is none.
    sa.Column("plate_number", _ID, nullable=False),
    # The terminal's key of a record: the guard against recording twice, for ever. The record id comes first, so that a
    # batch is looked up as one sorted array (time-ordered ids lie side by side: a third of the time of a join).
    sa.Index("weighings_record_key", "record_id", "source_unit_id", "origin", unique=True),
    # The lists, each in its order: newest weigh time first.
    sa.Index("weighings_time_idx", "weigh_time", "origin", "sequence"),
    sa.Index("weighings_unit_idx", "source_unit_id", "weigh_time", "origin", "sequence"),
    sa.Index("weighings_plate_idx", "plate_number", "weigh_time", postgresql_where=sa.text("plate_number <> ''")),
    # Undetermined and suspected ones are what people look for; they are few, so the index is small.
    sa.Index("weighings_verdict_idx", "verdict", "weigh_time", postgresql_where=sa.text("verdict IN (2, 3)")),
    info=APPEND_ONLY,
)

weighing_conflicts = sa.Table(
    "weighing_conflicts",
    metadata,
    sa.Column("origin", _ID, primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("source_unit_id", _ID, nullable=False),
    sa.Column("record_id", _ID, nullable=False),
    sa.Column("receive_time", sa.DateTime(timezone=True), nullable=False),
    # Looked up whenever a record id comes with other content.
    sa.Index("weighing_conflicts_record_idx", "origin", "source_unit_id", "record_id"),
    info=APPEND_ONLY,
)

day_totals = sa.Table(
    "day_totals",
    metadata,
    # Day of the weigh time in China Standard Time.
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("origin", _ID, primary_key=True),
    sa.Column("source_unit_id", _ID, primary_key=True),
    sa.Column("weighing_count", sa.BigInteger, nullable=False),
    sa.Column("compliant_count", sa.BigInteger, nullable=False),
    sa.Column("undetermined_count", sa.BigInteger, nullable=False),
    sa.Column("suspected_count", sa.BigInteger, nullable=False),
    sa.Column("not_judged_count", sa.BigInteger, nullable=False),
    sa.Column("no_plate_count", sa.BigInteger, nullable=False),
    sa.Column("gross_weight_sum_kg", sa.BigInteger, nullable=False),
    sa.Index("day_totals_unit_idx", "source_unit_id", "day"),
    # Today's rows are updated by every commit: room for HOT updates keeps the indexes out of it.
    postgresql_with={"fillfactor": "70"},
)

directory_objects = sa.Table(
    "directory_objects",
    metadata,
    # Full message name and key of a registry resource of this platform, as last journalled there.
    sa.Column("kind", _ID, primary_key=True),
    sa.Column("key", _ID, primary_key=True),
    sa.Column("payload", sa.LargeBinary, nullable=False),
)

directory_positions = sa.Table(
    "directory_positions",
    metadata,
    # Last sequence of the registry's own log that `directory_objects` holds.
    sa.Column("origin", _ID, primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),
)

directory_addressed_logs = sa.Table(
    "directory_addressed_logs",
    metadata,
    # Owner of a registry log of which something is addressed to this platform: a platform above.
    sa.Column("origin", _ID, primary_key=True),
    # Size and root at the newest step of that log which `directory_addressed_entries` holds.
    sa.Column("through_sequence", sa.BigInteger, nullable=False),
    sa.Column("root", sa.LargeBinary, nullable=False),
    # From entry 1 of the log: what its further steps are checked with.
    sa.Column("digest_algorithm", sa.Text, nullable=False),
    sa.Column("verifier_key", sa.Text, nullable=False),
)

directory_addressed_entries = sa.Table(
    "directory_addressed_entries",
    metadata,
    # Place of an entry in the registry log of a platform above. All that came are kept, whatever their kind: how many
    # there are of each audience tells the registry what is missing here.
    sa.Column("origin", _ID, primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("audience", _ID, nullable=False),
    # Full message name, version of its meaning, and bytes of what the entry holds. One of a newer meaning waits for the
    # release that knows it.
    sa.Column("kind", _ID, nullable=False),
    sa.Column("schema", sa.BigInteger, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    info=APPEND_ONLY,
)
