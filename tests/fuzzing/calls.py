"""Makes calls with bytes instead of messages, of all four kinds, and says how they ended."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.common.rpc_limits import CLIENT_OPTIONS
from services.common.tls import Tls, channel_credentials
from tests.fuzzing.methods import Rpc

UNARY_SECONDS: Final = 20.0
"""A call that is answered with one message takes milliseconds; a machine with busy cores takes its time."""

STREAM_SECONDS: Final = 0.3
"""Streams that wait for news are left after this."""

ANSWERS_MAX: Final = 20
"""Answers that are taken of one stream."""

# Nothing is too large for the fuzzer to send: the server has to say so.
OPTIONS: Final = [(key, value) for key, value in CLIENT_OPTIONS.items() if "message_length" not in key] + [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_metadata_size", 64 * 1024),
]

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True)
class Manner:
    """How a call is made, besides what it sends. `messages` is another number of them than the method takes.

    `is_odd_caller`: what is shown is not what the caller was given.
    """

    metadata: Metadata
    compression: grpc.Compression | None = None
    timeout_seconds: float | None = None
    messages: int | None = None
    is_odd_caller: bool = False

    @property
    def metadata_bytes(self) -> int:
        """How much metadata goes along, about."""
        return sum(len(key) + len(value) for key, value in self.metadata)


@dataclass
class Outcome:
    """How a call ended. `reason` is that of the ErrorInfo; empty without one."""

    status: str = "OK"
    message: str = ""
    reason: str = ""
    domain: str = ""
    details: bytes = b""
    answers: list[bytes] = field(default_factory=list)
    # Whether it was left by the fuzzer, after enough answers or enough time.
    was_left: bool = False

    def __str__(self) -> str:
        return f"{self.status} {self.reason or 'without a reason'}: {self.message[:300]}"


def open_channel(address: str, tls: Tls | None = None) -> grpc.Channel:
    """Open a connection of the fuzzer; whoever opens it closes it."""
    if tls is None:
        return grpc.insecure_channel(address, OPTIONS)
    return grpc.secure_channel(address, channel_credentials(tls.current()), OPTIONS)


def call(channel: grpc.Channel, rpc: Rpc, contents: Sequence[bytes], manner: Manner) -> Outcome:
    """Call with these messages, of which only streams take another number than one."""
    outcome = Outcome()
    if manner.messages is not None:
        contents = [*contents, *contents, b""][: manner.messages]
    sends_stream = rpc.reads_stream or manner.messages is not None
    request: Any = iter(contents) if sends_stream else contents[0]
    options: dict[str, Any] = {"metadata": manner.metadata, "compression": manner.compression}
    try:
        if rpc.answers_stream:
            made: Any = channel.stream_stream if sends_stream else channel.unary_stream
            # What gRPC raises is also the call; its types do not say so.
            under_way: Any = made(rpc.path)(request, timeout=manner.timeout_seconds or STREAM_SECONDS, **options)
            for answer in under_way:
                outcome.answers.append(answer)
                if len(outcome.answers) >= ANSWERS_MAX:
                    outcome.was_left = True
                    under_way.cancel()
                    break
        else:
            once: Any = channel.stream_unary if sends_stream else channel.unary_unary
            timeout = manner.timeout_seconds or UNARY_SECONDS
            outcome.answers.append(once(rpc.path)(request, timeout=timeout, **options))
    except grpc.RpcError as error:
        _read_end(outcome, error)
        was_in_a_hurry = rpc.answers_stream or manner.timeout_seconds is not None
        outcome.was_left = was_in_a_hurry and outcome.status == "DEADLINE_EXCEEDED"
    return outcome


def _read_end(outcome: Outcome, error: Any) -> None:
    outcome.status = error.code().name
    outcome.message = error.details() or ""
    try:
        rich = rpc_status.from_call(error)
    except (ValueError, DecodeError) as fault:
        outcome.message += f" (its details do not fit: {fault})"
        return
    if rich is not None:
        _read_details(outcome, rich)


def _read_details(outcome: Outcome, rich: status_pb2.Status) -> None:
    outcome.details = rich.SerializeToString()
    for packed in rich.details:
        info = error_details_pb2.ErrorInfo()
        if packed.Unpack(info):
            outcome.reason, outcome.domain = info.reason, info.domain
