"""What evidence is: its name, what whoever uploads says about it, and what a draft must hold. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum
from typing import NamedTuple

from services.video import forms
from services.video.forms import Violation
from services.video.limits import (
    CAPTURE_AHEAD_SECONDS_MAX,
    CAPTURE_TIME_MIN_YEAR,
    CLIP_SECONDS_MAX,
    SIZE_BYTES_MAX,
    SUBJECTS_MAX,
)
from services.video.media_types import CONTENT_TYPES, JPEG, MP4, PDF, PNG


class EvidenceKind(IntEnum):
    """What a piece of evidence is, numbered as in the contract."""

    PHOTO = 1
    CLIP = 2
    DOCUMENT = 3


class CameraView(IntEnum):
    """Where a camera looks, numbered as in the contract."""

    ENTRANCE = 1
    FRONT = 2
    REAR = 3
    SIDE = 4
    SCALE = 5
    WEIGH_ROOM = 6
    EXIT = 7
    LOADING = 8


class BytesState(IntEnum):
    """Where the bytes of evidence are, numbered as in the contract."""

    HELD = 1
    BELOW = 2
    WANTED = 3
    DAMAGED = 4
    DELETED = 5
    GONE = 6


class SubjectKind(IntEnum):
    """What kind of thing evidence proves: the field of the contract's `Subject`."""

    RECORD = 1
    ACCEPTANCE = 2


class Name(NamedTuple):
    """Names a piece of evidence: the platform that sealed it, the source unit, the id within that."""

    origin: str
    source_unit_id: str
    evidence_id: str

    def __str__(self) -> str:
        """Write it as refusals and logs do."""
        return f"{self.origin}/{self.source_unit_id}/{self.evidence_id}"


class Subject(NamedTuple):
    """One thing that evidence proves."""

    kind: int
    subject_id: str


TYPES_OF_KIND = {
    EvidenceKind.PHOTO: frozenset({JPEG, PNG}),
    EvidenceKind.CLIP: frozenset({MP4}),
    # Certificates and slips come scanned as often as not.
    EvidenceKind.DOCUMENT: frozenset({PDF, JPEG, PNG}),
}
"""Media types that a piece of evidence of each kind may have."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What whoever uploads says about evidence. Enumerations are plain numbers: a caller may send any."""

    source_unit_id: str
    evidence_id: str
    kind: int
    digest: bytes
    size_bytes: int
    content_type: str
    view: int = 0
    camera_id: str = ""
    capture_start_time: datetime | None = None
    capture_end_time: datetime | None = None
    subjects: tuple[Subject, ...] = ()
    retention_class: str = ""

    def violations(self) -> Iterator[Violation]:
        """Yield every bad field but those that depend on the time or on the retention table."""
        for field, description in (
            ("source_unit_id", forms.source_unit_id(self.source_unit_id)),
            ("evidence_id", forms.evidence_id(self.evidence_id)),
            ("kind", _one_of(self.kind, EvidenceKind)),
            ("digest", forms.digest(self.digest)),
            ("size_bytes", self._size_violation()),
            ("content_type", self._type_violation()),
            ("view", _one_of(self.view, CameraView) if self.view else ""),
            ("camera_id", forms.camera_id(self.camera_id)),
            ("capture_start_time", self._start_violation()),
            ("capture_end_time", self._end_violation()),
        ):
            if description:
                yield Violation(field, description)
        yield from self._subject_violations()

    def canonical(self) -> "Draft":
        """Return the draft as it is compared: what it proves in one order, each once."""
        return replace(self, subjects=tuple(sorted(set(self.subjects))))

    def _size_violation(self) -> str:
        if 1 <= self.size_bytes <= SIZE_BYTES_MAX:
            return ""
        return f"is {self.size_bytes}, but evidence has 1 to {SIZE_BYTES_MAX} bytes"

    def _type_violation(self) -> str:
        if self.content_type not in CONTENT_TYPES:
            return f"is {forms.shown(self.content_type)}, but must be one of {', '.join(CONTENT_TYPES)}"
        if self.kind in TYPES_OF_KIND and self.content_type not in TYPES_OF_KIND[EvidenceKind(self.kind)]:
            taken = ", ".join(sorted(TYPES_OF_KIND[EvidenceKind(self.kind)]))
            return f"is {self.content_type}, but a {EvidenceKind(self.kind).name.lower()} is {taken}"
        return ""

    def _start_violation(self) -> str:
        if self.capture_start_time is None:
            return "" if self.kind not in (EvidenceKind.PHOTO, EvidenceKind.CLIP) else "is missing"
        if self.capture_start_time.year < CAPTURE_TIME_MIN_YEAR:
            return f"is {_shown(self.capture_start_time)}, before the year {CAPTURE_TIME_MIN_YEAR}: set the clock"
        return ""

    def _end_violation(self) -> str:
        if self.capture_end_time is None:
            return "is missing" if self.kind == EvidenceKind.CLIP else ""
        if self.kind in (EvidenceKind.PHOTO, EvidenceKind.DOCUMENT):
            return "is set, but only clips have an end"
        if self.capture_start_time is None:
            return ""
        if self.capture_end_time < self.capture_start_time:
            return f"is {_shown(self.capture_end_time)}, before the start {_shown(self.capture_start_time)}"
        if self.capture_end_time - self.capture_start_time > timedelta(seconds=CLIP_SECONDS_MAX):
            return f"is {_shown(self.capture_end_time)}, more than a day after the start"
        return ""

    def _subject_violations(self) -> Iterator[Violation]:
        if len(self.subjects) > SUBJECTS_MAX:
            yield Violation("subjects", f"has {len(self.subjects)} values, but takes at most {SUBJECTS_MAX}")
            return
        for place, subject in enumerate(self.subjects):
            if subject.kind not in set(SubjectKind):
                yield Violation(f"subjects[{place}]", "names neither a weighing nor an acceptance")
            elif description := forms.record_id(subject.subject_id):
                field = "record_id" if subject.kind == SubjectKind.RECORD else "acceptance_id"
                yield Violation(f"subjects[{place}].{field}", description)


def time_violations(draft: Draft, now: datetime) -> Iterator[Violation]:
    """Yield times of capture that lie too far ahead: what a clock that is wrong cannot explain."""
    limit = now + timedelta(seconds=CAPTURE_AHEAD_SECONDS_MAX)
    for field, moment in (
        ("capture_start_time", draft.capture_start_time),
        ("capture_end_time", draft.capture_end_time),
    ):
        if moment is not None and moment > limit:
            yield Violation(field, f"is {_shown(moment)}, more than a day ahead of {_shown(now)}: set the clock")


def _one_of(value: int, numbers: type[EvidenceKind] | type[CameraView]) -> str:
    if value in set(numbers):
        return ""
    return f"is {value}, but must be one of {', '.join(f'{one.value} ({one.name})' for one in numbers)}"


def _shown(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
