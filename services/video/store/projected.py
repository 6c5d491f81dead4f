"""What the projection writes: manifests, custody events with the holds and extensions that follow, cameras."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.common.database import RawConnection
from services.video.custody import CustodyAction
from services.video.domain import BytesState, Name, Subject, SubjectKind
from services.video.store.weighings import link_evidence


@dataclass(frozen=True, slots=True)
class ArrivedEvidence:
    """A manifest with its place."""

    name: Name
    sequence: int
    leaf: bytes
    kind: int
    digest: bytes
    size_bytes: int
    camera_id: str
    list_time: datetime
    capture_end_time: datetime | None
    seal_time: datetime
    retain_until_time: datetime
    subjects: tuple[Subject, ...]
    content: bytes


@dataclass(frozen=True, slots=True)
class ArrivedCustodyEvent:
    """A custody event with its place."""

    origin: str
    sequence: int
    name: Name
    digest: bytes
    action: int
    event_time: datetime
    reference_id: str
    until_time: datetime | None
    content: bytes


@dataclass(frozen=True, slots=True)
class ArrivedCamera:
    """A camera report with its place."""

    origin: str
    source_unit_id: str
    camera_id: str
    sequence: int
    view: int
    state: int
    oldest_recording_time: datetime | None
    receive_time: datetime
    content: bytes


def put_evidence(connection: RawConnection, arrived: Sequence[ArrivedEvidence]) -> set[bytes]:
    """Write manifests of one log, what they prove, and objects that nobody has heard of. The first entry counts.

    Returns the objects that were known before: whether they are wanted, or deleted, depends on these manifests, too.
    """
    if not arrived:
        return set()
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO evidence (origin, source_unit_id, evidence_id, sequence, leaf, kind, digest, size_bytes,"
            " camera_id, list_time, capture_end_time, seal_time, retain_until_time, content)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (origin, source_unit_id, evidence_id) DO UPDATE SET sequence = excluded.sequence,"
            " leaf = excluded.leaf, kind = excluded.kind, digest = excluded.digest, size_bytes = excluded.size_bytes,"
            " camera_id = excluded.camera_id, list_time = excluded.list_time,"
            " capture_end_time = excluded.capture_end_time, seal_time = excluded.seal_time,"
            " retain_until_time = excluded.retain_until_time, content = excluded.content"
            " WHERE excluded.sequence < evidence.sequence",
            [
                (
                    *one.name,
                    one.sequence,
                    one.leaf,
                    one.kind,
                    one.digest,
                    one.size_bytes,
                    one.camera_id,
                    one.list_time,
                    one.capture_end_time,
                    one.seal_time,
                    one.retain_until_time,
                    one.content,
                )
                for one in arrived
            ],
        )
        cursor.executemany(
            "INSERT INTO evidence_subjects (source_unit_id, subject_kind, subject_id, origin, evidence_id)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [
                (one.name.source_unit_id, subject.kind, subject.subject_id, one.name.origin, one.name.evidence_id)
                for one in arrived
                for subject in one.subjects
            ],
        )
    # Logs share digests: in the order of the keys, so that receivers of two logs never wait in a circle.
    sizes = {one.digest: one.size_bytes for one in arrived}
    added = connection.execute(
        "INSERT INTO objects (digest, size_bytes, state)"
        " SELECT digest, size_bytes, %s FROM unnest(%s::bytea[], %s::bigint[]) AS arrived (digest, size_bytes)"
        " ORDER BY digest ON CONFLICT DO NOTHING RETURNING digest",
        (BytesState.BELOW.value, list(sizes), list(sizes.values())),
    ).fetchall()
    link_evidence(
        connection,
        arrived[0].name.origin,
        [
            (one.name.source_unit_id, subject.subject_id)
            for one in arrived
            for subject in one.subjects
            if subject.kind == SubjectKind.RECORD
        ],
    )
    return sizes.keys() - {digest for (digest,) in added}


def look_again_for(connection: RawConnection, digests: Sequence[bytes]) -> None:
    """Let deleted bytes be looked for that a manifest names which has come since.

    Whoever seals them says in the same transaction that they are here. After a restore the manifest comes from the log
    and the bytes never left: what the store has is theirs then, and nothing left over of the deletion.
    """
    connection.execute(
        "UPDATE objects SET state = %s WHERE digest = ANY(%s) AND state = %s",
        (BytesState.BELOW, list(digests), BytesState.DELETED),
    )


def put_custody_events(connection: RawConnection, arrived: Sequence[ArrivedCustodyEvent]) -> set[bytes]:
    """Write events of one log, and the holds and extensions that follow from them.

    Returns the objects that somebody has asked for, or that are there again below: they may be wanted now.
    """
    if not arrived:
        return set()
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO custody_events (origin, sequence, evidence_origin, source_unit_id, evidence_id, digest,"
            " action, event_time, reference_id, until_time, content)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [
                (
                    one.origin,
                    one.sequence,
                    *one.name,
                    one.digest,
                    one.action,
                    one.event_time,
                    one.reference_id,
                    one.until_time,
                    one.content,
                )
                for one in arrived
            ],
        )
        cursor.executemany(
            "INSERT INTO legal_holds (evidence_origin, source_unit_id, evidence_id, platform, hold_id, place_sequence,"
            " release_sequence, content) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (evidence_origin, source_unit_id, evidence_id, platform, hold_id) DO UPDATE SET"
            " content = CASE WHEN excluded.place_sequence > legal_holds.place_sequence THEN excluded.content"
            " ELSE legal_holds.content END,"
            " place_sequence = GREATEST(legal_holds.place_sequence, excluded.place_sequence),"
            " release_sequence = GREATEST(legal_holds.release_sequence, excluded.release_sequence)",
            [
                (*one.name, one.origin, one.reference_id, one.sequence, 0, one.content)
                if one.action == CustodyAction.HOLD_PLACED
                else (*one.name, one.origin, one.reference_id, 0, one.sequence, None)
                for one in arrived
                if one.action in (CustodyAction.HOLD_PLACED, CustodyAction.HOLD_RELEASED)
            ],
        )
        # Several logs extend the same evidence: in the order of the keys, as above.
        cursor.executemany(
            "INSERT INTO retention_extensions (evidence_origin, source_unit_id, evidence_id, retain_until_time)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT (evidence_origin, source_unit_id, evidence_id) DO UPDATE SET"
            " retain_until_time = GREATEST(retention_extensions.retain_until_time, excluded.retain_until_time)",
            sorted(
                (*one.name, one.until_time)
                for one in arrived
                if one.action == CustodyAction.RETENTION_EXTENDED and one.until_time is not None
            ),
        )
    return {one.digest for one in arrived if one.action in (CustodyAction.REQUESTED, CustodyAction.RESTORED)}


def put_cameras(connection: RawConnection, arrived: Sequence[ArrivedCamera]) -> None:
    """Write reports of one log; of each camera the newest counts, in whatever order they come."""
    if not arrived:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO cameras (origin, source_unit_id, camera_id, sequence, view, state, oldest_recording_time,"
            " receive_time, content) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (origin, source_unit_id, camera_id) DO UPDATE SET sequence = excluded.sequence,"
            " view = excluded.view, state = excluded.state, oldest_recording_time = excluded.oldest_recording_time,"
            " receive_time = excluded.receive_time, content = excluded.content"
            " WHERE excluded.sequence > cameras.sequence",
            [
                (
                    one.origin,
                    one.source_unit_id,
                    one.camera_id,
                    one.sequence,
                    one.view,
                    one.state,
                    one.oldest_recording_time,
                    one.receive_time,
                    one.content,
                )
                for one in arrived
            ],
        )
