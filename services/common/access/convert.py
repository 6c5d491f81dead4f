"""AccessService's messages to what a service knows of access. Values that this release does not know grant nothing."""

from datetime import date
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from services.common.access.knowledge import AccessChange, KnownCredential, KnownPlatform, KnownSecret
from services.common.access.limits import limits_of
from services.common.access.permissions import PrincipalKind, Role, permissions_of
from services.common.access.principal import Principal
from zhichao.access.v1 import credential_pb2, service_pb2

_KINDS: Final = {
    credential_pb2.PRINCIPAL_KIND_TERMINAL: PrincipalKind.TERMINAL,
    credential_pb2.PRINCIPAL_KIND_INTEGRATOR: PrincipalKind.INTEGRATOR,
    credential_pb2.PRINCIPAL_KIND_PERSON: PrincipalKind.PERSON,
}
_ROLES: Final = {credential_pb2.Role.Value(f"ROLE_{role}"): role for role in Role}


def access_change(message: service_pb2.WatchAccessResponse) -> AccessChange:
    """Take one message of WatchAccess."""
    credentials = {}
    for credential in message.credentials:
        known = known_credential(credential)
        if known is not None:
            credentials[credential.credential_id] = known
    return AccessChange(
        credentials,
        {
            platform.platform_code: KnownPlatform(
                platform.platform_code, platform.upstream_code, _day(platform.valid_from), _day(platform.valid_until)
            )
            for platform in message.platforms
        },
        {division.division_code: division.parent_code for division in message.divisions},
        message.is_restart,
        message.is_complete,
    )


def known_credential(credential: credential_pb2.Credential) -> KnownCredential | None:
    """Take one credential; None for a kind that has no token here."""
    kind = _KINDS.get(credential.kind)
    if kind is None:
        return None
    is_person = kind is PrincipalKind.PERSON
    roles = [_ROLES[role] for role in credential.roles if role in _ROLES] if is_person else []
    principal = Principal(
        kind,
        credential.credential_id,
        permissions_of(kind, roles),
        None if is_person else frozenset(credential.source_unit_ids),
        credential.division_code if is_person else "",
        limits_of(
            kind,
            credential.limits.calls_per_second,
            credential.limits.burst_calls,
            credential.limits.bytes_per_second,
        ),
    )
    return KnownCredential(
        principal,
        tuple(KnownSecret(secret.digest, _seconds(secret.expire_time)) for secret in credential.secrets),
        _seconds(credential.expire_time),
        _seconds(credential.revoke_time) if credential.HasField("revoke_time") else None,
    )


def _seconds(timestamp: Timestamp) -> float:
    return timestamp.seconds + timestamp.nanos / 1e9


def _day(text: str) -> date | None:
    return date.fromisoformat(text) if text else None
