"""A refusal as a message: what an item of a batch or of a stream carries instead of a failed call."""

from typing import Final

from services.common.errors import ServiceError
from services.common.rpc_status import status_number
from zhichao.common.v1 import refusal_pb2

_PREFIX: Final = "ERROR_REASON_"


def reason_name(number: int) -> str:
    """Return the name of a reason that came in a message; `REASON_<number>` for one of a newer release."""
    if number not in refusal_pb2.ErrorReason.values():
        return f"REASON_{number}"
    return refusal_pb2.ErrorReason.Name(number).removeprefix(_PREFIX)  # type: ignore[arg-type]  # is one of its values


def refusal(error: ServiceError) -> refusal_pb2.Refusal:
    """Return a refusal as an item carries it."""
    return refusal_pb2.Refusal(
        code=status_number(error.status),
        reason=refusal_pb2.ErrorReason.Value(f"{_PREFIX}{error.reason.value}"),
        message=error.message,
        message_zh=error.message_zh,
        metadata=dict(error.metadata),
        field_violations=[
            refusal_pb2.FieldViolation(field=one.field, description=one.description) for one in error.field_violations
        ],
    )
