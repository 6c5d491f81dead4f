"""Objects as they are kept: which is checked next, who keeps which, what is deleted, what nobody names."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from services.common.database import RawConnection
from services.video.custody import CustodyAction

OBJECT_LOCK_CLASS: Final = 0x7A6F  # "zo", zhichao objects
"""First half of the advisory locks that are taken for one object each; the second is from its digest."""

DELETE_SILENCE_MAX: Final = "1h"
"""How long a transaction in which the store deletes may be silent: some ten requests for each of three keys, which may
all take as long as a store takes that answers just within its time-out (S3_READ_TIMEOUT_SECONDS, 30 s)."""


class StoredRow(NamedTuple):
    """An object that should be here."""

    digest: bytes
    size_bytes: int
    state: int
    """1 held, 4 damaged."""


class KeptRow(NamedTuple):
    """An object as its row has it, and whether any manifest names it; state 0 where there is no row."""

    digest: bytes
    state: int
    is_named: bool
    is_own: bool
    """Whether one of the manifests is this platform's own."""


class KeeperRow(NamedTuple):
    """All manifests that name an object together, as far as they keep it."""

    retain_until_time: datetime
    is_held: bool
    requested_until_time: datetime | None


class Totals(NamedTuple):
    """What should be here."""

    object_count: int
    object_bytes: int


class Troubles(NamedTuple):
    """What is not as it should be, or on its way."""

    missing_count: int
    changed_count: int
    wanted_count: int
    orphan_count: int
    unread_count: int
    """Held, and not read the last time, though the store could read others."""


class ScrubState(NamedTuple):
    """Where scrubbing and reconciliation stand."""

    scrub_begin_time: datetime | None
    scrub_complete_time: datetime | None
    reconcile_time: datetime | None
    count_time: datetime | None
    totals: Totals


class LockTestRow(NamedTuple):
    """A self-test of the store's locks."""

    test_time: datetime
    lock_state: int
    detail: str


def lock_object(connection: RawConnection, digest: bytes) -> None:
    """Hold one object until the end of the transaction.

    Whoever makes an object HELD looks whether the store has it, and whoever deletes one looks whether anybody names it,
    under this lock: so nothing is deleted that has just been sealed.
    """
    connection.execute(
        "SELECT pg_advisory_xact_lock(%s, %s)", (OBJECT_LOCK_CLASS, int.from_bytes(digest[:4], "big", signed=True))
    )


def lock_object_to_delete(connection: RawConnection, digest: bytes) -> None:
    """Hold one object as `lock_object` does, for as long as the store takes to delete its bytes.

    The database ends a session that is silent in its transaction for a minute, and the lock with it: whoever seals the
    same bytes then would lose them to the deletion that is on its way.
    """
    connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{DELETE_SILENCE_MAX}'".encode())
    lock_object(connection, digest)


