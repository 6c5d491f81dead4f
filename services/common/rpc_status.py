"""ServiceError to and from `google.rpc.Status`, the one place where both meet. The details are ErrorInfo, BadRequest,
RetryInfo, LocalizedMessage (zh-CN) and RequestInfo, as AIP-193 asks.
"""

from typing import Any, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as PackedAny
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.common.errors import FieldViolation, ServiceError
from services.common.reasons import Reason

ERROR_DOMAIN = "zhichao"
LOCALE_ZH = "zh-CN"

# A status travels in trailing metadata, of which a client takes 8 KiB unless told otherwise (grpc.max_metadata_size),
# the message twice and percent-encoded, the details as base64. What is over is cut, never the call.
MESSAGE_CHARACTERS_MAX = 800
DETAIL_BYTES_MAX = 3072
FIELD_VIOLATIONS_MAX = 20

# What is left to do when a peer ends a call without naming a reason: it is older, newer, a proxy, or gRPC itself.
_REASON_BY_STATUS = {
    "INVALID_ARGUMENT": Reason.INVALID_ARGUMENT,
    "NOT_FOUND": Reason.NOT_FOUND,
    "ALREADY_EXISTS": Reason.RESOURCE_EXISTS,
    "ABORTED": Reason.ETAG_MISMATCH,
    "FAILED_PRECONDITION": Reason.NOT_CONFIGURED,
    "OUT_OF_RANGE": Reason.BEYOND_LOG,
    "DATA_LOSS": Reason.HISTORY_MISMATCH,
    "PERMISSION_DENIED": Reason.ORIGIN_NOT_ALLOWED,
    "RESOURCE_EXHAUSTED": Reason.TOO_MANY_REQUESTS,
    "DEADLINE_EXCEEDED": Reason.DEADLINE_EXCEEDED,
    "UNIMPLEMENTED": Reason.INCOMPATIBLE_VERSION,
    "UNAVAILABLE": Reason.SERVICE_UNAVAILABLE,
    # We did not cancel, or we would not ask: the other side dropped the call.
    "CANCELLED": Reason.SERVICE_UNAVAILABLE,
}
# How gRPC words a reset of the connection or stream that it reports as INTERNAL or UNKNOWN.
_RESET_STATUSES = ("INTERNAL", "UNKNOWN")
_RESETS = ("RST_STREAM", "Stream removed", "Connection reset", "GOAWAY")
# How gRPC words a message over the receiver's limit, which it reports as RESOURCE_EXHAUSTED though no wait helps.
_TOO_LARGE = "larger than max"

_Detail = TypeVar("_Detail", bound=Message)


def status_number(name: str) -> int:
    """Return the number of a gRPC status (google.rpc.Code) by its name."""
    number: int = grpc.StatusCode[name].value[0]
    return number


def to_status(error: ServiceError, request_id: str = "") -> status_pb2.Status:
    """Make the rich status of a refusal; it always fits into the metadata that any client accepts."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=dict(error.metadata))
    zh = error_details_pb2.LocalizedMessage(
        locale=LOCALE_ZH, message=_cut(error.message_zh, MESSAGE_CHARACTERS_MAX // 4)
    )
    details: list[Message] = [info]
    if error.retry_after_seconds is not None:
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after_seconds * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if request_id:
        details.append(error_details_pb2.RequestInfo(request_id=request_id))
    details.append(zh)
    if error.field_violations:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=v.field, description=_cut(v.description, 200))
                    for v in error.field_violations[:FIELD_VIOLATIONS_MAX]
                ]
            )
        )
    status = status_pb2.Status(
        code=code_pb2.Code.Value(error.status), message=_cut(error.message, MESSAGE_CHARACTERS_MAX)
    )
    for detail in details:
        packed = PackedAny()
        packed.Pack(detail)
        # The first details matter most; a long list of bad fields gives way.
        if status.ByteSize() + packed.ByteSize() <= DETAIL_BYTES_MAX:
            status.details.append(packed)
        elif isinstance(detail, error_details_pb2.BadRequest):
            _append_shortened(status, detail)
    return status


def to_grpc_status(error: ServiceError, request_id: str = "") -> grpc.Status:
    """Make what a gRPC server ends the call with."""
    return rpc_status.to_status(to_status(error, request_id))


def from_status(status: status_pb2.Status) -> ServiceError:
    """Read a refusal back. A reason that is not in this catalogue, from a newer peer, becomes the nearest by status."""
    info = _find(status, error_details_pb2.ErrorInfo())
    reason = _known(info.reason) if info is not None and info.domain == ERROR_DOMAIN else None
    if reason is None:
        name = code_pb2.Code.Name(status.code) if status.code in code_pb2.Code.values() else "UNKNOWN"
        reason = _reason_without_info(name, status.message)
    localized = _find(status, error_details_pb2.LocalizedMessage())
    bad_request = _find(status, error_details_pb2.BadRequest())
    retry = _find(status, error_details_pb2.RetryInfo())
    return ServiceError(
        reason,
        status.message or "the server gave no message",
        message_zh=localized.message if localized is not None and localized.locale == LOCALE_ZH else "",
        metadata=dict(info.metadata) if info is not None else None,
        field_violations=[FieldViolation(v.field, v.description) for v in bad_request.field_violations]
        if bad_request is not None
        else (),
        retry_after_seconds=retry.retry_delay.ToNanoseconds() / 1e9 if retry is not None else None,
    )


def from_rpc_error(error: grpc.RpcError) -> ServiceError:
    """Read what a call ended with: the refusal that the server sent, or the nearest one when the connection failed."""
    # Every error that gRPC raises is also the call that it ended; the types do not say so.
    call: Any = error
    if not callable(getattr(call, "code", None)) or call.code() is None:
        return ServiceError(Reason.SERVICE_UNAVAILABLE, f"the call failed: {type(error).__name__}")
    try:
        rich = rpc_status.from_call(call)
    except (ValueError, DecodeError):
        # Code or message differ from the details: something on the way replaced them. The code is what happened.
        rich = None
    if rich is None:
        rich = status_pb2.Status(code=code_pb2.Code.Value(call.code().name), message=call.details() or "")
    return from_status(rich)


def _reason_without_info(status_name: str, message: str) -> Reason:
    if status_name == "RESOURCE_EXHAUSTED" and _TOO_LARGE in message:
        return Reason.ENTRY_TOO_LARGE
    if status_name in _RESET_STATUSES and any(words in message for words in _RESETS):
        return Reason.SERVICE_UNAVAILABLE
    return _REASON_BY_STATUS.get(status_name, Reason.INTERNAL)


def _append_shortened(status: status_pb2.Status, bad_request: error_details_pb2.BadRequest) -> None:
    while len(bad_request.field_violations) > 1:
        del bad_request.field_violations[len(bad_request.field_violations) // 2 :]
        packed = PackedAny()
        packed.Pack(bad_request)
        if status.ByteSize() + packed.ByteSize() <= DETAIL_BYTES_MAX:
            status.details.append(packed)
            return


def _find(status: status_pb2.Status, detail: _Detail) -> _Detail | None:
    for packed in status.details:
        try:
            if packed.Unpack(detail):
                return detail
        except DecodeError:
            return None
    return None


def _known(name: str) -> Reason | None:
    try:
        return Reason(name)
    except ValueError:
        return None


def _cut(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"
