"""The tables of the video service: first the projections of its journal – own entries, those that come up from
platforms below, those that platforms above have addressed to this one or to be passed on –, then what is this
platform's own: where bytes are, uploads, what is known of other services.

Nothing refers to anything by a foreign key: logs of several origins come in any order, and a hold may be here before
the evidence that it holds.
"""

from typing import Any

import sqlalchemy as sa

from services.common.access import tables as access_tables
from services.common.database import APPEND_ONLY
from services.journal import tables as journal_tables

METADATA = sa.MetaData()

journal_tables.define(METADATA)
access_tables.define(METADATA)


def _text(name: str, *, is_key: bool = False) -> sa.Column[Any]:
    # Collation C: ids and codes are compared byte by byte, here, in page tokens and on every other platform.
    return sa.Column(name, sa.Text(collation="C"), primary_key=is_key, nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _count(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))


def _fact(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())


# Projections of the journal

EVIDENCE = sa.Table(
    "evidence",
    METADATA,
    # Platform that sealed it: the owner of the log, and nobody else.
    _text("origin", is_key=True),
    _text("source_unit_id", is_key=True),
    _text("evidence_id", is_key=True),
    # Place in the origin's log; the first one counts, in whatever order entries are replayed.
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("leaf", sa.LargeBinary, nullable=False),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    _text("camera_id"),
    # Start of capture, or of the seal where there is none: what lists are ordered by. Its end, absent for a moment.
    _time("list_time"),
    _time("capture_end_time", nullable=True),
    _time("seal_time"),
    # As sealed; extensions stand in a table of their own.
    _time("retain_until_time"),
    # The manifest (payload of the entry).
    sa.Column("content", sa.LargeBinary, nullable=False),
)
# Lists are read newest first, of everything or of one source unit.
sa.Index("evidence_by_time", EVIDENCE.c.list_time, EVIDENCE.c.origin, EVIDENCE.c.source_unit_id, EVIDENCE.c.evidence_id)
sa.Index("evidence_by_unit", EVIDENCE.c.source_unit_id, EVIDENCE.c.list_time, EVIDENCE.c.origin, EVIDENCE.c.evidence_id)
# Or of one platform, as whoever is bound to a division reads them; or of one camera.
sa.Index(
    "evidence_by_origin", EVIDENCE.c.origin, EVIDENCE.c.list_time, EVIDENCE.c.source_unit_id, EVIDENCE.c.evidence_id
)
sa.Index(
    "evidence_by_camera",
    EVIDENCE.c.camera_id,
    EVIDENCE.c.list_time,
    EVIDENCE.c.origin,
    EVIDENCE.c.source_unit_id,
    EVIDENCE.c.evidence_id,
    postgresql_where=sa.text("camera_id <> ''"),
)
# Before bytes are deleted every manifest that names them is asked.
sa.Index("evidence_by_digest", EVIDENCE.c.digest)
EVIDENCE_SUBJECTS = sa.Table(
    "evidence_subjects",
    METADATA,
    _text("source_unit_id", is_key=True),
    # 1 weighing, 2 acceptance; then its id.
    sa.Column("subject_kind", sa.SmallInteger, primary_key=True, autoincrement=False),
    _text("subject_id", is_key=True),
    _text("origin", is_key=True),
    _text("evidence_id", is_key=True),
    info=APPEND_ONLY,
)
CUSTODY_EVENTS = sa.Table(
    "custody_events",
    METADATA,
    # Platform where it was done, and the place in its log.
    _text("origin", is_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    _text("evidence_origin"),
    _text("source_unit_id"),
    _text("evidence_id"),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("action", sa.SmallInteger, nullable=False),
    _time("event_time"),
    _text("reference_id"),
    _time("until_time", nullable=True),
    # The event (payload of the entry).
    sa.Column("content", sa.LargeBinary, nullable=False),
    info=APPEND_ONLY,
)
sa.Index(
    "custody_events_by_evidence",
    CUSTODY_EVENTS.c.evidence_origin,
    CUSTODY_EVENTS.c.source_unit_id,
    CUSTODY_EVENTS.c.evidence_id,
    CUSTODY_EVENTS.c.event_time,
    CUSTODY_EVENTS.c.origin,
    CUSTODY_EVENTS.c.sequence,
)
# Requests are few among the events, and asked for all the time: action 8, REQUESTED.
sa.Index(
    "custody_events_requested",
    CUSTODY_EVENTS.c.evidence_origin,
    CUSTODY_EVENTS.c.source_unit_id,
    CUSTODY_EVENTS.c.evidence_id,
    postgresql_where=sa.text("action = 8"),
)
LEGAL_HOLDS = sa.Table(
    "legal_holds",
    METADATA,
    # Derived from custody events. A hold belongs to the platform in whose log it was placed; only that one releases it.
    _text("evidence_origin", is_key=True),
    _text("source_unit_id", is_key=True),
    _text("evidence_id", is_key=True),
    _text("platform", is_key=True),
    _text("hold_id", is_key=True),
    # Last placement and last release in that log, 0 for none: whichever comes later in the log is in force, in
    # whatever order they came here. It stands while the first is greater.
    sa.Column("place_sequence", sa.BigInteger, nullable=False),
    sa.Column("release_sequence", sa.BigInteger, nullable=False),
    # The last placement (payload of the entry); absent while only a release is here.
    sa.Column("content", sa.LargeBinary, nullable=True),
)
RETENTION_EXTENSIONS = sa.Table(
    "retention_extensions",
    METADATA,
    # Derived from custody events: the latest end that anybody has asked for.
    _text("evidence_origin", is_key=True),
    _text("source_unit_id", is_key=True),
    _text("evidence_id", is_key=True),
    _time("retain_until_time"),
)
CAMERAS = sa.Table(
    "cameras",
    METADATA,
    _text("origin", is_key=True),
    _text("source_unit_id", is_key=True),
    _text("camera_id", is_key=True),
    # Place of the newest report in the origin's log.
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("view", sa.SmallInteger, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    _time("oldest_recording_time", nullable=True),
    # When the origin received it: with the time above, how far back the site's recordings reach.
    _time("receive_time"),
    # The report (payload of the entry).
    sa.Column("content", sa.LargeBinary, nullable=False),
)
# Lists are read by source unit and camera, whichever platforms they report to.
sa.Index("cameras_by_unit", CAMERAS.c.source_unit_id, CAMERAS.c.camera_id, CAMERAS.c.origin)

# This platform's own

OBJECTS = sa.Table(
    "objects",
    METADATA,
    # One row for all bytes that a manifest names, wherever they are.
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    # Numbered as BytesState of the contract: 1 held, 2 below, 3 wanted, 4 damaged, 5 deleted, 6 gone.
    sa.Column("state", sa.SmallInteger, nullable=False),
    # When the bytes came into the store of this platform; absent while they never did.
    _time("stored_time", nullable=True),
    # Whether poster and thumbnail are in the store.
    _fact("has_preview"),
    # When they are drawn, or tried again; absent when they are there, or cannot be drawn.
    _time("preview_due_time", nullable=True),
    sa.Column("preview_failures", sa.Integer, nullable=False, server_default=sa.text("0")),
    # When the scrubber read them last, and found them as they should be.
    _time("scrub_time", nullable=True),
    # How often the store could not read them though it could others, and when that is tried again.
    sa.Column("unread_count", sa.Integer, nullable=False, server_default=sa.text("0")),
    _time("unread_retry_time", nullable=True),
    # Not looked at before this time by what deletes expired bytes; absent when it has not looked yet. Nothing is
    # deleted because of it: that is decided anew.
    _time("keep_check_time", nullable=True),
    # When the store had let go of the bytes that were deleted.
    _time("purge_time", nullable=True),
    # When they were found missing or changed, and which: CustodyAction 11 or 12.
    _time("damage_time", nullable=True),
    sa.Column("damage", sa.SmallInteger, nullable=True),
    # Whether it was decided if they are wanted; a manifest, a suspected weighing or a request lets it be decided again.
    _fact("is_considered"),
    # Since when they are wanted from below, how urgently (TransferUrgency: 1 asked for, 2 due), and until when.
    _time("wanted_time", nullable=True),
    sa.Column("urgency", sa.SmallInteger, nullable=True),
    _time("wanted_until_time", nullable=True),
    # Not asked for again before this time, after the platform below has declined.
    _time("retry_time", nullable=True),
    sa.Column("decline_count", sa.Integer, nullable=False, server_default=sa.text("0")),
    # Of the manifest on whose account they are wanted: platform that sealed it, and when.
    sa.Column("wanted_origin", sa.Text(collation="C"), nullable=True),
    _time("wanted_seal_time", nullable=True),
    # How urgently the platform above wants them, and until when: it says so again as long as it does.
    sa.Column("upstream_urgency", sa.SmallInteger, nullable=True),
    _time("upstream_until_time", nullable=True),
    # Bytes that have come so far of those that are wanted.
    _count("received_bytes"),
    sa.CheckConstraint("state BETWEEN 1 AND 6", name="objects_state_check"),
)
# What is still to be drawn is little, and asked for every few seconds.
sa.Index(
    "objects_to_draw",
    OBJECTS.c.preview_due_time,
    postgresql_where=sa.text("preview_due_time IS NOT NULL AND state = 1"),
)
# What is wanted or damaged is asked for all the time, and is little.
sa.Index("objects_not_settled", OBJECTS.c.state, OBJECTS.c.digest, postgresql_where=sa.text("state IN (3, 4)"))
sa.Index(
    "objects_wanted",
    *OBJECTS.c["wanted_origin", "urgency", "wanted_seal_time", "digest"],
    postgresql_where=sa.text("state IN (3, 4) AND retry_time IS NULL"),
)
# What was declined is asked for again beside that: what has waited longest, and not what was sealed first.
sa.Index(
    "objects_declined",
    *OBJECTS.c["wanted_origin", "urgency", "retry_time", "digest"],
    postgresql_where=sa.text("state IN (3, 4) AND retry_time IS NOT NULL"),
)
sa.Index(
    "objects_wanted_until",
    OBJECTS.c.wanted_until_time,
    postgresql_where=sa.text("state IN (3, 4) AND wanted_until_time IS NOT NULL"),
)
sa.Index("objects_not_considered", OBJECTS.c.digest, postgresql_where=sa.text("NOT is_considered AND state <> 1"))
# What has come is named to whoever waits for it.
sa.Index("objects_by_stored_time", OBJECTS.c.stored_time, OBJECTS.c.digest, postgresql_where=sa.text("state = 1"))
# The scrubber takes the one whose last check is the oldest; what was just stored has been checked.
sa.Index(
    "objects_by_check",
    sa.text("coalesce(scrub_time, stored_time, '-infinity'::timestamptz)"),
    OBJECTS.c.digest,
    postgresql_where=sa.text("state = 1"),
)
sa.Index("objects_unread", OBJECTS.c.unread_retry_time, postgresql_where=sa.text("unread_retry_time IS NOT NULL"))
sa.Index("objects_by_keep_check", OBJECTS.c.keep_check_time, postgresql_where=sa.text("state IN (1, 4)"))
# After a restore own evidence is looked for among what is said to be elsewhere.
sa.Index("objects_elsewhere", OBJECTS.c.digest, postgresql_where=sa.text("state IN (2, 3)"))
# Deletions that were decided and written down, and are not done yet: few, and soon none.
sa.Index("objects_to_purge", OBJECTS.c.digest, postgresql_where=sa.text("state = 5 AND purge_time IS NULL"))
WANTED_POLICY = sa.Table(
    "wanted_policy",
    METADATA,
    # One row: the policy by which it was decided what is wanted; with another one all is decided again.
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    _text("policy"),
    # How far that has come; absent when it is done.
    sa.Column("digest", sa.LargeBinary, nullable=True),
    sa.CheckConstraint("id = 1", name="wanted_policy_id_check"),
)
LOCK_CHANGES = sa.Table(
    "lock_changes",
    METADATA,
    # Objects whose locks in the store may have to follow: a hold or a longer retention came, or the bytes did. What
    # they have to be is asked of the tables above when it is done.
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    # Counts what came, so that what comes while one change is being followed is not taken for followed.
    sa.Column("change_count", sa.BigInteger, nullable=False),
    # Not tried again before this time, after the store has refused it.
    _time("retry_time", nullable=True),
)
UPLOADS = sa.Table(
    "uploads",
    METADATA,
    # Uploads straight to the store: what has to be known to complete them. Those through the service are files in its
    # spool and nothing else.
    _text("source_unit_id", is_key=True),
    _text("evidence_id", is_key=True),
    # The EvidenceDraft, and who has sent it.
    sa.Column("draft", sa.LargeBinary, nullable=False),
    _text("actor"),
    # Key of the staging object and id of the multipart upload in the store.
    _text("staging_key"),
    _text("multipart_id"),
    sa.Column("part_bytes", sa.BigInteger, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    _time("begin_time"),
    # When it is aborted and forgotten.
    _time("expire_time"),
)
sa.Index("uploads_by_expire_time", UPLOADS.c.expire_time)
SOURCE_UNITS = sa.Table(
    "source_units",
    METADATA,
    # What the registry has said of source units of this platform, so that uploads go on while it is away.
    _text("source_unit_id", is_key=True),
    _text("division_code"),
    # When it was asked last.
    _time("read_time"),
)
SUSPECTED_WEIGHINGS = sa.Table(
    "suspected_weighings",
    METADATA,
    # What the journals of the weighing service say of suspected overloads, as far as evidence for them is concerned.
    _text("origin", is_key=True),
    _text("source_unit_id", is_key=True),
    _text("record_id", is_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    _time("weigh_time"),
    _time("receive_time"),
    # Day of the weighing in China Standard Time.
    sa.Column("day", sa.Date, nullable=False),
    # When the first clip, and the first photo, that shows its time was sealed; absent while there is none. Whatever
    # comes later, the weighing or the evidence, finds the other one (store.weighings).
    _time("clip_seal_time", nullable=True),
    _time("photo_seal_time", nullable=True),
)
# Completeness is read newest day first, of everything or of one source unit, and summed up on the way.
sa.Index(
    "suspected_weighings_by_day",
    SUSPECTED_WEIGHINGS.c.day.desc(),
    SUSPECTED_WEIGHINGS.c.origin,
    SUSPECTED_WEIGHINGS.c.source_unit_id,
)
sa.Index(
    "suspected_weighings_by_unit",
    SUSPECTED_WEIGHINGS.c.source_unit_id,
    SUSPECTED_WEIGHINGS.c.day.desc(),
    SUSPECTED_WEIGHINGS.c.origin,
)
# A log that is read again replaces what was kept of its entries.
sa.Index("suspected_weighings_by_place", SUSPECTED_WEIGHINGS.c.origin, SUSPECTED_WEIGHINGS.c.sequence)
# What lacks evidence is little, and its list has this order (store.missing).
sa.Index(
    "suspected_weighings_missing",
    *SUSPECTED_WEIGHINGS.c["weigh_time", "origin", "sequence"],
    postgresql_where=sa.text("clip_seal_time IS NULL OR photo_seal_time IS NULL"),
)
WEIGHING_POSITIONS = sa.Table(
    "weighing_positions",
    METADATA,
    # How far each weighing journal was read, and the root of the log there: a log that was restored from a backup may
    # have another history from some place on, and is read again then.
    _text("origin", is_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
    # Empty at 0.
    sa.Column("root", sa.LargeBinary, nullable=False),
    # First weighing that was passed over because its schema is newer than this release, and the lowest such schema:
    # the release that knows it reads on from there.
    sa.Column("passed_sequence", sa.BigInteger, nullable=True),
    sa.Column("passed_schema", sa.Integer, nullable=True),
)
ORPHANS = sa.Table(
    "orphans",
    METADATA,
    # Objects in the store that no manifest names, and since when they are seen there: uploads died, or a database was
    # restored from before the manifests. Removed after a grace time in which somebody may notice.
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    _time("found_time"),
)
STORE_TESTS = sa.Table(
    "store_tests",
    METADATA,
    # Self-tests of the store's locks; the newest counts.
    sa.Column("test_time", sa.DateTime(timezone=True), primary_key=True),
    # LockState of the contract.
    sa.Column("lock_state", sa.SmallInteger, nullable=False),
    _text("detail"),
)
SCRUB_STATE = sa.Table(
    "scrub_state",
    METADATA,
    # One row: where the scrubber and the reconciliation stand.
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    # When this round began: it ends when no object's last check is older.
    _time("scrub_begin_time", nullable=True),
    _time("scrub_complete_time", nullable=True),
    _time("reconcile_time", nullable=True),
    # Objects that should be here and their bytes, as counted last: counting millions takes longer than a call may.
    _count("object_count"),
    _count("object_bytes"),
    _time("count_time", nullable=True),
    # When keeping was at work last, and from when on it may delete after a time in which it was not.
    _time("present_time", nullable=True),
    _time("delete_after_time", nullable=True),
    sa.CheckConstraint("id = 1", name="scrub_state_id_check"),
)