def database_time(connection: RawConnection) -> datetime:
    """Return the time by the clock of the database's machine."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    if row is None:
        raise RuntimeError("a SELECT without a table gives one row")
    found: datetime = row[0]
    return found


# Deleting


def to_look_at(connection: RawConnection, now: datetime, count: int) -> list[StoredRow]:
    """Return objects whose turn it is to be looked at by what deletes expired bytes."""
    rows = connection.execute(
        "SELECT digest, size_bytes, state FROM objects WHERE state IN (1, 4)"
        " AND (keep_check_time IS NULL OR keep_check_time <= %s) ORDER BY keep_check_time NULLS FIRST LIMIT %s",
        (now, count),
    )
    return [StoredRow(*row) for row in rows]


def read_keepers(connection: RawConnection, digest: bytes) -> list[KeeperRow]:
    """Return what keeps an object: one row for all manifests that name it, none where none does.

    A platform below may name the same bytes in millions of manifests: they are read, and not held in memory.
    """
    rows = connection.execute(
        "SELECT max(GREATEST(e.retain_until_time, x.retain_until_time)), bool_or(EXISTS (SELECT 1 FROM legal_holds h"
        "  WHERE (h.evidence_origin, h.source_unit_id, h.evidence_id) = (e.origin, e.source_unit_id, e.evidence_id)"
        "  AND h.place_sequence > h.release_sequence)),"
        " (SELECT max(c.until_time) FROM custody_events c JOIN evidence n"
        "  ON (c.evidence_origin, c.source_unit_id, c.evidence_id) = (n.origin, n.source_unit_id, n.evidence_id)"
        "  WHERE n.digest = %(digest)s AND c.action = 8)"
        " FROM evidence e LEFT JOIN retention_extensions x"
        " ON (x.evidence_origin, x.source_unit_id, x.evidence_id) = (e.origin, e.source_unit_id, e.evidence_id)"
        " WHERE e.digest = %(digest)s HAVING count(*) > 0",
        {"digest": digest},
    )
    return [KeeperRow(*row) for row in rows]


def look_again_at(connection: RawConnection, digest: bytes, when: datetime) -> None:
    """Note when an object is looked at again."""
    connection.execute("UPDATE objects SET keep_check_time = %s WHERE digest = %s", (when, digest))


def mark_deleted(connection: RawConnection, digest: bytes) -> bool:
    """Mark an object as deleted; False when it is not here. The store has its bytes until `mark_purged`."""
    marked = connection.execute(
        "UPDATE objects SET state = 5, damage = NULL, damage_time = NULL, purge_time = NULL, has_preview = FALSE"
        " WHERE digest = %s AND state IN (1, 4)",
        (digest,),
    )
    return marked.rowcount == 1


def to_purge(connection: RawConnection, after: bytes, count: int) -> list[bytes]:
    """Return deleted objects whose bytes the store may still have, after a digest."""
    rows = connection.execute(
        "SELECT digest FROM objects WHERE state = 5 AND purge_time IS NULL AND digest > %s ORDER BY digest LIMIT %s",
        (after, count),
    )
    return [digest for (digest,) in rows]


def is_to_purge(connection: RawConnection, digest: bytes) -> bool:
    """Tell whether an object is deleted and its bytes are not gone; ask under `lock_object`."""
    row = connection.execute(
        "SELECT 1 FROM objects WHERE digest = %s AND state = 5 AND purge_time IS NULL", (digest,)
    ).fetchone()
    return row is not None


def mark_purged(connection: RawConnection, digest: bytes, now: datetime) -> None:
    """Note that the store has let go of deleted bytes."""
    connection.execute("UPDATE objects SET purge_time = %s WHERE digest = %s AND state = 5", (now, digest))


def purge_again(connection: RawConnection, digest: bytes) -> None:
    """Note that the store has bytes that were deleted."""
    connection.execute("UPDATE objects SET purge_time = NULL WHERE digest = %s AND state = 5", (digest,))


# Reconciling


def read_kept(connection: RawConnection, digests: Sequence[bytes], own: str) -> dict[bytes, KeptRow]:
    """Return what is known of objects that the store has."""
    rows = connection.execute(
        "SELECT wanted.digest, coalesce(o.state, 0), EXISTS (SELECT 1 FROM evidence e WHERE e.digest = wanted.digest),"
        " EXISTS (SELECT 1 FROM evidence e WHERE e.digest = wanted.digest AND e.origin = %s)"
        " FROM unnest(%s::bytea[]) AS wanted (digest) LEFT JOIN objects o ON o.digest = wanted.digest",
        (own, list(digests)),
    )
    return {row[0]: KeptRow(*row) for row in rows}


def is_named(connection: RawConnection, digest: bytes) -> bool:
    """Tell whether any manifest names an object; ask under `lock_object`."""
    row = connection.execute("SELECT 1 FROM evidence WHERE digest = %s LIMIT 1", (digest,)).fetchone()
    return row is not None


def read_held_between(connection: RawConnection, after: bytes, through: bytes | None, count: int) -> list[StoredRow]:
    """Return objects that should be here, after one digest and through another one or to the end, by digest."""
    rows = connection.execute(
        "SELECT digest, size_bytes, state FROM objects WHERE state = 1 AND digest > %s"
        " AND (%s::bytea IS NULL OR digest <= %s) ORDER BY digest LIMIT %s",
        (after, through, through, count),
    )
    return [StoredRow(*row) for row in rows]


def read_elsewhere(connection: RawConnection, own: str, after: bytes, count: int) -> list[tuple[bytes, int | None]]:
    """Return objects that are said to be elsewhere, by digest, each with the size that an own manifest says, None where
    none names it: after a restore what this platform has sealed is here, or lost.
    """
    rows = connection.execute(
        "SELECT digest, (SELECT e.size_bytes FROM evidence e WHERE e.digest = objects.digest AND e.origin = %s LIMIT 1)"
        " FROM objects WHERE state IN (2, 3) AND digest > %s ORDER BY digest LIMIT %s",
        (own, after, count),
    )
    return [(digest, size_bytes) for digest, size_bytes in rows]


def put_orphans(connection: RawConnection, found: Sequence[tuple[bytes, int]], now: datetime) -> None:
    """Note objects that nobody names; one that is known keeps the time at which it was found."""
    connection.execute(
        "INSERT INTO orphans (digest, size_bytes, found_time)"
        " SELECT digest, size_bytes, %s FROM unnest(%s::bytea[], %s::bigint[]) AS found (digest, size_bytes)"
        " ON CONFLICT (digest) DO NOTHING",
        (now, [digest for digest, _ in found], [size for _, size in found]),
    )


def forget_orphans(connection: RawConnection, digests: Sequence[bytes]) -> None:
    """Forget orphans that are none any more."""
    connection.execute("DELETE FROM orphans WHERE digest = ANY(%s::bytea[])", (list(digests),))


def read_orphans(connection: RawConnection, after: bytes, count: int) -> list[tuple[bytes, datetime]]:
    """Return orphans after a digest with the time at which they were found, by digest."""
    rows = connection.execute(
        "SELECT digest, found_time FROM orphans WHERE digest > %s ORDER BY digest LIMIT %s", (after, count)
    )
    return [(digest, found_time) for digest, found_time in rows]


def known_multiparts(connection: RawConnection) -> set[str]:
    """Return the ids of all uploads straight to the store that are under way."""
    return {found for (found,) in connection.execute("SELECT multipart_id FROM uploads")}


def known_staging_keys(connection: RawConnection, keys: Sequence[str]) -> set[str]:
    """Return those of several staging keys that an upload under way has."""
    rows = connection.execute("SELECT staging_key FROM uploads WHERE staging_key = ANY(%s::text[])", (list(keys),))
    return {key for (key,) in rows}


# Figures


def has_objects(connection: RawConnection) -> bool:
    """Tell whether anything was ever stored here."""
    row = connection.execute("SELECT 1 FROM objects WHERE stored_time IS NOT NULL LIMIT 1").fetchone()
    return row is not None


def count_objects(connection: RawConnection) -> Totals:
    """Count what should be here; millions of objects take seconds."""
    row = connection.execute(
        "SELECT count(*), coalesce(sum(size_bytes), 0)::bigint FROM objects WHERE state IN (1, 4)"
    ).fetchone()
    return Totals(*row) if row else Totals(0, 0)


def count_troubles(connection: RawConnection) -> Troubles:
    """Count what is missing, changed and wanted, and what nobody names. Always quick: these are few."""
    row = connection.execute(
        "SELECT count(*) FILTER (WHERE state = 4 AND damage = %s), count(*) FILTER (WHERE state = 4 AND damage = %s),"
        " count(*) FILTER (WHERE state = 3), (SELECT count(*) FROM orphans), (SELECT count(*) FROM objects"
        "  WHERE unread_retry_time IS NOT NULL AND unread_count > 0 AND state = 1) FROM objects WHERE state IN (3, 4)",
        (CustodyAction.FOUND_MISSING, CustodyAction.FOUND_CHANGED),
    ).fetchone()
    return Troubles(*row) if row else Troubles(0, 0, 0, 0, 0)


def oldest_check_time(connection: RawConnection) -> datetime | None:
    """Return when the held object was checked whose last check is the oldest; None where nothing is held."""
    row = connection.execute(
        "SELECT coalesce(scrub_time, stored_time) FROM objects WHERE state = 1"
        " ORDER BY coalesce(scrub_time, stored_time, '-infinity'), digest LIMIT 1"
    ).fetchone()
    return row[0] if row else None


def read_scrub_state(connection: RawConnection) -> ScrubState:
    """Return where scrubbing and reconciliation stand."""
    row = connection.execute(
        "SELECT scrub_begin_time, scrub_complete_time, reconcile_time, count_time, object_count, object_bytes"
        " FROM scrub_state WHERE id = 1"
    ).fetchone()
    if row is None:
        return ScrubState(None, None, None, None, Totals(0, 0))
    begin_time, complete_time, reconcile_time, count_time, object_count, object_bytes = row
    return ScrubState(begin_time, complete_time, reconcile_time, count_time, Totals(object_count, object_bytes))


def begin_round(connection: RawConnection, now: datetime | None) -> None:
    """Note that a round of the scrubber begins, or that none is under way."""
    connection.execute(
        "INSERT INTO scrub_state (id, scrub_begin_time) VALUES (1, %s)"
        " ON CONFLICT (id) DO UPDATE SET scrub_begin_time = excluded.scrub_begin_time",
        (now,),
    )


def complete_round(connection: RawConnection, now: datetime) -> None:
    """Note that the scrubber has come to the end of all objects."""
    connection.execute(
        "INSERT INTO scrub_state (id, scrub_complete_time) VALUES (1, %s) ON CONFLICT (id)"
        " DO UPDATE SET scrub_complete_time = excluded.scrub_complete_time, scrub_begin_time = NULL",
        (now,),
    )


def mark_reconciled(connection: RawConnection, now: datetime) -> None:
    """Note that a reconciliation has ended."""
    connection.execute(
        "INSERT INTO scrub_state (id, reconcile_time) VALUES (1, %s)"
        " ON CONFLICT (id) DO UPDATE SET reconcile_time = excluded.reconcile_time",
        (now,),
    )


def keep_totals(connection: RawConnection, totals: Totals, now: datetime) -> None:
    """Keep what was counted."""
    connection.execute(
        "INSERT INTO scrub_state (id, object_count, object_bytes, count_time) VALUES (1, %s, %s, %s) ON CONFLICT (id)"
        " DO UPDATE SET object_count = excluded.object_count, object_bytes = excluded.object_bytes,"
        " count_time = excluded.count_time",
        (*totals, now),
    )


def newest_lock_test(connection: RawConnection) -> LockTestRow | None:
    """Return the last self-test of the store's locks."""
    row = connection.execute(
        "SELECT test_time, lock_state, detail FROM store_tests ORDER BY test_time DESC LIMIT 1"
    ).fetchone()
    return LockTestRow(*row) if row else None


def put_lock_test(connection: RawConnection, test: LockTestRow, kept_since: datetime) -> None:
    """Keep a self-test, and forget those from before a time, and from after it: of a clock that was ahead."""
    connection.execute(
        "INSERT INTO store_tests (test_time, lock_state, detail) VALUES (%s, %s, %s)"
        " ON CONFLICT (test_time) DO UPDATE SET lock_state = excluded.lock_state, detail = excluded.detail",
        test,
    )
    connection.execute("DELETE FROM store_tests WHERE test_time < %s OR test_time > %s", (kept_since, test.test_time))
