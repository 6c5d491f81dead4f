"""Messages of credentials to the domain, to the bytes that the journal keeps, and to what callers see. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.common.access.principal import Principal
from services.registry import credentials as domain
from services.registry.forms import Violation
from zhichao.access.v1 import credential_pb2 as pb
from zhichao.access.v1 import service_pb2
from zhichao.common.v1 import access_pb2

KIND: Final = pb.Credential.DESCRIPTOR.full_name
"""Kind of journal entries about credentials."""

SCHEMA: Final = 1
"""Version of their meaning; raised when an older release must not project an entry."""

RESOURCE_TYPE: Final = "credential"
"""The noun in errors and field paths."""


def moment(message: Timestamp) -> datetime | None:
    """Return the instant, or None when no calendar has it."""
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def timestamp(instant: datetime) -> Timestamp:
    """Return an instant as a message."""
    message = Timestamp()
    message.FromDatetime(instant)
    return message


def wanted(message: pb.Credential, end_default: datetime) -> tuple[domain.Credential, list[Violation]]:
    """Read what a caller asks for, without what only the registry sets, and what is wrong with the form of its end."""
    end = moment(message.expire_time) if message.HasField("expire_time") else end_default
    bad_end = [] if end is not None else [Violation("expire_time", "is no time of the calendar")]
    return _credential(message, end or end_default), bad_end


def stored(message: pb.Credential) -> domain.Credential:
    """Read a credential from a payload. Raises ValueError when its times are not there or no times."""
    times = [message.create_time, message.expire_time]
    read = [moment(time) for time in times]
    if not (message.HasField("create_time") and message.HasField("expire_time")) or None in read:
        raise ValueError("create_time and expire_time must be in the payload")
    revoked = moment(message.revoke_time) if message.HasField("revoke_time") else None
    if message.HasField("revoke_time") and revoked is None:
        raise ValueError("revoke_time is no time of the calendar")
    return _credential(message, message.expire_time.ToDatetime(tzinfo=UTC), _secrets(message.secrets), revoked)


def _credential(
    message: pb.Credential,
    expire_time: datetime,
    secrets: tuple[domain.Secret, ...] = (),
    revoke_time: datetime | None = None,
) -> domain.Credential:
    return domain.Credential(
        credential_id=message.credential_id,
        kind=message.kind,
        display_name=message.display_name,
        source_unit_ids=tuple(message.source_unit_ids),
        division_code=message.division_code,
        roles=tuple(message.roles),
        limits=domain.Limits(
            message.limits.calls_per_second, message.limits.burst_calls, message.limits.bytes_per_second
        ),
        expire_time=expire_time,
        secrets=secrets,
        revoke_time=revoke_time,
    )


def _secrets(messages: Iterable[pb.Secret]) -> tuple[domain.Secret, ...]:
    read = [(message.digest, moment(message.create_time), moment(message.expire_time)) for message in messages]
    return tuple(
        domain.Secret(digest, create_time, expire_time)
        for digest, create_time, expire_time in read
        # A secret without times is never valid.
        if create_time is not None and expire_time is not None
    )


def issued(credential: domain.Credential, create_time: datetime) -> pb.Credential:
    """Make the message of a new credential."""
    message = pb.Credential(
        credential_id=credential.credential_id,
        kind=pb.PrincipalKind.ValueType(credential.kind),
        display_name=credential.display_name,
        source_unit_ids=credential.source_unit_ids,
        division_code=credential.division_code,
        roles=[pb.Role.ValueType(role) for role in credential.roles],
        create_time=timestamp(create_time),
    )
    limits = credential.limits
    if limits != domain.Limits():
        message.limits.calls_per_second = limits.calls_per_second
        message.limits.burst_calls = limits.burst_calls
        message.limits.bytes_per_second = limits.bytes_per_second
    set_end(message, credential.expire_time, credential.secrets)
    return message


def set_end(message: pb.Credential, expire_time: datetime, secrets: Iterable[domain.Secret]) -> None:
    """Write when a credential ends, and its secrets, which end with it."""
    message.expire_time.CopyFrom(timestamp(expire_time))
    del message.secrets[:]
    message.secrets.extend(
        pb.Secret(
            digest=secret.digest,
            create_time=timestamp(secret.create_time),
            expire_time=timestamp(secret.expire_time),
        )
        for secret in secrets
    )


def to_payload(message: pb.Credential) -> bytes:
    """Return the payload of a journal entry: the credential after the change.

    Issuer and etag follow from the entry's place; the last use is observed and decided by nobody.
    """
    kept = pb.Credential()
    kept.CopyFrom(message)
    for name in ("origin", "etag", "last_use_time"):
        kept.ClearField(name)
    return kept.SerializeToString(deterministic=True)


def shown(content: bytes, origin: str, etag: str, last_use_time: datetime | None) -> pb.Credential:
    """Return a credential as callers see it: without secrets."""
    message = pb.Credential.FromString(content)
    del message.secrets[:]
    message.origin = origin
    message.etag = etag
    if last_use_time is not None:
        message.last_use_time.CopyFrom(timestamp(last_use_time))
    return message


def overlap(message: Duration) -> timedelta | None:
    """Return the duration, or None when it is none."""
    try:
        return message.ToTimedelta()
    except (ValueError, OverflowError):
        return None


def uses(messages: Iterable[service_pb2.CredentialUse]) -> dict[str, datetime]:
    """Return the latest use of each credential; what has no time is left out."""
    latest: dict[str, datetime] = {}
    for message in messages:
        used = moment(message.last_use_time) if message.HasField("last_use_time") else None
        if used is not None:
            latest[message.credential_id] = max(used, latest.get(message.credential_id, used))
    return latest


def identity_response(
    platform: str, principal: Principal, expire_time: datetime | None
) -> service_pb2.GetIdentityResponse:
    """Tell a principal who it is."""
    response = service_pb2.GetIdentityResponse(
        platform=platform,
        principal=principal.name,
        kind=pb.PrincipalKind.Value(f"PRINCIPAL_KIND_{principal.kind.name}"),
        permissions=sorted(access_pb2.Permission.Value(f"PERMISSION_{one}") for one in principal.permissions),
        source_unit_ids=sorted(principal.source_unit_ids or ()),
        division_code=principal.division_code,
    )
    if expire_time is not None:
        response.expire_time.CopyFrom(timestamp(expire_time))
    return response
