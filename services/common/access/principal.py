"""Somebody who calls, as a service knows them once their credentials were looked at."""

from dataclasses import dataclass, field
from typing import Final

from services.common.access.permissions import Permission, PrincipalKind, permissions_of

BOOTSTRAP_ID: Final = "bootstrap"
"""Id of the first security administrator, whose secret comes from a file of the operator's: no credential has it, so
nobody can end it but the registry itself."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What one principal may send to one service. None where nothing bounds it."""

    calls_per_second: float | None = None
    burst_calls: int = 0
    bytes_per_second: float | None = None


UNLIMITED: Final = CallLimits()
"""For the platform itself and its neighbours: their pushes are bounded by windows and answered one by one."""


@dataclass(frozen=True, slots=True)
class Principal:
    """One principal: what it may do, and where.

    `source_unit_ids` is None for a principal that is not bound to units. `division_code` is empty for one that is not
    bound to a division: terminals and integrators are bound to units, services to their platform.
    """

    kind: PrincipalKind
    id: str
    permissions: frozenset[Permission]
    source_unit_ids: frozenset[str] | None = None
    division_code: str = ""
    limits: CallLimits = field(default=UNLIMITED)

    @property
    def name(self) -> str:
        """Name in journals and logs, for example `terminal/141025-9001-t1`; empty for the platform itself. Never a
        person's name.
        """
        return f"{self.kind}/{self.id}" if self.id else ""

    def may(self, permission: Permission) -> bool:
        """Tell whether it holds the permission."""
        return permission in self.permissions

    def covers_unit(self, source_unit_id: str) -> bool:
        """Tell whether its units, if it is bound to units, hold this one."""
        return self.source_unit_ids is None or source_unit_id in self.source_unit_ids


NOBODY: Final = Principal(PrincipalKind.SERVICE, "", frozenset())
"""Outside of a call, and at the gate as long as nobody knows who calls: may do nothing."""


def service_principal(platform: str, name: str) -> Principal:
    """Make the principal of a service of the platform, for example `service/141025/relay`."""
    return Principal(PrincipalKind.SERVICE, f"{platform}/{name}", permissions_of(PrincipalKind.SERVICE))


def platform_principal(platform: str) -> Principal:
    """Make the principal of another platform; its certificate has been checked."""
    return Principal(PrincipalKind.PLATFORM, platform, permissions_of(PrincipalKind.PLATFORM), division_code=platform)
