"""What the registry knows about credentials: their fields, what is refused about them, when one is usable, and what
becomes of their secrets. It knows no token and no secret, only digests.

Pure; standard library only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from services.common.access.permissions import EXCLUSIVE_ROLES, Permission, PrincipalKind, Role, permissions_of
from services.common.access.principal import BOOTSTRAP_ID
from services.registry import forms
from services.registry.forms import Violation

LIFETIME_DEFAULT: Final = timedelta(days=365)
"""How long a credential lives when nobody says (the contract): long enough not to interrupt a site, short enough
that one that was forgotten ends by itself."""

LIFETIME_MAX: Final = timedelta(days=731)
"""Latest end of a credential from now, and of a secret from its making (the contract): two years with a leap day."""

OVERLAP_DEFAULT: Final = timedelta(days=7)
"""How long a former secret stays valid when nobody says: a technician visits every site once in it (the contract)."""

OVERLAP_MAX: Final = timedelta(days=30)
"""Longest overlap (the contract): a rotation that takes longer is two credentials for ever."""

ENDED_KEPT: Final = timedelta(days=30)
"""How long services are told of a credential that has ended, so that they can say why they refuse it (the contract)."""

UNITS_MAX: Final = 1_000
"""Source units of one integrator (the contract); the largest known connects some hundred."""

REASON_CHARACTERS_MAX: Final = 256
"""Why a credential was revoked: a sentence (the contract)."""

CALLS_PER_SECOND_MAX: Final = 10_000
"""Highest limit of calls that can be set: five times what one service on two cores answers (docs/benchmarks.md)."""

BURST_CALLS_MAX: Final = 100_000
"""Highest burst that can be set: ten seconds of the highest rate."""

BYTES_PER_SECOND_MAX: Final = 1 << 30
"""Highest limit of bytes that can be set: more than a 10 Gbit/s network card takes in half its time."""

_ENDS_TOO_LATE: Final = f"must not be more than {LIFETIME_MAX.days} days from now"


class CredentialKind(IntEnum):
    """Kind of a principal; the numbers are those of the contract. Platforms and services get no credentials."""

    TERMINAL = 1
    INTEGRATOR = 2
    PERSON = 3


ROLES: Final[Mapping[int, Role]] = MappingProxyType(dict(enumerate(Role, 1)))
"""Roles by their numbers in the contract."""

ROLE_NUMBERS: Final[Mapping[Role, int]] = MappingProxyType({role: number for number, role in ROLES.items()})


@dataclass(frozen=True, slots=True)
class Limits:
    """What a credential may send; 0 stands for the default of its kind."""

    calls_per_second: int = 0
    burst_calls: int = 0
    bytes_per_second: int = 0

    def violations(self) -> list[Violation]:
        """Return every limit that cannot be set."""
        bounds = (
            ("calls_per_second", self.calls_per_second, CALLS_PER_SECOND_MAX),
            ("burst_calls", self.burst_calls, BURST_CALLS_MAX),
            ("bytes_per_second", self.bytes_per_second, BYTES_PER_SECOND_MAX),
        )
        return [
            Violation(f"limits.{name}", f"is {value}, but must be 0 (for the default) to {most}")
            for name, value, most in bounds
            if not 0 <= value <= most
        ]


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret: the digest of it, and when it was made and ends."""

    digest: bytes
    create_time: datetime
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class Credential:
    """The right of one principal to call this platform."""

    credential_id: str
    kind: int
    display_name: str
    source_unit_ids: tuple[str, ...]
    division_code: str
    roles: tuple[int, ...]
    limits: Limits
    expire_time: datetime
    secrets: tuple[Secret, ...] = ()
    revoke_time: datetime | None = None

    def violations(self) -> list[Violation]:
        """Return every field that refuses the credential; its end is checked by `end_violations`, when it is set."""
        return [
            *_found(
                ("credential_id", _id_violation(self.credential_id)),
                ("kind", _kind_violation(self.kind)),
                ("display_name", forms.person_name(self.display_name)),
            ),
            *self._binding_violations(),
            *self.limits.violations(),
        ]

    def _binding_violations(self) -> list[Violation]:
        if self.kind not in [*CredentialKind]:
            # What it must be bound to follows from the kind.
            return []
        if self.kind == CredentialKind.PERSON:
            return [
                *_found(
                    (
                        "source_unit_ids",
                        "must be empty: a person is bound to a division" if self.source_unit_ids else "",
                    ),
                    ("division_code", forms.division_code(self.division_code)),
                ),
                *_role_violations(self.roles),
            ]
        bound = "must be empty: only a person has"
        return [
            *_unit_violations(self.kind, self.source_unit_ids),
            *_found(
                ("division_code", f"{bound} a division" if self.division_code else ""),
                ("roles", f"{bound} roles" if self.roles else ""),
            ),
        ]

    @property
    def excluding_roles(self) -> list[Role]:
        """The administrators' roles in it when it has two or more of them, which exclude each other."""
        found = [role for number in self.roles if (role := ROLES.get(number)) in EXCLUSIVE_ROLES]
        return found if len(found) > 1 else []

    @property
    def permissions(self) -> frozenset[Permission]:
        """What a person with these roles may do; roles that this release does not know grant nothing."""
        return permissions_of(PrincipalKind.PERSON, (ROLES[number] for number in self.roles if number in ROLES))

    @property
    def is_certificate_only(self) -> bool:
        """Whether it is used by a client certificate and has no token."""
        return not self.secrets

    def has_ended(self, now: datetime) -> bool:
        """Tell whether it was revoked or its time is over."""
        return self.revoke_time is not None or self.expire_time <= now

    def is_usable(self, now: datetime) -> bool:
        """Tell whether somebody can call with it: it has not ended, and neither have all its secrets."""
        return not self.has_ended(now) and (
            self.is_certificate_only or any(secret.expire_time > now for secret in self.secrets)
        )

    def is_administrator_of(self, platform: str, now: datetime) -> bool:
        """Tell whether it is a usable one of a security administrator for the whole platform."""
        return (
            self.kind == CredentialKind.PERSON
            and ROLE_NUMBERS[Role.SECURITY_ADMINISTRATOR] in self.roles
            and self.division_code == platform
            and self.is_usable(now)
        )


