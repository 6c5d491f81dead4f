"""A refusal arrives at the client as it left the handler, whatever kind of call it was and whenever it came."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.reasons import SPECS, Reason
from services.common.rpc_client import MESSAGE_BYTES_MAX, service_error
from services.common.rpc_status import DETAIL_BYTES_MAX, FIELD_VIOLATIONS_MAX, from_status, to_status
from tests.common.conftest import Events
from tests.common.served import WAIT_SECONDS, Requests, Served, refused

Serve = Callable[..., Served]

FULL = ServiceError(
    Reason.SEQUENCE_GAP,
    "entries start at 9, but 5 is expected",
    message_zh="应从 5 开始",
    metadata={"origin": "141025", "expected_sequence": "5"},
    retry_after_seconds=1.5,
)


def parts(error: ServiceError) -> dict[str, Any]:
    return vars(error) | {"metadata": dict(error.metadata)}


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_round_trips(serve: Serve, reason: Reason) -> None:
    sent = ServiceError(
        reason, f"because of {reason}", message_zh="因为", metadata={"limit": "5"}, retry_after_seconds=2
    )

    def once(_request: bytes, _context: object) -> bytes:
        raise sent

    failure = refused(serve(once=once).once)

    assert failure.code() == grpc.StatusCode[SPECS[reason].status]
    assert failure.details() == f"because of {reason}"
    assert parts(service_error(failure)) == parts(sent)


def test_every_bad_field_round_trips(serve: Serve) -> None:
    sent = invalid([FieldViolation("record.axles[2].weight_kg", "is -1"), FieldViolation("record.id", "is empty")])

    def once(_request: bytes, _context: object) -> bytes:
        raise sent

    assert parts(service_error(refused(serve(once=once).once))) == parts(sent)


def test_details_have_the_request_id(serve: Serve) -> None:
    def once(_request: bytes, _context: object) -> bytes:
        raise FULL

    served = serve(once=once)
    failure = refused(lambda: served.once(metadata=[("x-request-id", "abc-1")]))

    found = error_details_pb2.RequestInfo()
    assert any(detail.Unpack(found) for detail in rpc_status.from_call(failure).details)
    assert found.request_id == "abc-1"


def test_many_bad_fields_are_cut_to_what_a_client_accepts(serve: Serve) -> None:
    def once(_request: bytes, _context: object) -> bytes:
        raise invalid([FieldViolation(f"records[{n}].字段", "描述" * 200) for n in range(5000)])

    failure = refused(serve(once=once).once)

    read = service_error(failure)
    assert read.reason == Reason.INVALID_ARGUMENT
    assert 0 < len(read.field_violations) <= FIELD_VIOLATIONS_MAX


@pytest.mark.parametrize("length", [0, 100, 10_000])
def test_details_stay_below_the_limit(length: int) -> None:
    error = ServiceError(
        Reason.INVALID_ARGUMENT,
        "x" * length,
        message_zh="长" * length,
        metadata={"resource_id": "y" * min(length, 128)},
        field_violations=[FieldViolation("f" * 50, "d" * length)] * 30,
    )

    status = to_status(error, "r" * 64)

    assert status.ByteSize() <= DETAIL_BYTES_MAX
    assert from_status(status).reason == Reason.INVALID_ARGUMENT


def test_fault_tells_the_caller_only_the_request_id(serve: Serve, events: Events) -> None:
    def once(_request: bytes, _context: object) -> bytes:
        raise KeyError("plate 晋A and a password")

    served = serve(once=once)
    failure = refused(lambda: served.once(metadata=[("x-request-id", "abc-2")]))

    error = service_error(failure)
    assert (error.reason, dict(error.metadata)) == (Reason.INTERNAL, {"request_id": "abc-2"})
    assert "password" not in str(failure)
    (line,) = events.finished()
    assert (line["status"], line["request_id"], line["log_level"]) == ("INTERNAL", "abc-2", "error")
    assert isinstance(line["exc_info"], KeyError)


def test_refusal_before_the_first_answer_of_a_stream(serve: Serve) -> None:
    def spread(_request: bytes, _context: object) -> Iterator[bytes]:
        raise FULL

    served = serve(spread=spread)

    assert parts(service_error(refused(lambda: list(served.spread())))) == parts(FULL)


def test_refusal_in_mid_stream(serve: Serve, events: Events) -> None:
    def spread(_request: bytes, _context: object) -> Iterator[bytes]:
        yield b"1"
        yield b"2"
        raise FULL

    served = serve(spread=spread)
    answers = served.spread()

    assert [next(answers), next(answers)] == [b"1", b"2"]
    assert parts(service_error(refused(lambda: next(answers)))) == parts(FULL)
    (line,) = events.finished()
    assert (line["status"], line["reason"], line["messages_in"], line["messages_out"]) == (
        "OUT_OF_RANGE",
        "SEQUENCE_GAP",
        1,
        2,
    )


def test_fault_in_mid_stream(serve: Serve, events: Events) -> None:
    def exchange(requests: Iterator[bytes], _context: object) -> Iterator[bytes]:
        for request in requests:
            yield request
            raise ZeroDivisionError("secret")

    served = serve(exchange=exchange)
    answers = served.exchange(Requests(b"1"))

    assert next(answers) == b"1"
    error = service_error(refused(lambda: next(answers)))
    assert error.reason == Reason.INTERNAL
    assert "secret" not in error.message
    assert isinstance(events.finished()[0]["exc_info"], ZeroDivisionError)


def test_refusal_of_a_client_stream(serve: Serve) -> None:
    def gather(requests: Iterator[bytes], _context: object) -> bytes:
        next(requests)
        raise FULL

    served = serve(gather=gather)

    assert parts(service_error(refused(lambda: served.gather(iter([b"1", b"2"]))))) == parts(FULL)


def test_handler_that_yields_nothing_usable(serve: Serve) -> None:
    def spread(_request: bytes, _context: object) -> Iterator[Any]:
        yield None

    served = serve(spread=spread)

    assert service_error(refused(lambda: list(served.spread()))).reason == Reason.INTERNAL


def test_clean_up_of_a_stream_runs_before_its_end(serve: Serve) -> None:
    steps = []

    def spread(_request: bytes, _context: object) -> Iterator[bytes]:
        try:
            yield b"1"
            raise FULL
        finally:
            steps.append("cleaned")

    served = serve(spread=spread)
    refused(lambda: list(served.spread()))

    assert steps == ["cleaned"]


def test_handler_that_ends_the_call_itself(serve: Serve, events: Events) -> None:
    def once(_request: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        return b""

    failure = refused(serve(once=once).once)

    assert (failure.code(), failure.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing")
    assert [line["status"] for line in events.finished()] == ["NOT_FOUND"]


# Without a reason from the server


def test_unknown_method(serve: Serve, events: Events) -> None:
    served = serve()

    failure = refused(lambda: served.call_unary("Absent"))

    assert service_error(failure).reason == Reason.INCOMPATIBLE_VERSION
    assert events.finished()[0]["status"] == "UNIMPLEMENTED"


def test_no_server(serve: Serve) -> None:
    served = serve()
    served.server.stop(0)

    error = service_error(refused(served.once))

    assert (error.reason, error.is_retryable) == (Reason.SERVICE_UNAVAILABLE, True)


def test_own_timeout(serve: Serve) -> None:
    def once(_request: bytes, _context: object) -> bytes:
        ended.wait(WAIT_SECONDS)
        return b""

    ended = threading.Event()
    served = serve(once=once)
    error = service_error(refused(lambda: served.once(timeout=0.05)))
    ended.set()

    assert error.reason == Reason.DEADLINE_EXCEEDED


def test_message_over_the_limit_is_not_worth_a_retry(serve: Serve) -> None:
    served = serve(once=lambda request, _context: request)

    error = service_error(refused(lambda: served.once(bytes(MESSAGE_BYTES_MAX + 1))))

    assert (error.reason, error.is_retryable) == (Reason.ENTRY_TOO_LARGE, False)


def test_message_at_the_limit_passes(serve: Serve) -> None:
    served = serve(once=lambda request, _context: request)

    assert len(served.once(bytes(MESSAGE_BYTES_MAX))) == MESSAGE_BYTES_MAX


@pytest.mark.parametrize(
    ("code", "message", "reason"),
    [
        (code_pb2.NOT_FOUND, "", Reason.NOT_FOUND),
        (code_pb2.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!", Reason.TOO_MANY_REQUESTS),
        (code_pb2.INTERNAL, "Received RST_STREAM with error code 2", Reason.SERVICE_UNAVAILABLE),
        (code_pb2.UNKNOWN, "Stream removed", Reason.SERVICE_UNAVAILABLE),
        (code_pb2.DEADLINE_EXCEEDED, "Stream removed (Deadline Exceeded)", Reason.DEADLINE_EXCEEDED),
        (code_pb2.UNKNOWN, "", Reason.INTERNAL),
        (code_pb2.UNAUTHENTICATED, "", Reason.INTERNAL),
        (99, "", Reason.INTERNAL),
    ],
)
def test_status_without_a_reason(code: int, message: str, reason: Reason) -> None:
    assert from_status(status_pb2.Status(code=code, message=message)).reason == reason


@pytest.mark.parametrize("info", [("NOT_YET_INVENTED", "zhichao"), ("NOT_FOUND", "other.example")])
def test_reason_of_a_newer_or_foreign_peer(info: tuple[str, str]) -> None:
    status = status_pb2.Status(code=code_pb2.ABORTED, message="m")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=info[0], domain=info[1], metadata={"a": "b"}))

    error = from_status(status)

    assert (error.reason, error.message, dict(error.metadata)) == (Reason.ETAG_MISMATCH, "m", {"a": "b"})


def test_details_that_do_not_parse() -> None:
    status = status_pb2.Status(code=code_pb2.ABORTED, message="m")
    status.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")

    assert from_status(status).reason == Reason.ETAG_MISMATCH


class ReplacedOnTheWay(grpc.RpcError):
    """A call whose status a proxy has replaced while it left the details."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "upstream connect error"

    def trailing_metadata(self) -> tuple[Any, ...]:
        return (("grpc-status-details-bin", to_status(FULL).SerializeToString()),)


def test_status_that_was_replaced_on_the_way() -> None:
    error = service_error(ReplacedOnTheWay())

    assert (error.reason, error.message) == (Reason.SERVICE_UNAVAILABLE, "upstream connect error")


def test_error_that_is_no_call() -> None:
    assert service_error(grpc.RpcError()).reason == Reason.SERVICE_UNAVAILABLE
