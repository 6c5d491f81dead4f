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
from services.common.rpc_renewal import RenewedChannel
from services.common.rpc_status import from_rpc_error
from services.common.tls import ClientTls
from services.common.tracing import TRACEPARENT_METADATA

__all__ = ["MESSAGE_BYTES_MAX", "call_timeout_seconds", "connect", "service_error", "with_credentials"]


def connect(
    address: str,
    *,
    tls: ClientTls | None = None,
    credentials: Callable[[], Sequence[tuple[str, str]]] | None = None,
    options: Sequence[tuple[str, str | int]] = (),
) -> grpc.Channel:
    """Open a channel to `host:port` or `unix:/path`; it connects when it is first used and again after a failure.

    It speaks TLS with `tls`, whose renewed certificates the next call uses, and plain text without. The channel never
    repeats a call by itself: the caller knows what may be repeated. The id of the call being served goes along.
    `credentials` makes metadata that every call carries besides its own, such as a token; it is asked for each call.
    `options` are gRPC channel arguments that are added or replace ours. The caller closes the channel.
    """
    merged = dict(CLIENT_OPTIONS) | dict(options)
    channel = (
        grpc.insecure_channel(address, options=list(merged.items()))
        if tls is None
        else RenewedChannel(address, tls, list(merged.items()))
    )
    return grpc.intercept_channel(channel, _MetadataInterceptor(credentials))


def with_credentials(channel: grpc.Channel, credentials: Callable[[], Sequence[tuple[str, str]]]) -> grpc.Channel:
    """Return the channel for calls of somebody: many callers may share one connection."""
    return grpc.intercept_channel(channel, _MetadataInterceptor(credentials))


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


class _MetadataInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Puts the id of the call being served, and who calls, on the calls that it leads to."""

    def __init__(self, credentials: Callable[[], Sequence[tuple[str, str]]] | None) -> None:
        self._credentials = credentials

    def intercept_unary_unary(
        self, continuation: _Continue, client_call_details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        return continuation(self._details(client_call_details), request)

    def intercept_unary_stream(
        self, continuation: _Continue, client_call_details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        return continuation(self._details(client_call_details), request)

    def intercept_stream_unary(
        self,
        continuation: Callable[..., Any],
        client_call_details: grpc.ClientCallDetails,
        request_iterator: Iterator[Any],
    ) -> Any:
        return continuation(self._details(client_call_details), request_iterator)

    def intercept_stream_stream(
        self,
        continuation: Callable[..., Any],
        client_call_details: grpc.ClientCallDetails,
        request_iterator: Iterator[Any],
    ) -> Any:
        return continuation(self._details(client_call_details), request_iterator)

    def _details(self, details: grpc.ClientCallDetails) -> Any:
        metadata = list(details.metadata or ())
        given = {key for key, _ in metadata}
        context = request_context()
        if context.request_id and REQUEST_ID_METADATA not in given:
            metadata.append((REQUEST_ID_METADATA, context.request_id))
        if context.trace is not None and TRACEPARENT_METADATA not in given:
            metadata.append((TRACEPARENT_METADATA, context.trace.traceparent))
        if self._credentials is not None:
            metadata += [pair for pair in self._credentials() if pair[0] not in given]
        return _CallDetails(
            details.method,
            details.timeout,
            metadata,
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )
