"""The journal's tables, part of every service's database."""

import sqlalchemy as sa

from services.common.database import APPEND_ONLY


def define(metadata: sa.MetaData) -> None:
    """Add the journal's tables to a service's metadata."""
    sa.Table(
        "journal_logs",
        metadata,
        # Platform code of the log's owner. Collation C: codes are compared byte by byte everywhere.
        sa.Column("origin", sa.Text(collation="C"), primary_key=True),
        sa.Column("is_own", sa.Boolean, nullable=False),
        # The tree after the last entry.
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("peaks", sa.LargeBinary, nullable=False),
        # For lag in bytes and seconds.
        sa.Column("total_bytes", sa.BigInteger, nullable=False),
        sa.Column("last_write_time", sa.DateTime(timezone=True), nullable=True),
        # From entry 1 of the log.
        sa.Column("digest_algorithm", sa.Text, nullable=False),
        sa.Column("verifier_key", sa.Text, nullable=False),
        # Set by a restore: nothing is written to the own log until it was compared with what the platform above holds,
        # so that no sequence is used twice.
        sa.Column("is_recovering", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.CheckConstraint("size >= 0", name="journal_logs_size_check"),
        # Copies are written to by those who own them.
        sa.CheckConstraint("is_own OR NOT is_recovering", name="journal_logs_recovering_check"),
        # Pages of this table are rewritten with every commit: room for HOT updates keeps it one page long.
        postgresql_with={"fillfactor": "50"},
    )
    # At most one log is written here; a second one would mean two identities on one database.
    sa.Index(
        "journal_logs_own_key",
        metadata.tables["journal_logs"].c.is_own,
        unique=True,
        postgresql_where=sa.text("is_own"),
    )
    sa.Table(
        "journal_entries",
        metadata,
        sa.Column("origin", sa.Text(collation="C"), primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        # The bytes as the origin wrote them.
        sa.Column("entry", sa.LargeBinary, nullable=False),
        # Digest of the leaf, so that proofs need not hash entries again.
        sa.Column("leaf", sa.LargeBinary, nullable=False),
        info=APPEND_ONLY,
    )
    sa.Table(
        "journal_nodes",
        metadata,
        sa.Column("origin", sa.Text(collation="C"), primary_key=True),
        # 8, 16, 24 …: roots of complete subtrees of 2**level leaves.
        sa.Column("level", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("index", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        info=APPEND_ONLY,
    )
    sa.Table(
        "journal_checkpoints",
        metadata,
        sa.Column("origin", sa.Text(collation="C"), primary_key=True),
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        # Sum of entry bytes at this size, for batches bounded in bytes.
        sa.Column("total_bytes", sa.BigInteger, nullable=False),
        # C2SP note with the origin's signature and the cosignatures known here.
        sa.Column("note", sa.Text, nullable=False),
    )
    sa.Table(
        "journal_parked",
        metadata,
        sa.Column("origin", sa.Text(collation="C"), primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("park_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempt_count", sa.Integer, nullable=False),
    )
    _define_addressed(metadata)
    _define_access_records(metadata)


def _define_addressed(metadata: sa.MetaData) -> None:
    """Add the tables of addressed entries: of the own log, and what is held of logs of platforms above."""
    sa.Table(
        "journal_addressed",
        metadata,
        sa.Column("origin", sa.Text(collation="C"), primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        # Division code that the entry is addressed to; empty for entry 1 of another platform's log.
        sa.Column("audience", sa.Text(collation="C"), nullable=False),
        # Absent for the own log, whose entries are in journal_entries and whose proofs are made when they are read.
        sa.Column("entry", sa.LargeBinary, nullable=True),
        sa.Column("leaf", sa.LargeBinary, nullable=True),
        # Digests of the audit path to the root of the entry's step, joined.
        sa.Column("inclusion_path", sa.LargeBinary, nullable=True),
        sa.CheckConstraint(
            "(entry IS NULL) = (leaf IS NULL) AND (entry IS NULL) = (inclusion_path IS NULL)",
            name="journal_addressed_entry_check",
        ),
        info=APPEND_ONLY,
    )
    # Readers ask for some of the audiences, and for how many entries each has.
    addressed = metadata.tables["journal_addressed"].c
    sa.Index("journal_addressed_audience_idx", addressed.origin, addressed.audience, addressed.sequence)
    sa.Table(
        "journal_addressed_steps",
        metadata,
        sa.Column("origin", sa.Text(collation="C"), primary_key=True),
        # Size of the log at the step's checkpoint.
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        # Size of the step before: the entries of the step lie behind it. 0 for the first one.
        sa.Column("previous_size", sa.BigInteger, nullable=False),
        # Absent for the own log, which signs and proves when it is read.
        sa.Column("note", sa.Text, nullable=True),
        # Digests of the proof that the step before is a prefix, joined.
        sa.Column("consistency_path", sa.LargeBinary, nullable=True),
        sa.CheckConstraint("previous_size >= 0 AND previous_size < size", name="journal_addressed_steps_size_check"),
        info=APPEND_ONLY,
    )
    sa.Table(
        "journal_addressed_logs",
        metadata,
        # Owner of the log: a platform above.
        sa.Column("origin", sa.Text(collation="C"), primary_key=True),
        # Size and root at the newest step received: everything that is meant for this platform up to there is held.
        sa.Column("through_sequence", sa.BigInteger, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        # From entry 1 of the log.
        sa.Column("digest_algorithm", sa.Text, nullable=False),
        sa.Column("verifier_key", sa.Text, nullable=False),
        sa.Column("last_receive_time", sa.DateTime(timezone=True), nullable=True),
    )
    sa.Table(
        "journal_addressed_receipts",
        metadata,
        # The entry that was received: owner of its log and its place there.
        sa.Column("origin", sa.Text(collation="C"), primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        # Who has received it, and where that platform's own log says so.
        sa.Column("platform", sa.Text(collation="C"), primary_key=True),
        sa.Column("receipt_sequence", sa.BigInteger, nullable=False),
        sa.Column("receive_time", sa.DateTime(timezone=True), nullable=False),
        info=APPEND_ONLY,
    )


def _define_access_records(metadata: sa.MetaData) -> None:
    """Add the table of who has been shown what, here and on platforms below."""
    sa.Table(
        "journal_access_records",
        metadata,
        sa.Column("origin", sa.Text(collation="C"), primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("access_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("principal", sa.Text(collation="C"), nullable=False),
        # The AccessRecord as it stands in the log.
        sa.Column("record", sa.LargeBinary, nullable=False),
        info=APPEND_ONLY,
    )
    # Lists are by time, newest first.
    records = metadata.tables["journal_access_records"].c
    sa.Index("journal_access_records_time_idx", records.access_time, records.origin, records.sequence)