def end_violations(expire_time: datetime, now: datetime) -> list[Violation]:
    """Return what is wrong with the end of a credential that is set now."""
    if expire_time <= now:
        return [Violation("expire_time", "must lie in the future; to end a credential now, revoke it")]
    return [Violation("expire_time", _ENDS_TOO_LATE)] if expire_time > now + LIFETIME_MAX else []


def first_secret(digest: bytes, now: datetime, credential_ends: datetime) -> Secret:
    """Make the record of a new secret."""
    return Secret(digest, now, min(credential_ends, now + LIFETIME_MAX))


def rotated(credential: Credential, digest: bytes, now: datetime, overlap: timedelta) -> tuple[Secret, ...]:
    """Return the secrets after a rotation: the one before the new one for the overlap, and the new one."""
    newest = _newest(credential.secrets)
    kept = [replace(newest, expire_time=min(newest.expire_time, now + overlap))] if newest else []
    return (
        *(secret for secret in kept if secret.expire_time > now),
        first_secret(digest, now, credential.expire_time),
    )


def ended_with(secrets: Sequence[Secret], credential_ends: datetime) -> tuple[Secret, ...]:
    """Return the secrets when the end of their credential is moved.

    The newest follows it, up to the longest life of a secret; a former one never gets longer.
    """
    newest = _newest(secrets)
    return tuple(
        replace(secret, expire_time=min(credential_ends, secret.create_time + LIFETIME_MAX))
        if secret is newest
        else replace(secret, expire_time=min(credential_ends, secret.expire_time))
        for secret in secrets
    )


def overlap_violation(overlap: timedelta) -> str:
    """Return what is wrong with an overlap."""
    if timedelta() <= overlap <= OVERLAP_MAX:
        return ""
    return f"must be 0 to {OVERLAP_MAX.days} days"


def reason_violation(reason: str) -> str:
    """Return what is wrong with the reason of a revocation."""
    return forms.text(reason, REASON_CHARACTERS_MAX, is_required=True)


def _newest(secrets: Sequence[Secret]) -> Secret | None:
    return max(secrets, key=lambda secret: secret.create_time, default=None)


def _id_violation(credential_id: str) -> str:
    if credential_id == BOOTSTRAP_ID:
        return f"is {BOOTSTRAP_ID}, which names the first security administrator of a new platform; choose another id"
    return forms.credential_id(credential_id)


def _kind_violation(kind: int) -> str:
    if kind in [*CredentialKind]:
        return ""
    names = ", ".join(member.name for member in CredentialKind)
    return f"is {kind}, but must be one of {names}: platforms have certificates, services the platform's service token"


def _unit_violations(kind: int, source_unit_ids: Sequence[str]) -> list[Violation]:
    most = 1 if kind == CredentialKind.TERMINAL else UNITS_MAX
    if not 1 <= len(source_unit_ids) <= most:
        wanted = "exactly one" if most == 1 else f"1 to {most:,}"
        return [Violation("source_unit_ids", f"names {len(source_unit_ids)}, but must name {wanted}")]
    found: list[Violation] = []
    seen: dict[str, int] = {}
    for position, source_unit_id in enumerate(source_unit_ids):
        description = forms.identifier(source_unit_id)
        first = seen.setdefault(source_unit_id, position)
        if not description and first != position:
            description = f"is the same as source_unit_ids[{first}]"
        if description:
            found.append(Violation(f"source_unit_ids[{position}]", description))
    return found


def _role_violations(roles: Sequence[int]) -> list[Violation]:
    names = ", ".join(Role)
    if not roles:
        return [Violation("roles", f"is empty, but a person has at least one of {names}")]
    if len(roles) > len(ROLES):
        return [Violation("roles", f"names {len(roles)}, but there are {len(ROLES)}")]
    found: list[Violation] = []
    for position, number in enumerate(roles):
        if number not in ROLES:
            found.append(Violation(f"roles[{position}]", f"is {number}, but must be one of {names}"))
        elif number in roles[:position]:
            found.append(Violation(f"roles[{position}]", f"names {ROLES[number]} again"))
    return found


def _found(*checked: tuple[str, str]) -> list[Violation]:
    return [Violation(field, description) for field, description in checked if description]
