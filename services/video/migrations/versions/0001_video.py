"""The video service's first schema: the journal, what is kept of access, and the tables of evidence. Frozen."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from services.common.access import migrations as access_migrations
from services.journal import migrations as journal_migrations

revision = "0001_video"
down_revision = None


def upgrade() -> None:
    """Create all tables, empty."""
    journal_migrations.create_v1()
    journal_migrations.create_addressed()
    journal_migrations.add_recovering()
    journal_migrations.create_access_records()
    access_migrations.create_kept_access()
    op.create_table(
        "evidence",
        _text("origin"),
        _text("source_unit_id"),
        _text("evidence_id"),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("leaf", sa.LargeBinary, nullable=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        _text("camera_id"),
        _time("list_time"),
        _time("capture_end_time", nullable=True),
        _time("seal_time"),
        _time("retain_until_time"),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("origin", "source_unit_id", "evidence_id"),
    )
    op.create_index("evidence_by_digest", "evidence", ["digest"])
    op.create_index("evidence_by_time", "evidence", ["list_time", "origin", "source_unit_id", "evidence_id"])
    op.create_index("evidence_by_unit", "evidence", ["source_unit_id", "list_time", "origin", "evidence_id"])
    op.create_index("evidence_by_origin", "evidence", ["origin", "list_time", "source_unit_id", "evidence_id"])
    op.create_index(
        "evidence_by_camera",
        "evidence",
        ["camera_id", "list_time", "origin", "source_unit_id", "evidence_id"],
        postgresql_where=sa.text("camera_id <> ''"),
    )
    op.create_table(
        "evidence_subjects",
        _text("source_unit_id"),
        sa.Column("subject_kind", sa.SmallInteger, nullable=False, autoincrement=False),
        _text("subject_id"),
        _text("origin"),
        _text("evidence_id"),
        sa.PrimaryKeyConstraint("source_unit_id", "subject_kind", "subject_id", "origin", "evidence_id"),
    )
    op.create_table(
        "custody_events",
        _text("origin"),
        sa.Column("sequence", sa.BigInteger, nullable=False, autoincrement=False),
        _text("evidence_origin"),
        _text("source_unit_id"),
        _text("evidence_id"),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("action", sa.SmallInteger, nullable=False),
        _time("event_time"),
        _text("reference_id"),
        _time("until_time", nullable=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("origin", "sequence"),
    )
    op.create_index(
        "custody_events_by_evidence",
        "custody_events",
        ["evidence_origin", "source_unit_id", "evidence_id", "event_time", "origin", "sequence"],
    )
    op.create_index(
        "custody_events_requested",
        "custody_events",
        ["evidence_origin", "source_unit_id", "evidence_id"],
        postgresql_where=sa.text("action = 8"),
    )
    op.create_table(
        "legal_holds",
        _text("evidence_origin"),
        _text("source_unit_id"),
        _text("evidence_id"),
        _text("platform"),
        _text("hold_id"),
        sa.Column("place_sequence", sa.BigInteger, nullable=False),
        sa.Column("release_sequence", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=True),
        sa.PrimaryKeyConstraint("evidence_origin", "source_unit_id", "evidence_id", "platform", "hold_id"),
    )
    op.create_table(
        "retention_extensions",
        _text("evidence_origin"),
        _text("source_unit_id"),
        _text("evidence_id"),
        _time("retain_until_time"),
        sa.PrimaryKeyConstraint("evidence_origin", "source_unit_id", "evidence_id"),
    )
    op.create_table(
        "cameras",
        _text("origin"),
        _text("source_unit_id"),
        _text("camera_id"),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("view", sa.SmallInteger, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        _time("oldest_recording_time", nullable=True),
        _time("receive_time"),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("origin", "source_unit_id", "camera_id"),
    )
    op.create_index("cameras_by_unit", "cameras", ["source_unit_id", "camera_id", "origin"])
    op.create_table(
        "objects",
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        _time("stored_time", nullable=True),
        sa.Column("has_preview", sa.Boolean, nullable=False, server_default=sa.false()),
        _time("preview_due_time", nullable=True),
        sa.Column("preview_failures", sa.Integer, nullable=False, server_default=sa.text("0")),
        _time("scrub_time", nullable=True),
        sa.Column("unread_count", sa.Integer, nullable=False, server_default=sa.text("0")),
        _time("unread_retry_time", nullable=True),
        _time("keep_check_time", nullable=True),
        _time("purge_time", nullable=True),
        _time("damage_time", nullable=True),
        sa.Column("damage", sa.SmallInteger, nullable=True),
        sa.Column("is_considered", sa.Boolean, nullable=False, server_default=sa.false()),
        _time("wanted_time", nullable=True),
        sa.Column("urgency", sa.SmallInteger, nullable=True),
        _time("wanted_until_time", nullable=True),
        _time("retry_time", nullable=True),
        sa.Column("decline_count", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("wanted_origin", sa.Text(collation="C"), nullable=True),
        _time("wanted_seal_time", nullable=True),
        sa.Column("upstream_urgency", sa.SmallInteger, nullable=True),
        _time("upstream_until_time", nullable=True),
        sa.Column("received_bytes", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("digest"),
        sa.CheckConstraint("state BETWEEN 1 AND 6", name="objects_state_check"),
    )
    op.create_index(
        "objects_to_draw",
        "objects",
        ["preview_due_time"],
        postgresql_where=sa.text("preview_due_time IS NOT NULL AND state = 1"),
    )
    op.create_index("objects_not_settled", "objects", ["state", "digest"], postgresql_where=sa.text("state IN (3, 4)"))
    op.create_index(
        "objects_wanted",
        "objects",
        ["wanted_origin", "urgency", "wanted_seal_time", "digest"],
        postgresql_where=sa.text("state IN (3, 4) AND retry_time IS NULL"),
    )
    op.create_index(
        "objects_declined",
        "objects",
        ["wanted_origin", "urgency", "retry_time", "digest"],
        postgresql_where=sa.text("state IN (3, 4) AND retry_time IS NOT NULL"),
    )
    op.create_index(
        "objects_wanted_until",
        "objects",
        ["wanted_until_time"],
        postgresql_where=sa.text("state IN (3, 4) AND wanted_until_time IS NOT NULL"),
    )
    op.create_index(
        "objects_not_considered", "objects", ["digest"], postgresql_where=sa.text("NOT is_considered AND state <> 1")
    )
    op.create_index(
        "objects_by_stored_time", "objects", ["stored_time", "digest"], postgresql_where=sa.text("state = 1")
    )
    op.create_index(
        "objects_by_check",
        "objects",
        [sa.text("coalesce(scrub_time, stored_time, '-infinity'::timestamptz)"), "digest"],
        postgresql_where=sa.text("state = 1"),
    )
    op.create_index(
        "objects_unread",
        "objects",
        ["unread_retry_time"],
        postgresql_where=sa.text("unread_retry_time IS NOT NULL"),
    )
    op.create_index(
        "objects_by_keep_check", "objects", ["keep_check_time"], postgresql_where=sa.text("state IN (1, 4)")
    )
    op.create_index("objects_elsewhere", "objects", ["digest"], postgresql_where=sa.text("state IN (2, 3)"))
    op.create_index(
        "objects_to_purge", "objects", ["digest"], postgresql_where=sa.text("state = 5 AND purge_time IS NULL")
    )
    op.create_table(
        "wanted_policy",
        sa.Column("id", sa.SmallInteger, autoincrement=False, nullable=False),
        _text("policy"),
        sa.Column("digest", sa.LargeBinary, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("id = 1", name="wanted_policy_id_check"),
    )
    op.create_table(
        "lock_changes",
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("change_count", sa.BigInteger, nullable=False),
        _time("retry_time", nullable=True),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "uploads",
        _text("source_unit_id"),
        _text("evidence_id"),
        sa.Column("draft", sa.LargeBinary, nullable=False),
        _text("actor"),
        _text("staging_key"),
        _text("multipart_id"),
        sa.Column("part_bytes", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        _time("begin_time"),
        _time("expire_time"),
        sa.PrimaryKeyConstraint("source_unit_id", "evidence_id"),
    )
    op.create_index("uploads_by_expire_time", "uploads", ["expire_time"])
    op.create_table(
        "source_units",
        _text("source_unit_id"),
        _text("division_code"),
        _time("read_time"),
        sa.PrimaryKeyConstraint("source_unit_id"),
    )
    op.create_table(
        "suspected_weighings",
        _text("origin"),
        _text("source_unit_id"),
        _text("record_id"),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        _time("weigh_time"),
        _time("receive_time"),
        sa.Column("day", sa.Date, nullable=False),
        _time("clip_seal_time", nullable=True),
        _time("photo_seal_time", nullable=True),
        sa.PrimaryKeyConstraint("origin", "source_unit_id", "record_id"),
    )
    op.create_index(
        "suspected_weighings_by_day", "suspected_weighings", [sa.text("day DESC"), "origin", "source_unit_id"]
    )
    op.create_index(
        "suspected_weighings_by_unit", "suspected_weighings", ["source_unit_id", sa.text("day DESC"), "origin"]
    )
    op.create_index("suspected_weighings_by_place", "suspected_weighings", ["origin", "sequence"])
    op.create_index(
        "suspected_weighings_missing",
        "suspected_weighings",
        ["weigh_time", "origin", "sequence"],
        postgresql_where=sa.text("clip_seal_time IS NULL OR photo_seal_time IS NULL"),
    )
    op.create_table(
        "weighing_positions",
        _text("origin"),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("passed_sequence", sa.BigInteger, nullable=True),
        sa.Column("passed_schema", sa.Integer, nullable=True),
        sa.PrimaryKeyConstraint("origin"),
    )
    op.create_table(
        "orphans",
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        _time("found_time"),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "store_tests",
        _time("test_time"),
        sa.Column("lock_state", sa.SmallInteger, nullable=False),
        _text("detail"),
        sa.PrimaryKeyConstraint("test_time"),
    )
    op.create_table(
        "scrub_state",
        sa.Column("id", sa.SmallInteger, nullable=False, autoincrement=False),
        _time("scrub_begin_time", nullable=True),
        _time("scrub_complete_time", nullable=True),
        _time("reconcile_time", nullable=True),
        sa.Column("object_count", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("object_bytes", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        _time("count_time", nullable=True),
        _time("present_time", nullable=True),
        _time("delete_after_time", nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("id = 1", name="scrub_state_id_check"),
    )


def _text(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(collation="C"), nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)
