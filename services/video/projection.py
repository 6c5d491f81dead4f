"""Makes rows of journal entries: of received ones, from above and from below, and of the own as they are written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from google.protobuf.message import DecodeError, Message

from services.common.database import RawConnection
from services.common.instants import moment
from services.journal.projection import Unprojectable
from services.video import convert, forms, kinds
from services.video.custody import CustodyAction
from services.video.domain import Name, Subject
from services.video.limits import CAMERA_ID_CHARACTERS_MAX, SUBJECTS_MAX
from services.video.store import locks
from services.video.store import projected as store
from services.video.store.projected import ArrivedCamera, ArrivedCustodyEvent, ArrivedEvidence
from services.video.store.wanted import decide_again
from zhichao.video.v1 import camera_pb2, custody_pb2, evidence_pb2


@dataclass(frozen=True, slots=True)
class PreparedEvidence:
    """A manifest read from an entry, before its place is known. Who sealed it is the owner of the log."""

    source_unit_id: str
    evidence_id: str
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
class PreparedCustodyEvent:
    """A custody event read from an entry. Where it happened is the owner of the log."""

    name: Name
    digest: bytes
    action: int
    event_time: datetime
    reference_id: str
    until_time: datetime | None
    content: bytes


@dataclass(frozen=True, slots=True)
class PreparedCamera:
    """A camera report read from an entry."""

    source_unit_id: str
    camera_id: str
    view: int
    state: int
    oldest_recording_time: datetime | None
    receive_time: datetime
    content: bytes


Prepared = PreparedEvidence | PreparedCustodyEvent | PreparedCamera


class VideoProjection:
    """The tables as a function of the journal, in whatever order logs and replayed entries come.

    Only what has a column is checked: the origin has applied its own rules. Who sealed, and where something was done,
    are the owners of the logs; no payload says otherwise. An event about evidence that is not held is kept: the
    evidence may come later, from another direction.
    """

    kinds: Mapping[str, int] = MappingProxyType(
        {kinds.EVIDENCE_KIND: kinds.SCHEMA, kinds.CUSTODY_KIND: kinds.SCHEMA, kinds.CAMERA_KIND: kinds.SCHEMA}
    )

    def prepare(self, origin: str, kind: str, payload: bytes, leaf: bytes) -> Prepared:
        """Parse one payload. Raises Unprojectable when it is no such message, or lacks what has a column."""
        del origin
        if kind == kinds.EVIDENCE_KIND:
            return prepare_evidence(payload, leaf)
        if kind == kinds.CUSTODY_KIND:
            return prepare_custody_event(payload)
        return prepare_camera(payload)

    def project(self, connection: RawConnection, origin: str, prepared: Sequence[tuple[int, Prepared]]) -> None:
        """Write the rows of entries of one log."""
        evidence = []
        events = []
        cameras = []
        for sequence, one in prepared:
            match one:
                case PreparedEvidence():
                    evidence.append(
                        ArrivedEvidence(
                            Name(origin, one.source_unit_id, one.evidence_id),
                            sequence,
                            one.leaf,
                            one.kind,
                            one.digest,
                            one.size_bytes,
                            one.camera_id,
                            one.list_time,
                            one.capture_end_time,
                            one.seal_time,
                            one.retain_until_time,
                            one.subjects,
                            one.content,
                        )
                    )
                case PreparedCustodyEvent():
                    events.append(
                        ArrivedCustodyEvent(
                            origin,
                            sequence,
                            one.name,
                            one.digest,
                            one.action,
                            one.event_time,
                            one.reference_id,
                            one.until_time,
                            one.content,
                        )
                    )
                case PreparedCamera():
                    cameras.append(
                        ArrivedCamera(
                            origin,
                            one.source_unit_id,
                            one.camera_id,
                            sequence,
                            one.view,
                            one.state,
                            one.oldest_recording_time,
                            one.receive_time,
                            one.content,
                        )
                    )
        # Always in this order, and rows that several logs share in the order of their keys: receivers of two logs
        # never wait for each other in a circle.
        sealed_again = store.put_evidence(connection, evidence)
        news = sealed_again | store.put_custody_events(connection, events)
        if news:
            decide_again(connection, sorted(news))
        if sealed_again:
            # Their rows are held by now, in order.
            store.look_again_for(connection, sorted(sealed_again))
        locks.note_changes(connection, [one.digest for one in events if one.action in locks.CHANGING_ACTIONS])
        store.put_cameras(connection, cameras)


def prepare_evidence(payload: bytes, leaf: bytes) -> PreparedEvidence:
    """Read the payload of a manifest. Raises Unprojectable."""
    message: evidence_pb2.Evidence = _parse(evidence_pb2.Evidence, payload)
    _refuse("source_unit_id", forms.source_unit_id(message.source_unit_id))
    _refuse("evidence_id", forms.evidence_id(message.evidence_id))
    _refuse("digest", forms.digest(message.digest))
    _refuse("camera_id", forms.camera_id(message.camera_id))
    if message.size_bytes < 1:
        raise Unprojectable(f"size_bytes is {message.size_bytes}")
    if len(message.subjects) > SUBJECTS_MAX:
        raise Unprojectable(f"subjects has {len(message.subjects)} values, more than {SUBJECTS_MAX}")
    # What a newer release can prove beside these is in the entry, and has no row.
    subjects = tuple(subject for subject in convert.subjects(message.subjects) if subject.kind)
    for subject in subjects:
        _refuse("subjects", forms.record_id(subject.subject_id))
    seal_time = _moment(message, "seal_time")
    return PreparedEvidence(
        message.source_unit_id,
        message.evidence_id,
        leaf,
        _small(message.kind, "kind"),
        message.digest,
        message.size_bytes,
        message.camera_id,
        _optional_moment(message, "capture_start_time") or seal_time,
        _optional_moment(message, "capture_end_time"),
        seal_time,
        _moment(message, "retain_until_time"),
        subjects,
        payload,
    )


def prepare_custody_event(payload: bytes) -> PreparedCustodyEvent:
    """Read the payload of a custody event. Raises Unprojectable."""
    message: custody_pb2.CustodyEvent = _parse(custody_pb2.CustodyEvent, payload)
    _refuse("evidence_origin", forms.division_code(message.evidence_origin))
    _refuse("source_unit_id", forms.source_unit_id(message.source_unit_id))
    _refuse("evidence_id", forms.evidence_id(message.evidence_id))
    _refuse("digest", forms.digest(message.digest))
    action = _small(message.action, "action")
    if action in (CustodyAction.HOLD_PLACED, CustodyAction.HOLD_RELEASED) or message.reference_id:
        _refuse("reference_id", forms.reference_id(message.reference_id))
    until_time = _optional_moment(message, "until_time")
    if action == CustodyAction.RETENTION_EXTENDED and until_time is None:
        raise Unprojectable("until_time is missing")
    return PreparedCustodyEvent(
        Name(message.evidence_origin, message.source_unit_id, message.evidence_id),
        message.digest,
        action,
        _moment(message, "event_time"),
        message.reference_id,
        until_time,
        payload,
    )


def prepare_camera(payload: bytes) -> PreparedCamera:
    """Read the payload of a camera report. Raises Unprojectable."""
    message: camera_pb2.CameraReport = _parse(camera_pb2.CameraReport, payload)
    _refuse("source_unit_id", forms.source_unit_id(message.source_unit_id))
    _refuse("camera_id", forms.text(message.camera_id, CAMERA_ID_CHARACTERS_MAX))
    return PreparedCamera(
        message.source_unit_id,
        message.camera_id,
        _small(message.view, "view"),
        _small(message.state, "state"),
        _optional_moment(message, "oldest_recording_time"),
        _moment(message, "receive_time"),
        payload,
    )


def _parse(message: Any, payload: bytes) -> Any:
    try:
        return message.FromString(payload)
    except DecodeError as error:
        raise Unprojectable(f"the payload is not a {message.DESCRIPTOR.full_name}") from error


def _moment(message: Message, field: str) -> datetime:
    found = _optional_moment(message, field)
    if found is None:
        raise Unprojectable(f"{field} is missing")
    return found


def _optional_moment(message: Message, field: str) -> datetime | None:
    if not message.HasField(field):
        return None
    try:
        return moment(getattr(message, field))
    except ValueError as error:
        raise Unprojectable(f"{field} {error}") from error


def _small(value: int, field: str) -> int:
    """Return the number of an enumeration as its column takes it; one of a newer release is kept."""
    if not 0 <= value <= ENUMERATION_MAX:
        raise Unprojectable(f"{field} is {value}")
    return value


def _refuse(field: str, description: str) -> None:
    if description:
        raise Unprojectable(f"{field} {description}")


ENUMERATION_MAX = 2**15 - 1
"""Numbers of enumerations stand in smallint columns."""
