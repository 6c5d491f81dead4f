"""Suspected overloads, how far the weighing journals were read, and which evidence of each was sealed first.

A weighing and its evidence come in any order and from different services. What was sealed for a weighing is looked up
when the weighing comes, and again whenever evidence for it does. Evidence that names a weighing and shows another time
does not count: an old clip would prove every weighing that it names.

So that two transactions at the same time do not miss each other, those that write evidence hold a lock together, and
one that writes weighings holds it alone.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from services.common.database import RawConnection

LINK_LOCK_KEY: Final = 0x6C696E6B73
"""Advisory lock between writers of evidence, who share it, and of weighings. Any number that nothing else in this
database locks: the bytes "links". It is taken after the rows of logs and after evidence is written, and before a
suspected weighing is, by both sides."""

SUBJECT_WEIGHING: Final = 1
"""Kind of a subject that is the record of a weighing."""

CAPTURE_TOLERANCE: Final = timedelta(minutes=10)
"""How far from its weighing evidence may have been taken (the contract). Terminal and recorder have a clock each, and
ten minutes is what the weighing service forgives the clock of a terminal (its CLOCK_AHEAD_MAX_SECONDS)."""

PHOTO: Final = 1
CLIP: Final = 2
"""Kinds of evidence, numbered as in the contract."""


class SuspectedRow(NamedTuple):
    """A suspected overload with its place in its log."""

    source_unit_id: str
    record_id: str
    sequence: int
    weigh_time: datetime
    receive_time: datetime


class ReadLog(NamedTuple):
    """How far one weighing journal was read."""

    position: int
    root: bytes
    """Root of the log at the position; empty where it is not known."""
    passed_sequence: int | None = None
    """First weighing that was passed over because its schema was too new."""
    passed_schema: int | None = None
    """Lowest such schema."""


UNREAD: Final = ReadLog(0, b"")
"""A log of which nothing was read."""

# What was sealed first, a function of the evidence held and of the time of weighing alone. Without GROUP BY there is
# always one row.
_SEALED: Final = (
    "SELECT min(e.seal_time) FILTER (WHERE e.kind = {clip}) AS clip,"
    " min(e.seal_time) FILTER (WHERE e.kind = {photo}) AS photo"
    " FROM evidence_subjects s JOIN evidence e USING (origin, source_unit_id, evidence_id)"
    " WHERE s.source_unit_id = {unit} AND s.subject_kind = {kind} AND s.subject_id = {record} AND s.origin = %(origin)s"
    " AND e.list_time <= {weigh_time} + {tolerance}"
    " AND COALESCE(e.capture_end_time, e.list_time) >= {weigh_time} - {tolerance}"
)
_TOLERANCE: Final = f"interval '{CAPTURE_TOLERANCE // timedelta(seconds=1)} seconds'"


def _sealed(unit: str, record: str, weigh_time: str) -> str:
    return _SEALED.format(
        clip=CLIP,
        photo=PHOTO,
        kind=SUBJECT_WEIGHING,
        unit=unit,
        record=record,
        weigh_time=weigh_time,
        tolerance=_TOLERANCE,
    )


# Constants and names of columns only.
_INSERT: Final = (
    "INSERT INTO suspected_weighings (origin, source_unit_id, record_id, sequence, weigh_time, receive_time, day,"  # noqa: S608 - as above
    " clip_seal_time, photo_seal_time)"
    " SELECT %(origin)s, n.unit, n.record, n.sequence, n.weigh_time, n.receive_time,"
    " ((n.weigh_time AT TIME ZONE 'UTC') + interval '8 hours')::date, sealed.clip, sealed.photo"
    " FROM unnest(%(units)s::text[], %(records)s::text[], %(sequences)s::bigint[], %(weigh_times)s::timestamptz[],"
    " %(receive_times)s::timestamptz[]) AS n (unit, record, sequence, weigh_time, receive_time)"
    f" CROSS JOIN LATERAL ({_sealed('n.unit', 'n.record', 'n.weigh_time')}) AS sealed"
    " ON CONFLICT (origin, source_unit_id, record_id) DO UPDATE SET sequence = excluded.sequence,"
    " weigh_time = excluded.weigh_time, receive_time = excluded.receive_time, day = excluded.day,"
    " clip_seal_time = excluded.clip_seal_time, photo_seal_time = excluded.photo_seal_time"
).encode()
_LINK: Final = (
    "UPDATE suspected_weighings AS w SET clip_seal_time = n.clip, photo_seal_time = n.photo"  # noqa: S608 - as above
    " FROM (SELECT x.source_unit_id AS unit, x.record_id AS record, sealed.clip, sealed.photo"
    " FROM (SELECT DISTINCT unit, record FROM unnest(%(units)s::text[], %(records)s::text[]) AS k (unit, record)) AS k"
    " JOIN suspected_weighings x"
    " ON x.origin = %(origin)s AND x.source_unit_id = k.unit AND x.record_id = k.record"
    f" CROSS JOIN LATERAL ({_sealed('x.source_unit_id', 'x.record_id', 'x.weigh_time')}) AS sealed) AS n"
    " WHERE w.origin = %(origin)s AND w.source_unit_id = n.unit AND w.record_id = n.record"
    # Three photos of four change nothing, and a row that is written again is dead weight for every index.
    " AND (w.clip_seal_time, w.photo_seal_time) IS DISTINCT FROM (n.clip, n.photo)"
).encode()


_DECIDE_AGAIN: Final = (
    "UPDATE objects SET is_considered = false FROM (SELECT o.digest FROM objects o WHERE o.digest IN"  # noqa: S608 - as above
    " (SELECT e.digest FROM unnest(%(units)s::text[], %(records)s::text[]) AS k (unit, record)"
    " JOIN evidence_subjects s ON s.source_unit_id = k.unit AND s.subject_id = k.record"
    f" AND s.subject_kind = {SUBJECT_WEIGHING} AND s.origin = %(origin)s"
    " JOIN evidence e USING (origin, source_unit_id, evidence_id))"
    # Also what is not decided yet: whoever decides meanwhile would not see what is not committed.
    " AND o.state = 2 ORDER BY o.digest FOR UPDATE) AS chosen"
    " WHERE objects.digest = chosen.digest"
).encode()


def link_evidence(connection: RawConnection, origin: str, records: Sequence[tuple[str, str]]) -> None:
    """Note what is sealed for records, named by source unit and record id, of which evidence was just written.

    The lock is held until the transaction ends. Records of weighings that are not suspected, or not here yet, cost a
    look at an index.
    """
    if not records:
        return
    connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (LINK_LOCK_KEY,))
    connection.execute(
        _LINK,
        {"origin": origin, "units": [unit for unit, _ in records], "records": [record for _, record in records]},
    )


def read_logs(connection: RawConnection) -> dict[str, ReadLog]:
    """Return how far each weighing journal was read, by origin."""
    rows = connection.execute(
        "SELECT origin, position, root, passed_sequence, passed_schema FROM weighing_positions"
    ).fetchall()
    return {row[0]: ReadLog(row[1], bytes(row[2]), row[3], row[4]) for row in rows}


def keep_batch(
    connection: RawConnection,
    origin: str,
    before: ReadLog,
    after: ReadLog,
    rows: Sequence[SuspectedRow],
) -> ReadLog:
    """Keep the suspected overloads of the entries between two positions, and the position after them.

    What was kept of those entries before is replaced: a log may be read again. Returns where the log stands then, which
    is elsewhere when another replica was first: nothing is written in that case.
    """
    held = _lock_log(connection, origin)
    if held.position != before.position:
        return held
    if rows:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LINK_LOCK_KEY,))
    # After the lock: whoever shares it may wait for one of these rows, and must not be waited for then.
    connection.execute(
        "DELETE FROM suspected_weighings WHERE origin = %s AND sequence BETWEEN %s AND %s",
        (origin, before.position + 1, after.position),
    )
    if rows:
        connection.execute(
            _INSERT,
            {
                "origin": origin,
                "units": [row.source_unit_id for row in rows],
                "records": [row.record_id for row in rows],
                "sequences": [row.sequence for row in rows],
                "weigh_times": [row.weigh_time for row in rows],
                "receive_times": [row.receive_time for row in rows],
            },
        )
        # Bytes of suspected overloads may be wanted from below now.
        connection.execute(
            _DECIDE_AGAIN,
            {
                "origin": origin,
                "units": [row.source_unit_id for row in rows],
                "records": [row.record_id for row in rows],
            },
        )
    first_passed = after if held.passed_sequence is None else held
    schemas = [schema for schema in (held.passed_schema, after.passed_schema) if schema is not None]
    kept = ReadLog(after.position, after.root, first_passed.passed_sequence, min(schemas, default=None))
    _put_log(connection, origin, kept)
    return kept


def read_again(connection: RawConnection, origin: str, standing: ReadLog, from_sequence: int) -> ReadLog:
    """Let a log be read again from an entry on. Returns where it stands then.

    Does nothing when it stands elsewhere by now: another replica has done it already.
    """
    held = _lock_log(connection, origin)
    if held != standing:
        return held
    again = ReadLog(from_sequence - 1, b"")
    _put_log(connection, origin, again)
    return again


def begin_again(connection: RawConnection, origin: str, standing: ReadLog, size: int) -> ReadLog:
    """Let a log of `size` entries be read from its beginning, because it has another history than what was read.

    What was kept of entries beyond its end is forgotten, all else is replaced as it is read. Otherwise as `read_again`.
    """
    held = read_again(connection, origin, standing, 1)
    if held == UNREAD:
        connection.execute("DELETE FROM suspected_weighings WHERE origin = %s AND sequence > %s", (origin, size))
    return held


def _lock_log(connection: RawConnection, origin: str) -> ReadLog:
    connection.execute(
        "INSERT INTO weighing_positions (origin, position, root) VALUES (%s, 0, '') ON CONFLICT DO NOTHING", (origin,)
    )
    row = connection.execute(
        "SELECT position, root, passed_sequence, passed_schema FROM weighing_positions WHERE origin = %s FOR UPDATE",
        (origin,),
    ).fetchone()
    return UNREAD if row is None else ReadLog(row[0], bytes(row[1]), row[2], row[3])


def _put_log(connection: RawConnection, origin: str, log: ReadLog) -> None:
    connection.execute(
        "UPDATE weighing_positions SET position = %s, root = %s, passed_sequence = %s, passed_schema = %s"
        " WHERE origin = %s",
        (*log, origin),
    )
