"""Refused attempts as access records: those of this service, and those that a service without a journal reports."""

from collections.abc import Sequence
from datetime import UTC
from typing import Final, Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from services.common.errors import FieldViolation, invalid
from services.common.refused_attempts import RefusedAttempts
from services.journal.entries import timestamp
from zhichao.common.v1 import refusal_pb2
from zhichao.journal.v1 import access_record_pb2 as pb

TEXT_CHARACTERS_MAX: Final = 256
"""Of what a report names: no principal, method or address is longer."""


class AttemptJournal(Protocol):
    """Keeps records."""

    def write(self, messages: Sequence[pb.AccessRecord]) -> None:
        """Write down records that are whole but for their places. Raises ServiceError."""
        ...


def record_of(attempts: RefusedAttempts) -> pb.AccessRecord:
    """Return attempts as a record that has no place yet."""
    claims = "certificate" if attempts.claimed.startswith("certificate:") else "credential_id"
    return pb.AccessRecord(
        principal=attempts.principal,
        method=attempts.method,
        subjects=[f"{claims}={attempts.claimed.removeprefix('certificate:')}"] if attempts.claimed else [],
        access_time=timestamp(attempts.last_time),
        peer_address=attempts.peer_address,
        refusal_reason=refusal_pb2.ErrorReason.Value(f"ERROR_REASON_{attempts.reason.value}"),
        attempt_count=attempts.count,
        first_attempt_time=timestamp(attempts.first_time),
    )


class AttemptHandlers:
    """Takes what a service without a journal has refused."""

    def __init__(self, journal: AttemptJournal) -> None:
        self._journal = journal

    def report(self, messages: Sequence[pb.AccessRecord]) -> None:
        """Write down the attempts. Raises ServiceError INVALID_ARGUMENT, or as the journal does."""
        violations = [violation for index, message in enumerate(messages) for violation in _violations(index, message)]
        if violations:
            raise invalid(violations)
        if messages:
            self._journal.write([_taken(message) for message in messages])


def _violations(index: int, message: pb.AccessRecord) -> list[FieldViolation]:
    at = f"refused_attempts[{index}]"
    found = []
    if message.refusal_reason not in refusal_pb2.ErrorReason.values() or not message.refusal_reason:
        found.append(FieldViolation(f"{at}.refusal_reason", "must be a reason of the catalogue"))
    if message.attempt_count < 1:
        found.append(FieldViolation(f"{at}.attempt_count", "must be at least 1"))
    for field in ("principal", "method", "peer_address"):
        text = getattr(message, field)
        if len(text) > TEXT_CHARACTERS_MAX or "\x00" in text:
            found.append(FieldViolation(f"{at}.{field}", f"must be a text of at most {TEXT_CHARACTERS_MAX} characters"))
    if len(message.subjects) > 1 or any(len(one) > TEXT_CHARACTERS_MAX for one in message.subjects):
        found.append(FieldViolation(f"{at}.subjects", "must name one credential or certificate at most"))
    times = {"access_time": message.access_time, "first_attempt_time": message.first_attempt_time}
    found += [
        FieldViolation(f"{at}.{field}", "must be a time after 1970")
        for field, value in times.items()
        if not _is_time(value)
    ]
    return found


def _is_time(value: Timestamp) -> bool:
    try:
        return value.ToDatetime(tzinfo=UTC).year > 1970
    except (ValueError, OverflowError):
        return False


def _taken(message: pb.AccessRecord) -> pb.AccessRecord:
    """Return only what a report may say: fields of a newer release, and those of answered calls, are left out."""
    return pb.AccessRecord(
        principal=message.principal,
        method=message.method,
        subjects=message.subjects,
        access_time=message.access_time,
        peer_address=message.peer_address,
        refusal_reason=message.refusal_reason,
        attempt_count=message.attempt_count,
        first_attempt_time=message.first_attempt_time,
    )
