"""Puts the access of one service together. The service's `app` calls this and nothing else of the wiring."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import grpc

from services.common.access.control import AccessControl
from services.common.access.follower import AccessFollower, UseBook
from services.common.access.knowledge import AccessKnowledge
from services.common.access.tokens import ServiceTokens, TokenFileError
from services.common.clock import Clock
from services.common.rpc_client import connect
from services.common.settings import PlatformSettings, SettingsError
from services.common.tls import Transport

Metadata = Callable[[], tuple[tuple[str, str], ...]]


def service_tokens(platform: PlatformSettings) -> ServiceTokens:
    """Return the secrets of the platform's services. Raises SettingsError when there are none."""
    if platform.service_token_file is None:
        raise SettingsError(
            "ZHICHAO_SERVICE_TOKEN_FILE is not set: the services of a platform know each other by a secret of 43 "
            "characters in a file that all of them read; `zhichao up` makes one"
        )
    try:
        return ServiceTokens(platform.service_token_file)
    except TokenFileError as error:
        raise SettingsError(f"ZHICHAO_SERVICE_TOKEN_FILE: {error}") from error


def registry_opener(platform: PlatformSettings, address: str, service: str) -> Callable[[], grpc.Channel]:
    """Return what opens a channel from a service of the platform to its registry. Raises SettingsError."""
    setting = f"ZHICHAO_{service.upper()}_REGISTRY_ADDRESS"
    tls = Transport.of(platform).for_address(address, setting)
    credentials = service_tokens(platform).metadata(service)
    return lambda: connect(address, tls=tls, credentials=credentials)


class AppAccess(Protocol):
    """What an app needs of access: the control for its servers, and somebody who keeps it up to date."""

    @property
    def control(self) -> AccessControl:
        """What calls are held against."""
        ...

    def start(self) -> None:
        """Start to learn."""
        ...

    def stop(self) -> None:
        """Stop."""
        ...


@dataclass(frozen=True)
class ServiceAccess:
    """The access of a service that follows the registry: `start` and `stop` around its server."""

    control: AccessControl
    follower: AccessFollower

    @classmethod
    def build(
        cls,
        platform: PlatformSettings,
        tokens: ServiceTokens,
        open_registry: Callable[[], grpc.Channel],
        clock: Clock,
    ) -> Self:
        """Build the parts; nothing is started."""
        knowledge = AccessKnowledge(clock.monotonic)
        uses = UseBook(clock)
        control = AccessControl(
            platform.platform,
            knowledge,
            tokens,
            clock,
            stale_seconds=platform.credentials_stale_seconds,
            trust_domain=platform.trust_domain,
            on_use=uses.note,
        )
        return cls(control, AccessFollower(knowledge, uses, open_registry))

    def start(self) -> None:
        """Start to follow the registry."""
        self.follower.start()

    def stop(self) -> None:
        """Tell the last uses and stop."""
        self.follower.stop()
