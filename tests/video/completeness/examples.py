"""Weighings, evidence and cameras of made-up sites, written as the projection and the follower write them."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from services.common.database import RawConnection
from services.video.domain import EvidenceKind, Name, Subject, SubjectKind
from services.video.store import weighings
from services.video.store.projected import ArrivedCamera, ArrivedEvidence, put_cameras, put_evidence
from services.video.store.weighings import CAPTURE_TOLERANCE, ReadLog, SuspectedRow

COUNTY = "141025"
NEIGHBOUR = "141034"
UNIT = "141025-001"
OTHER_UNIT = "141025-002"

NOON = datetime(2026, 7, 1, 4, 0, tzinfo=UTC)
"""Noon in China."""

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)

IN_TIME = 30 * MINUTE
"""Within what evidence has to follow its weighing."""

KEEP = 30 * DAY
"""How long sites must keep recordings."""

PHOTO = EvidenceKind.PHOTO
CLIP = EvidenceKind.CLIP
DOCUMENT = EvidenceKind.DOCUMENT


def suspected(
    record_id: str, sequence: int, weigh_time: datetime = NOON, unit: str = UNIT, receive_time: datetime | None = None
) -> SuspectedRow:
    """Return a suspected overload."""
    return SuspectedRow(unit, record_id, sequence, weigh_time, receive_time or weigh_time)


def keep(connection: RawConnection, *rows: SuspectedRow, origin: str = COUNTY) -> None:
    """Keep suspected overloads as if their log had been read to each of them."""
    for row in sorted(rows, key=lambda row: row.sequence):
        held = weighings.read_logs(connection).get(origin, weighings.UNREAD)
        assert held.position < row.sequence
        weighings.keep_batch(connection, origin, held, ReadLog(row.sequence, b"root"), [row])


def evidence(
    evidence_id: str,
    *record_ids: str,
    kind: EvidenceKind = CLIP,
    seal_time: datetime = NOON,
    unit: str = UNIT,
    origin: str = COUNTY,
    sequence: int = 1,
    start_time: datetime = NOON,
    end_time: datetime | None = None,
) -> ArrivedEvidence:
    """Return a manifest that names weighings; it shows noon unless told otherwise."""
    return ArrivedEvidence(
        Name(origin, unit, evidence_id),
        sequence,
        b"leaf",
        kind,
        hashlib.sha256(evidence_id.encode()).digest(),
        1_000,
        "",
        start_time,
        end_time,
        seal_time,
        seal_time + 365 * DAY,
        tuple(Subject(SubjectKind.RECORD, record_id) for record_id in record_ids),
        b"",
    )


def seal(connection: RawConnection, *manifests: ArrivedEvidence) -> None:
    """Write manifests, each as if it had come alone."""
    for manifest in manifests:
        put_evidence(connection, [manifest])


def camera(
    connection: RawConnection,
    camera_id: str,
    reach: timedelta | None,
    *,
    at: datetime = NOON,
    unit: str = UNIT,
    origin: str = COUNTY,
    state: int = 1,
    sequence: int = 1,
) -> None:
    """Write a camera whose recordings reached so far back when it reported."""
    oldest = None if reach is None else at - reach
    put_cameras(connection, [ArrivedCamera(origin, unit, camera_id, sequence, 1, state, oldest, at, b"")])


def seals(connection: RawConnection) -> dict[tuple[str, str, str], tuple[datetime | None, datetime | None]]:
    """Return when the first clip and photo of each suspected overload were sealed, as the table has it."""
    rows = connection.execute(
        "SELECT origin, source_unit_id, record_id, clip_seal_time, photo_seal_time FROM suspected_weighings"
    ).fetchall()
    return {(row[0], row[1], row[2]): (row[3], row[4]) for row in rows}


def expected_seals(
    rows: Sequence[tuple[str, SuspectedRow]], manifests: Sequence[ArrivedEvidence]
) -> dict[tuple[str, str, str], tuple[datetime | None, datetime | None]]:
    """Work out the same from what there is, in no order."""

    def first(origin: str, row: SuspectedRow, kind: EvidenceKind) -> datetime | None:
        return min(
            (
                one.seal_time
                for one in manifests
                if one.kind == kind
                and one.list_time <= row.weigh_time + CAPTURE_TOLERANCE
                and (one.capture_end_time or one.list_time) >= row.weigh_time - CAPTURE_TOLERANCE
                and (one.name.origin, one.name.source_unit_id) == (origin, row.source_unit_id)
                and Subject(SubjectKind.RECORD, row.record_id) in one.subjects
            ),
            default=None,
        )

    return {
        (origin, row.source_unit_id, row.record_id): (first(origin, row, CLIP), first(origin, row, PHOTO))
        for origin, row in rows
    }
