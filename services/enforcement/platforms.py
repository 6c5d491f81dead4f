"""Asks the registry of this platform which platforms there are."""

from collections.abc import Callable
from typing import Final

import grpc
import structlog

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_client import call_timeout_seconds, service_error
from services.enforcement.audience import RegisteredPlatform
from zhichao.registry.v1 import service_pb2, service_pb2_grpc

CALL_SECONDS_MAX: Final = 5.0
"""A page takes milliseconds; who issues a directive waits for it."""

PAGE_SIZE: Final = 1_000
"""The most that the registry answers at once."""

PLATFORMS_MAX: Final = 10_000
"""Registrations that are looked at: each platform is registered by itself, by the one above it and by the province."""

RETRY_SECONDS: Final = 2.0
"""What a caller is told to wait for a registry that is away."""

_log = structlog.get_logger()


class PlatformRegister:
    """The platforms that the registry knows, its own and those that platforms below have registered."""

    def __init__(self, open_registry: Callable[[], grpc.Channel]) -> None:
        self._open_registry = open_registry

    def read(self) -> list[RegisteredPlatform]:
        """Return all registrations. Raises ServiceError SERVICE_UNAVAILABLE when the registry cannot be asked."""
        try:
            with self._open_registry() as channel:
                return self._read(service_pb2_grpc.RegistryServiceStub(channel))
        except grpc.RpcError as error:
            cause = service_error(error)
            _log.warning("platforms_not_read", reason=cause.reason.value)
            raise ServiceError(
                Reason.SERVICE_UNAVAILABLE,
                "the registry cannot be asked which platforms there are: nothing was issued, try again",
                message_zh="登记服务暂不可用，无法确定下发对象，未下发，请稍后重试",
                metadata={"service": "registry"},
                retry_after_seconds=RETRY_SECONDS,
            ) from error

    def _read(self, stub: service_pb2_grpc.RegistryServiceStub) -> list[RegisteredPlatform]:
        found: list[RegisteredPlatform] = []
        token = ""
        while True:
            request = service_pb2.ListPlatformsRequest(page_size=PAGE_SIZE, page_token=token)
            answer = stub.ListPlatforms(request, timeout=call_timeout_seconds(CALL_SECONDS_MAX))
            found += [
                RegisteredPlatform(one.platform_code, one.info.origin, one.valid_from, one.valid_until)
                for one in answer.platforms
            ]
            token = answer.next_page_token
            if not token:
                return found
            if len(found) >= PLATFORMS_MAX:
                raise ServiceError(
                    Reason.BATCH_TOO_LARGE,
                    f"the registry holds more than {PLATFORMS_MAX} registrations of platforms, too many to address",
                    metadata={"limit": str(PLATFORMS_MAX), "actual": str(len(found) + 1)},
                )
