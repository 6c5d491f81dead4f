"""What credentials are bound to, held against what is registered here and against the caller's own bounds."""

from collections.abc import Sequence
from datetime import datetime

from services.common.access.permissions import Role
from services.common.database import RawConnection
from services.registry import convert_access, refusals, store
from services.registry.credentials import ROLE_NUMBERS, Credential, CredentialKind
from services.registry.scope import Scope, own_divisions
from services.registry.store import credentials as credential_store
from services.registry.store.credentials import CredentialRow
from zhichao.access.v1 import credential_pb2 as pb


def check(connection: RawConnection, scope: Scope, credential: Credential, day: str) -> None:
    """Refuse units and divisions that are not there, or not the caller's.

    Raises ServiceError REFERENCE_NOT_FOUND, OUTSIDE_SCOPE.
    """
    if credential.kind == CredentialKind.PERSON:
        divisions = own_divisions(connection, scope.platform, day)
        if not divisions.is_within(credential.division_code, scope.platform):
            raise refusals.division_not_below(credential.division_code, scope.platform)
        if not scope.holds_division(credential.division_code):
            raise refusals.outside_scope("credential.division_code", credential.division_code, scope.described)
        return
    units = [(scope.platform, unit) for unit in credential.source_unit_ids]
    registered = store.unit_divisions(connection, units)
    missing = [unit for platform, unit in units if (platform, unit) not in registered]
    if missing:
        raise refusals.units_not_registered(missing, scope.platform)
    for position, (platform, unit) in enumerate(units):
        if not scope.holds_unit(platform, unit, registered[platform, unit]):
            raise refusals.outside_scope(f"credential.source_unit_ids[{position}]", unit, scope.described)


def held(connection: RawConnection, scope: Scope, rows: Sequence[CredentialRow]) -> list[CredentialRow]:
    """Return those credentials that lie within the caller's bounds: with their division, or with all their units."""
    if not scope.is_bound:
        return list(rows)
    read = [(row, convert_access.stored(pb.Credential.FromString(row.content))) for row in rows]
    named = {(row.origin, unit) for row, credential in read for unit in credential.source_unit_ids}
    divisions = store.unit_divisions(connection, named)

    def is_held(row: CredentialRow, credential: Credential) -> bool:
        if credential.kind == CredentialKind.PERSON:
            return scope.holds_division(credential.division_code)
        # One that is bound to nothing is a copy of a newer release's: nobody with bounds looks at it.
        return bool(credential.source_unit_ids) and all(
            scope.holds_unit(row.origin, unit, divisions.get((row.origin, unit), ""))
            for unit in credential.source_unit_ids
        )

    return [row for row, credential in read if is_held(row, credential)]


def administrators(connection: RawConnection, platform: str, now: datetime) -> set[str]:
    """Return the ids of the usable credentials of security administrators for the whole platform."""
    role = ROLE_NUMBERS[Role.SECURITY_ADMINISTRATOR]
    rows = credential_store.with_role(connection, platform, platform, role, now)
    read = [convert_access.stored(pb.Credential.FromString(content)) for content in rows]
    return {credential.credential_id for credential in read if credential.is_administrator_of(platform, now)}
