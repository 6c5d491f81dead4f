"""What a service knows of who may do what: credentials, platforms and divisions, and how old that knowledge is."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from hmac import compare_digest
from typing import Final

from services.common.access.divisions import Divisions
from services.common.access.principal import Principal
from services.common.errors import ServiceError
from services.common.reasons import Reason

DIVISIONS_RETRY_SECONDS: Final = 2.0
"""What a caller is told to wait until divisions are known: a registry that runs states everything within a second."""

CURRENT_SECONDS_MAX: Final = 10.0
"""Knowledge older than this may lack what the registry has issued meanwhile: as long as the registry can be reached
everything is known within 10 seconds (the contract of AccessService)."""


@dataclass(frozen=True, slots=True)
class KnownSecret:
    """One secret of a credential: its digest and when it ends, in seconds of the Unix epoch."""

    digest: bytes
    expires_at: float


@dataclass(frozen=True, slots=True)
class KnownCredential:
    """One credential as a service holds calls against it. Times are seconds of the Unix epoch."""

    principal: Principal
    secrets: tuple[KnownSecret, ...]
    expires_at: float
    revoked_at: float | None = None

    def secret_ends_at(self, presented: bytes) -> float | None:
        """Return when the secret with this digest ends; None when the credential has no such secret."""
        found: float | None = None
        # All are compared whichever fits, so that the time says nothing.
        for secret in self.secrets:
            if compare_digest(secret.digest, presented):
                found = secret.expires_at
        return found


@dataclass(frozen=True, slots=True)
class KnownPlatform:
    """Another platform: where it goes up to, and from when until when; None is no bound."""

    code: str
    upstream_code: str
    valid_from: date | None = None
    valid_until: date | None = None

    def is_valid_on(self, day: date) -> bool:
        """Tell whether the platform is in service on the day."""
        return (self.valid_from is None or self.valid_from <= day) and (
            self.valid_until is None or day < self.valid_until
        )


@dataclass(frozen=True, slots=True)
class AccessChange:
    """What was said at once. With `is_restart` everything said before is forgotten once the statement is complete."""

    credentials: Mapping[str, KnownCredential]
    platforms: Mapping[str, KnownPlatform]
    parents: Mapping[str, str]
    is_restart: bool = False
    is_complete: bool = True


class AccessKnowledge:
    """Holds what is known; changed by whoever follows the registry, read by every call without a lock.

    Nothing is known before the first complete statement: of the registry, or of what was kept of it over a restart.
    `age_seconds` counts from the last word of the registry.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._guard = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        self._pending: AccessChange | None = None
        self._heard_at: float | None = None
        self._parents: dict[str, str] = {}
        # Replaced whole, never changed: readers see the old or the new.
        self._credentials: Mapping[str, KnownCredential] = {}
        self._platforms: Mapping[str, KnownPlatform] = {}
        self.divisions = Divisions()

    def known_divisions(self) -> Divisions:
        """Return which division lies below which; the same object until that changes.

        Raises ServiceError ACCESS_UNKNOWN before the first complete statement: `divisions` goes by codes alone then.
        """
        if not self.is_known:
            raise ServiceError(
                Reason.ACCESS_UNKNOWN,
                "this service has not heard from the registry since its start which divisions lie below which",
                message_zh="本服务启动后尚未与登记服务同步，暂不清楚区划隶属关系",
                retry_after_seconds=DIVISIONS_RETRY_SECONDS,
            )
        return self.divisions

    @property
    def is_known(self) -> bool:
        """Whether a complete statement has been heard."""
        return self._heard_at is not None

    @property
    def is_current(self) -> bool:
        """Whether whatever the registry has issued is known: a token that is not known was never issued then."""
        return self.age_seconds() <= CURRENT_SECONDS_MAX

    def age_seconds(self) -> float:
        """Return the seconds since the registry said that this is all; infinite before it has."""
        heard_at = self._heard_at
        return float("inf") if heard_at is None else self._monotonic() - heard_at

    def credential(self, credential_id: str) -> KnownCredential | None:
        """Return a credential of this platform."""
        return self._credentials.get(credential_id)

    def platform(self, code: str) -> KnownPlatform | None:
        """Return another platform, by this platform's own records."""
        return self._platforms.get(code)

    def platforms(self) -> Iterable[KnownPlatform]:
        """Return all platforms that this platform has recorded."""
        return self._platforms.values()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call back after every word of the registry, from the thread that follows it."""
        with self._guard:
            self._listeners.append(listener)

    def take(self, change: AccessChange, *, age_seconds: float = 0.0) -> None:
        """Take what the registry said that long ago; it is in force once a message says that all was said."""
        with self._guard:
            before = None if change.is_restart else self._pending
            merged = _merged(before, change) if before is not None else change
            if not change.is_complete:
                self._pending = merged
                return
            self._pending = None
            self._put_in_force(merged)
            self._heard_at = self._monotonic() - age_seconds
        self.remind()

    def grow_old(self, age_seconds: float) -> None:
        """Take note that what is known is at least that old, as a clock shows that was set right meanwhile."""
        with self._guard:
            if self._heard_at is not None:
                self._heard_at = min(self._heard_at, self._monotonic() - age_seconds)

    def remind(self) -> None:
        """Call back as if the registry had said something: rights end by the passing of time too."""
        with self._guard:
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener()

    def _put_in_force(self, change: AccessChange) -> None:
        if change.is_restart:
            self._credentials, self._platforms = dict(change.credentials), dict(change.platforms)
            self._parents = dict(change.parents)
            self.divisions = Divisions(self._parents)
            return
        if change.credentials:
            self._credentials = {**self._credentials, **change.credentials}
        if change.platforms:
            self._platforms = {**self._platforms, **change.platforms}
        if change.parents:
            self._parents |= change.parents
            self.divisions = Divisions(self._parents)


def _merged(first: AccessChange, second: AccessChange) -> AccessChange:
    return AccessChange(
        {**first.credentials, **second.credentials},
        {**first.platforms, **second.platforms},
        {**first.parents, **second.parents},
        is_restart=first.is_restart,
        is_complete=second.is_complete,
    )
