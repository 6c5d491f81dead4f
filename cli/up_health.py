"""Ask services for their health over the standard gRPC health protocol, at their plain-text health ports."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2

# A service in the same machine answers within a millisecond unless it is busy starting.
CHECK_SECONDS_MAX = 1.0

# Called by name: the published type stubs of the generated client have no methods.
CHECK_METHOD = "/grpc.health.v1.Health/Check"

CHANNEL_OPTIONS = (
    # Ask again soon after a refused connection: the service is only just starting.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    # A proxy for the internet is none for loopback.
    ("grpc.enable_http_proxy", 0),
)


class HealthChecks:
    """Connections to the health ports of the services, by service name; a context manager that closes them."""

    def __init__(self, health_addresses: Mapping[str, str]) -> None:
        self._channels = {
            name: grpc.insecure_channel(address, options=CHANNEL_OPTIONS) for name, address in health_addresses.items()
        }

    def not_serving(self) -> list[str]:
        """Return the names of the services that do not say they serve."""
        return [name for name, channel in self._channels.items() if not _is_serving(channel)]

    def __enter__(self) -> Self:
        """Return the checks."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        for channel in self._channels.values():
            channel.close()


def _is_serving(channel: grpc.Channel) -> bool:
    check = channel.unary_unary(
        CHECK_METHOD,
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    try:
        answer = check(health_pb2.HealthCheckRequest(), timeout=CHECK_SECONDS_MAX)
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
