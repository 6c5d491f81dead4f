"""Puts the access of one service together. The service's `app` calls this and nothing else of the wiring."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import grpc

from services.common.access.control import AccessControl
from services.common.access.follower import AccessFollower
from services.common.access.keeping import StatementKeeper
from services.common.access.knowledge import AccessKnowledge
from services.common.access.tokens import ServiceTokens, TokenFileError
from services.common.access.uses import UseBook, UseReporter
from services.common.clock import Clock
from services.common.rpc_client import connect
from services.common.settings import PlatformSettings, SettingsError
from services.common.tls import Transport

if TYPE_CHECKING:
    # A service without a database does without what speaks to one.
    from services.common.access.store import AccessStore

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
    return service_opener(platform, address, service, "registry")


def service_opener(platform: PlatformSettings, address: str, service: str, other: str) -> Callable[[], grpc.Channel]:
    """Return what opens a channel from a service of the platform to another one of it. Raises SettingsError."""
    setting = f"ZHICHAO_{service.upper()}_{other.upper()}_ADDRESS"
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
    reporter: UseReporter
    keeper: StatementKeeper | None

    @classmethod
    def build(
        cls,
        platform: PlatformSettings,
        tokens: ServiceTokens,
        open_registry: Callable[[], grpc.Channel],
        clock: Clock,
        store: "AccessStore | None" = None,
    ) -> Self:
        """Build the parts; nothing is started. Without a `store` nothing is known at a start until the registry is
        there.
        """
        knowledge = AccessKnowledge(clock.monotonic)
        uses = UseBook(clock)
        stale_seconds = platform.credentials_stale_seconds
        control = AccessControl(
            platform.platform,
            knowledge,
            tokens,
            clock,
            stale_seconds=stale_seconds,
            trust_domain=platform.trust_domain,
            on_use=uses.note,
        )
        keeper = None
        if store is not None:
            keeper = StatementKeeper(store, platform.platform, tokens, clock, stale_seconds=stale_seconds)
        follower = AccessFollower(knowledge, open_registry, keeper)
        return cls(control, follower, UseReporter(uses, open_registry, store), keeper)

    def start(self) -> None:
        """Take what was kept, and start to follow the registry. Raises ServiceError DATABASE_UNAVAILABLE if the service
        keeps it; nothing runs then.
        """
        with ExitStack() as starting:
            if self.keeper is not None:
                self.keeper.start(self.control.knowledge)
                starting.callback(self.keeper.stop)
            self.reporter.start()
            starting.callback(self.reporter.stop)
            self.follower.start()
            starting.pop_all()

    def stop(self) -> None:
        """Stop following, tell the last uses, and keep what is newest."""
        self.follower.stop()
        self.reporter.stop()
        if self.keeper is not None:
            self.keeper.stop()
