"""The one exception with which a service refuses a call. It names its gRPC status as text: only the edge knows gRPC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from services.common.reasons import SPECS, Reason


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One bad field: its path from the top of the request, and what would be right."""

    field: str
    description: str


class ServiceError(Exception):
    """A refusal that the caller can act on.

    `message` is one English sentence that names the value and the remedy; it is sent to the caller, so it holds neither
    SQL nor secrets. `message_zh` is the same in Chinese; empty means the title of the reason. `retry_after_seconds` is
    set when the wait is known.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        message_zh: str = "",
        metadata: Mapping[str, str] | None = None,
        field_violations: Sequence[FieldViolation] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message
        self.message_zh = message_zh or SPECS[reason].title_zh
        self.metadata: Mapping[str, str] = MappingProxyType(dict(metadata or {}))
        self.field_violations = tuple(field_violations)
        self.retry_after_seconds = retry_after_seconds

    @property
    def status(self) -> str:
        """Name of the gRPC status, as the catalogue says."""
        return SPECS[self.reason].status

    @property
    def is_retryable(self) -> bool:
        """Whether the same call may succeed later without anybody doing anything else."""
        return SPECS[self.reason].is_retryable

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def invalid(violations: Sequence[FieldViolation]) -> ServiceError:
    """Make the refusal that names every bad field of a request at once (INVALID_ARGUMENT)."""
    if not violations:
        raise ValueError("a refusal for bad fields needs at least one of them")
    first = violations[0]
    others = len(violations) - 1
    message = f"{first.field}: {first.description}"
    message_zh = f"字段 {first.field} 不符合要求"
    if others:
        message += f" (and {others} more {'field' if others == 1 else 'fields'})"
        message_zh += f"（另有 {others} 个字段）"
    return ServiceError(Reason.INVALID_ARGUMENT, message, message_zh=message_zh, field_violations=violations)
