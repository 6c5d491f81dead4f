"""Permissions and who holds them: the proto enums `zhichao.common.v1.Permission`, `zhichao.access.v1.PrincipalKind` and
`Role`, and the tables that join them. `docs/permissions.md` shows them to people.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Permission(StrEnum):
    """What a method may demand; the value is the name in the proto without the prefix `PERMISSION_`."""

    IDENTITY = "IDENTITY"
    REGISTRY_READ = "REGISTRY_READ"
    REGISTRY_WRITE = "REGISTRY_WRITE"
    PLATFORM_WRITE = "PLATFORM_WRITE"
    RULE_SET_WRITE = "RULE_SET_WRITE"
    CREDENTIAL_READ = "CREDENTIAL_READ"
    CREDENTIAL_WRITE = "CREDENTIAL_WRITE"
    ACCESS_FOLLOW = "ACCESS_FOLLOW"
    WEIGHING_RECORD = "WEIGHING_RECORD"
    WEIGHING_READ = "WEIGHING_READ"
    PERSONAL_DATA_READ = "PERSONAL_DATA_READ"
    JOURNAL_STATUS = "JOURNAL_STATUS"
    JOURNAL_READ = "JOURNAL_READ"
    JOURNAL_RECEIVE = "JOURNAL_RECEIVE"
    JOURNAL_REPLAY = "JOURNAL_REPLAY"
    ACCESS_RECORD_READ = "ACCESS_RECORD_READ"
    RELAY_READ = "RELAY_READ"
    RELAY_PUSH = "RELAY_PUSH"
    RELAY_FOLLOW = "RELAY_FOLLOW"
    ENFORCEMENT_READ = "ENFORCEMENT_READ"
    ENFORCEMENT_ISSUE = "ENFORCEMENT_ISSUE"
    ENFORCEMENT_ANSWER = "ENFORCEMENT_ANSWER"
    JOURNAL_RECOVER = "JOURNAL_RECOVER"
    EVIDENCE_UPLOAD = "EVIDENCE_UPLOAD"
    EVIDENCE_READ = "EVIDENCE_READ"
    EVIDENCE_VIEW = "EVIDENCE_VIEW"
    EVIDENCE_HOLD = "EVIDENCE_HOLD"
    EVIDENCE_REQUEST = "EVIDENCE_REQUEST"
    EVIDENCE_TRANSFER = "EVIDENCE_TRANSFER"


class PrincipalKind(StrEnum):
    """Kind of somebody who calls; the value begins the principal's name in journals and logs."""

    TERMINAL = "terminal"
    INTEGRATOR = "integrator"
    PERSON = "person"
    PLATFORM = "platform"
    SERVICE = "service"


class Role(StrEnum):
    """What a person may do; the value is the name in the proto without the prefix `ROLE_`."""

    VIEWER = "VIEWER"
    REGISTRAR = "REGISTRAR"
    STANDARDS_OFFICER = "STANDARDS_OFFICER"
    OFFICER = "OFFICER"
    DATA_STEWARD = "DATA_STEWARD"
    SYSTEM_ADMINISTRATOR = "SYSTEM_ADMINISTRATOR"
    SECURITY_ADMINISTRATOR = "SECURITY_ADMINISTRATOR"
    AUDITOR = "AUDITOR"


EXCLUSIVE_ROLES: Final = frozenset({Role.SYSTEM_ADMINISTRATOR, Role.SECURITY_ADMINISTRATOR, Role.AUDITOR})
"""At most one of these in one credential: separate system, security and audit administrators (GB/T 22239-2019, level 2
and up, 8.1.5)."""

_EVERYBODY: Final = frozenset({Permission.IDENTITY})
_READING: Final = frozenset(
    {
        Permission.REGISTRY_READ,
        Permission.WEIGHING_READ,
        Permission.JOURNAL_STATUS,
        Permission.RELAY_READ,
        Permission.ENFORCEMENT_READ,
        Permission.EVIDENCE_READ,
    }
)
_AT_A_UNIT: Final = frozenset(
    {
        Permission.REGISTRY_READ,
        Permission.WEIGHING_RECORD,
        Permission.WEIGHING_READ,
        Permission.JOURNAL_STATUS,
        Permission.EVIDENCE_UPLOAD,
        Permission.EVIDENCE_READ,
        # What a terminal sent it may see again as it sent it.
        Permission.PERSONAL_DATA_READ,
    }
)

KIND_PERMISSIONS: Final[Mapping[PrincipalKind, frozenset[Permission]]] = MappingProxyType(
    {
        PrincipalKind.TERMINAL: _EVERYBODY | _AT_A_UNIT,
        PrincipalKind.INTEGRATOR: _EVERYBODY | _AT_A_UNIT,
        PrincipalKind.PERSON: _EVERYBODY,
        PrincipalKind.PLATFORM: _EVERYBODY | {Permission.RELAY_PUSH, Permission.RELAY_FOLLOW},
        PrincipalKind.SERVICE: _EVERYBODY
        | {
            Permission.REGISTRY_READ,
            Permission.ACCESS_FOLLOW,
            Permission.JOURNAL_STATUS,
            Permission.JOURNAL_READ,
            Permission.JOURNAL_RECEIVE,
            Permission.JOURNAL_RECOVER,
            Permission.EVIDENCE_TRANSFER,
        },
    }
)
"""What every principal of a kind holds."""

ROLE_PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = MappingProxyType(
    {
        Role.VIEWER: _READING,
        Role.REGISTRAR: _READING | {Permission.REGISTRY_WRITE, Permission.PERSONAL_DATA_READ},
        Role.STANDARDS_OFFICER: _READING | {Permission.RULE_SET_WRITE},
        Role.OFFICER: _READING
        | {
            Permission.PERSONAL_DATA_READ,
            Permission.ENFORCEMENT_ISSUE,
            Permission.ENFORCEMENT_ANSWER,
            Permission.EVIDENCE_VIEW,
            Permission.EVIDENCE_HOLD,
            Permission.EVIDENCE_REQUEST,
        },
        Role.DATA_STEWARD: _READING | {Permission.WEIGHING_RECORD, Permission.EVIDENCE_UPLOAD},
        Role.SYSTEM_ADMINISTRATOR: frozenset(
            {
                Permission.REGISTRY_READ,
                Permission.PLATFORM_WRITE,
                Permission.JOURNAL_STATUS,
                Permission.JOURNAL_REPLAY,
                Permission.JOURNAL_RECOVER,
                Permission.RELAY_READ,
            }
        ),
        Role.SECURITY_ADMINISTRATOR: frozenset(
            {Permission.REGISTRY_READ, Permission.CREDENTIAL_READ, Permission.CREDENTIAL_WRITE}
        ),
        Role.AUDITOR: frozenset(
            {
                Permission.JOURNAL_STATUS,
                Permission.JOURNAL_READ,
                Permission.ACCESS_RECORD_READ,
                Permission.CREDENTIAL_READ,
                Permission.RELAY_READ,
                Permission.EVIDENCE_READ,
            }
        ),
    }
)
"""What a person with a role holds besides what every person does."""


def permissions_of(kind: PrincipalKind, roles: Iterable[Role] = ()) -> frozenset[Permission]:
    """Return what a principal of the kind with the roles may do."""
    return KIND_PERMISSIONS[kind].union(*(ROLE_PERMISSIONS[role] for role in roles))
