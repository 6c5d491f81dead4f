"""What callers name and ask lists for: read from the messages of the contract, with everything that is wrong."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from google.protobuf.message import Message

from services.common.access.readable import readable_origin
from services.common.forms import bad_fields, described
from services.common.instants import moment
from services.common.request import request_context
from services.video import answers, forms
from services.video.domain import BytesState, EvidenceKind, Name, Subject, SubjectKind
from services.video.forms import Violation
from services.video.store.reading import EvidenceFilter
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb

CHOICES_MAX: Final = 16
"""Kinds or states in one filter: there are fewer than that of either."""


def evidence_name(name: evidence_pb2.EvidenceName, own: str, field: str = "name") -> tuple[Name, list[Violation]]:
    """Read the name of evidence; without an origin it is this platform's."""
    checked = [
        ("origin", forms.division_code(name.origin) if name.origin else ""),
        ("source_unit_id", forms.source_unit_id(name.source_unit_id)),
        ("evidence_id", forms.evidence_id(name.evidence_id)),
    ]
    named = Name(name.origin or own, name.source_unit_id, name.evidence_id)
    return named, described((f"{field}.{part}", description) for part, description in checked)


def readable_name(message: evidence_pb2.EvidenceName, own: str, others: Iterable[Violation] = ()) -> Name:
    """Read the name of evidence that the caller may look at; `others` are refused with what is wrong with it.

    Raises ServiceError INVALID_ARGUMENT, OUTSIDE_SCOPE.
    """
    name, violations = evidence_name(message, own)
    if violations := [*violations, *others]:
        raise bad_fields(violations)
    readable_origin(request_context().principal, own, name.origin, "name.origin")
    return name


def evidence_filter(narrow: pb.EvidenceFilter) -> tuple[EvidenceFilter, list[Violation]]:
    """Read what a list is asked for."""
    start_time, start_description = optional_time(narrow, "start_time")
    end_time, end_description = optional_time(narrow, "end_time")
    has_two_subjects = bool(narrow.record_id and narrow.acceptance_id)
    needs_unit = "is only unique within a source unit: name source_unit_id, too" if not narrow.source_unit_id else ""
    checked = [
        ("origin", forms.division_code(narrow.origin) if narrow.origin else ""),
        ("source_unit_id", forms.source_unit_id(narrow.source_unit_id) if narrow.source_unit_id else ""),
        ("record_id", (forms.record_id(narrow.record_id) or needs_unit) if narrow.record_id else ""),
        ("acceptance_id", (forms.record_id(narrow.acceptance_id) or needs_unit) if narrow.acceptance_id else ""),
        ("acceptance_id", "cannot be asked for together with record_id" if has_two_subjects else ""),
        ("camera_id", forms.camera_id(narrow.camera_id)),
        ("start_time", start_description),
        ("end_time", end_description),
        ("kinds", _choices(narrow.kinds, EvidenceKind)),
        ("bytes_states", _choices(narrow.bytes_states, BytesState)),
        ("is_held", "" if not narrow.is_held or answers.sees_holds() else "is not for callers bound to source units"),
    ]
    subject = None
    if narrow.record_id:
        subject = Subject(SubjectKind.RECORD, narrow.record_id)
    elif narrow.acceptance_id:
        subject = Subject(SubjectKind.ACCEPTANCE, narrow.acceptance_id)
    read = EvidenceFilter(
        narrow.origin,
        narrow.source_unit_id,
        subject,
        narrow.camera_id,
        start_time,
        end_time,
        tuple(sorted(set(narrow.kinds))),
        tuple(sorted(set(narrow.bytes_states))),
        narrow.is_held,
    )
    return read, described((f"filter.{field}", description) for field, description in checked)


def optional_time(message: Message, field: str) -> tuple[datetime | None, str]:
    """Read a time that may be absent, and what is wrong with one that is none."""
    if not message.HasField(field):
        return None, ""
    try:
        return moment(getattr(message, field)), ""
    except ValueError as error:
        return None, str(error)


def _choices(chosen: Iterable[int], known: type[EvidenceKind] | type[BytesState]) -> str:
    values = list(chosen)
    if len(values) > CHOICES_MAX:
        return f"has {len(values)} values, but takes at most {CHOICES_MAX}"
    bad = next((value for value in values if value not in set(known)), None)
    return "" if bad is None else f"holds {bad}, but takes {', '.join(f'{one.value} ({one.name})' for one in known)}"
