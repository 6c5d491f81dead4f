"""Access for tests: the real control with knowledge made in memory, and tokens for principals of every kind."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Final

from services.common.access.control import AccessControl
from services.common.access.knowledge import (
    AccessChange,
    AccessKnowledge,
    KnownCredential,
    KnownPlatform,
    KnownSecret,
)
from services.common.access.methods import MethodAccess
from services.common.access.permissions import Permission, PrincipalKind, Role, permissions_of
from services.common.access.principal import UNLIMITED, CallLimits, Principal
from services.common.access.tokens import (
    ServiceTokens,
    bearer,
    digest,
    format_token,
    new_secret,
)
from services.common.clock import Clock, SystemClock
from services.common.rpc_limits import MESSAGE_BYTES_MAX

PLATFORM: Final = "141025"
TESTER: Final = "tester"

Metadata = Callable[[], tuple[tuple[str, str], ...]]


def open_method(path: str) -> MethodAccess:
    """Return what a method of a test's own service demands: that somebody calls."""
    return MethodAccess(path.lstrip("/"), Permission.IDENTITY, is_open=True, message_bytes_max=MESSAGE_BYTES_MAX)


def service_token_file(directory: Path) -> Path:
    """Return a file with the secret of a platform's services, made at the first call."""
    path = directory / "service.token"
    if not path.exists():
        path.write_text(new_secret() + "\n")
    return path


class Access:
    """Who may do what at one server of a test. `tester` may do everything, everywhere, as fast as it likes.

    `token` is the tester's; `service_token` that of a service of the platform with the same rights, whose reading is
    not written down.
    """

    def __init__(
        self,
        platform: str = PLATFORM,
        *,
        clock: Clock | None = None,
        tokens: ServiceTokens | None = None,
        stale_seconds: float = 3600.0,
    ) -> None:
        self.platform = platform
        self.clock = clock or SystemClock()
        self.knowledge = AccessKnowledge(self.clock.monotonic)
        self.used: list[str] = []
        self.control = AccessControl(
            platform,
            self.knowledge,
            tokens,
            self.clock,
            stale_seconds=stale_seconds,
            on_use=self.used.append,
        )
        self._secrets: dict[str, str] = {}
        self.say(is_restart=True)
        tester = Principal(PrincipalKind.PERSON, TESTER, frozenset(Permission), division_code=platform)
        self.token = self.issue(tester)
        self.service_token = self.issue(Principal(PrincipalKind.SERVICE, "service-tester", frozenset(Permission)))

    def say(
        self,
        *credentials: KnownCredential,
        platforms: Iterable[KnownPlatform] = (),
        parents: dict[str, str] | None = None,
        is_restart: bool = False,
    ) -> None:
        """Say what the registry would."""
        self.knowledge.take(
            AccessChange(
                {one.principal.id: one for one in credentials},
                {one.code: one for one in platforms},
                parents or {},
                is_restart=is_restart,
            )
        )

    def issue(self, principal: Principal, *, valid: timedelta = timedelta(days=1), is_revoked: bool = False) -> str:
        """Make a principal known and return its token; once more for other times or rights, with the same secret."""
        secret = self._secrets.setdefault(principal.id, new_secret())
        now = self.clock.now().timestamp()
        ends_at = now + valid.total_seconds()
        self.say(
            KnownCredential(principal, (KnownSecret(digest(secret), ends_at),), ends_at, now if is_revoked else None)
        )
        return format_token(principal.id, secret)

    def terminal(self, *units: str, name: str = "terminal-1", limits: CallLimits = UNLIMITED) -> str:
        """Return the token of a terminal, or with more units of an integrator."""
        kind = PrincipalKind.TERMINAL if len(units) == 1 else PrincipalKind.INTEGRATOR
        return self.issue(Principal(kind, name, permissions_of(kind), frozenset(units), limits=limits))

    def person(self, *roles: Role, name: str = "person-1", division: str = "", limits: CallLimits = UNLIMITED) -> str:
        """Return the token of a person with roles."""
        return self.issue(
            Principal(
                PrincipalKind.PERSON,
                name,
                permissions_of(PrincipalKind.PERSON, roles),
                division_code=division or self.platform,
                limits=limits,
            )
        )

    def start(self) -> None:
        """Everything is known already."""

    def stop(self) -> None:
        """Nothing is followed."""

    def credentials(self, token: str | None = None) -> Metadata:
        """Return what puts a token, by default the tester's, on the calls of a channel."""
        metadata = bearer(self.token if token is None else token)
        return lambda: metadata
