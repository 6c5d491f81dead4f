"""Messages of the contract to and from the domain. Pure.

What is stored is the message itself and not the domain's copy of it: fields that this release does not know survive.
"""

from collections.abc import Iterable
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from services.common.instants import moment, timestamp
from services.video.domain import Draft, Subject, SubjectKind
from services.video.forms import Violation
from services.video.media_types import MediaFacts
from zhichao.video.v1 import evidence_pb2, service_pb2

__all__ = [
    "draft",
    "draft_of",
    "media_message",
    "moment",
    "optional_timestamp",
    "subject_message",
    "subjects",
    "timestamp",
]


def draft(message: service_pb2.EvidenceDraft) -> tuple[Draft, list[Violation]]:
    """Read a draft, and what is wrong with times that are none; the draft is without them then."""
    times: dict[str, datetime | None] = {}
    unreadable = []
    for field in ("capture_start_time", "capture_end_time"):
        times[field] = None
        if message.HasField(field):
            try:
                times[field] = moment(getattr(message, field))
            except ValueError as error:
                unreadable.append(Violation(field, str(error)))
    return (
        Draft(
            source_unit_id=message.source_unit_id,
            evidence_id=message.evidence_id,
            kind=message.kind,
            digest=message.digest,
            size_bytes=message.size_bytes,
            content_type=message.content_type,
            view=message.view,
            camera_id=message.camera_id,
            capture_start_time=times["capture_start_time"],
            capture_end_time=times["capture_end_time"],
            subjects=subjects(message.subjects),
            retention_class=message.retention_class,
        ),
        unreadable,
    )


def draft_of(manifest: evidence_pb2.Evidence) -> Draft:
    """Return what was said about evidence when it was uploaded, with the retention class that it got."""
    return Draft(
        source_unit_id=manifest.source_unit_id,
        evidence_id=manifest.evidence_id,
        kind=manifest.kind,
        digest=manifest.digest,
        size_bytes=manifest.size_bytes,
        content_type=manifest.content_type,
        view=manifest.view,
        camera_id=manifest.camera_id,
        capture_start_time=_optional(manifest, "capture_start_time"),
        capture_end_time=_optional(manifest, "capture_end_time"),
        subjects=subjects(manifest.subjects),
        retention_class=manifest.retention_class,
    )


def subjects(messages: Iterable[evidence_pb2.Subject]) -> tuple[Subject, ...]:
    """Read what evidence proves; a subject that names nothing has kind 0."""
    return tuple(_subject(message) for message in messages)


def _subject(message: evidence_pb2.Subject) -> Subject:
    match message.WhichOneof("subject"):
        case "record_id":
            return Subject(SubjectKind.RECORD, message.record_id)
        case "acceptance_id":
            return Subject(SubjectKind.ACCEPTANCE, message.acceptance_id)
        case _:
            return Subject(0, "")


def subject_message(subject: Subject) -> evidence_pb2.Subject:
    """Write one thing that evidence proves."""
    if subject.kind == SubjectKind.RECORD:
        return evidence_pb2.Subject(record_id=subject.subject_id)
    return evidence_pb2.Subject(acceptance_id=subject.subject_id)


def media_message(facts: MediaFacts) -> evidence_pb2.MediaFacts:
    """Write what was read from the bytes."""
    return evidence_pb2.MediaFacts(
        width_px=facts.width_px,
        height_px=facts.height_px,
        duration_milliseconds=facts.duration_milliseconds,
        video_codec=facts.video_codec,
        page_count=facts.page_count,
        device_time=timestamp(facts.device_time) if facts.device_time else None,
    )


def optional_timestamp(instant: datetime | None) -> Timestamp | None:
    """Write a time that may be absent."""
    return None if instant is None else timestamp(instant)


def _optional(message: evidence_pb2.Evidence, field: str) -> datetime | None:
    return moment(getattr(message, field)) if message.HasField(field) else None  # type: ignore[arg-type]  # one of its fields
