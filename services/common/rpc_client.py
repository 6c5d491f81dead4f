"""Channels to other services: the same limits as the server's, links that are watched, the request id passed on."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import grpc

from services.common.errors import ServiceError
from services.common.request import request_context
from services.common.rpc_limits import (
    CLIENT_OPTIONS,
    MESSAGE_BYTES_MAX,
    REQUEST_ID_METADATA,
)
from services.common.rpc_status import from_rpc_error

__all__ = ["MESSAGE_BYTES_MAX", "call_timeout_seconds", "connect", "service_error"]


def connect(address: str, *, options: Sequence[tuple[str, str | int]] = ()) -> grpc.Channel:
    """Open a channel to `host:port` or `unix:/path`; it connects when it is first used and again after a failure.

    The channel never repeats a call by itself: the caller knows what may be repeated. The id of the call being served
    goes along. `options` are gRPC channel arguments that are added or replace ours. The caller closes the channel.
    """
    merged = dict(CLIENT_OPTIONS) | dict(options)
    channel = grpc.insecure_channel(address, options=list(merged.items()))
    return grpc.intercept_channel(channel, _RequestIdInterceptor())


def service_error(error: grpc.RpcError) -> ServiceError:
    """Read the refusal that a call ended with.

    Without a reason from the server it is the nearest one of the catalogue: SERVICE_UNAVAILABLE for a connection that
    failed, DEADLINE_EXCEEDED for our own timeout, INCOMPATIBLE_VERSION for a method that the peer does not have.
    """
    return from_rpc_error(error)


def call_timeout_seconds(seconds_max: float) -> float:
    """Return the timeout for a call made while serving one: `seconds_max`, or less if the caller waits less."""
    remaining = request_context().seconds_remaining()
    return seconds_max if remaining is None else min(seconds_max, remaining)


_Continue = Callable[..., Any]


class _CallDetails(NamedTuple):
    method: str
    timeout: float | None
    metadata: Sequence[tuple[str, str | bytes]] | None
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _RequestIdInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Puts the id of the call being served on the calls that it leads to."""

    def intercept_unary_unary(
        self, continuation: _Continue, client_call_details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        return continuation(_with_request_id(client_call_details), request)

    def intercept_unary_stream(
        self, continuation: _Continue, client_call_details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        return continuation(_with_request_id(client_call_details), request)

    def intercept_stream_unary(
        self,
        continuation: Callable[..., Any],
        client_call_details: grpc.ClientCallDetails,
        request_iterator: Iterator[Any],
    ) -> Any:
        return continuation(_with_request_id(client_call_details), request_iterator)

    def intercept_stream_stream(
        self,
        continuation: Callable[..., Any],
        client_call_details: grpc.ClientCallDetails,
        request_iterator: Iterator[Any],
    ) -> Any:
        return continuation(_with_request_id(client_call_details), request_iterator)


def _with_request_id(details: grpc.ClientCallDetails) -> Any:
    request_id = request_context().request_id
    if not request_id or any(key == REQUEST_ID_METADATA for key, _ in details.metadata or ()):
        return details
    return _CallDetails(
        details.method,
        details.timeout,
        (*(details.metadata or ()), (REQUEST_ID_METADATA, request_id)),
        details.credentials,
        details.wait_for_ready,
        details.compression,
    )
