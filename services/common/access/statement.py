"""What the registry has said of access, put together to one statement that can be kept. It holds no person's name."""

from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.message import DecodeError

from services.common.access.convert import access_change
from services.common.access.knowledge import AccessChange
from zhichao.access.v1 import credential_pb2, service_pb2


class UnusableStatementError(Exception):
    """Bytes that were kept are no complete statement; the text says what is wrong with them, not what they hold."""


@dataclass(frozen=True, slots=True)
class StoredStatement:
    """A statement as it is stored; whoever reads it checks it."""

    platform: str
    # Time of the registry's clock up to which it is complete.
    as_of: datetime
    # SHA-256 of the content.
    digest: bytes
    # What only holders of the platform's service token can make of the three above.
    seal: bytes
    content: bytes


class StatementBook:
    """Puts the messages of one follower together: a restart begins anew, everything else is added.

    What is said in several messages is taken with the last of them, as it comes into force.
    """

    def __init__(self) -> None:
        self._pending: list[service_pb2.WatchAccessResponse] = []
        self._credentials: dict[str, credential_pb2.Credential] = {}
        self._platforms: dict[str, service_pb2.PlatformStanding] = {}
        self._divisions: dict[str, service_pb2.DivisionStanding] = {}
        self.as_of: datetime | None = None
        """Time of the registry's clock up to which the statement is complete; None before the first complete one."""

    def take(self, message: service_pb2.WatchAccessResponse) -> bool:
        """Take one message; tell whether it may have changed what the statement holds, besides its time."""
        self._pending = [message] if message.is_restart else [*self._pending, message]
        if not message.is_complete:
            return False
        pending, self._pending = self._pending, []
        for one in pending:
            if one.is_restart:
                self._credentials, self._platforms, self._divisions = {}, {}, {}
            self._credentials |= {credential.credential_id: _bare(credential) for credential in one.credentials}
            self._platforms |= {platform.platform_code: platform for platform in one.platforms}
            self._divisions |= {division.division_code: division for division in one.divisions}
        # Without a time it is as old as what was said before.
        self.as_of = _moment(message) or self.as_of
        return any(one.is_restart or one.credentials or one.platforms or one.divisions for one in pending)

    def content(self) -> bytes:
        """Return the statement; the same bytes for the same content, whoever has heard it and in whatever order."""
        statement = service_pb2.WatchAccessResponse(is_restart=True, is_complete=True)
        statement.credentials.extend(found for _, found in sorted(self._credentials.items()))
        statement.platforms.extend(found for _, found in sorted(self._platforms.items()))
        statement.divisions.extend(found for _, found in sorted(self._divisions.items()))
        return statement.SerializeToString(deterministic=True)


def parse(content: bytes) -> AccessChange:
    """Read a statement that was kept. Raises UnusableStatementError."""
    try:
        message = service_pb2.WatchAccessResponse.FromString(content)
        change = access_change(message)
    except DecodeError as error:
        raise UnusableStatementError("it cannot be parsed") from error
    except ValueError as error:
        raise UnusableStatementError("it holds a date that is none") from error
    if not (message.is_restart and message.is_complete):
        raise UnusableStatementError("it is not complete")
    return change


def _bare(credential: credential_pb2.Credential) -> credential_pb2.Credential:
    """Return what calls are held against: no name, nor why somebody lost the right."""
    bare = credential_pb2.Credential(
        credential_id=credential.credential_id,
        kind=credential.kind,
        source_unit_ids=credential.source_unit_ids,
        division_code=credential.division_code,
        roles=credential.roles,
        secrets=[
            credential_pb2.Secret(digest=secret.digest, expire_time=secret.expire_time) for secret in credential.secrets
        ],
        expire_time=credential.expire_time,
    )
    if credential.HasField("limits"):
        bare.limits.CopyFrom(credential.limits)
    if credential.HasField("revoke_time"):
        bare.revoke_time.CopyFrom(credential.revoke_time)
    return bare


def _moment(message: service_pb2.WatchAccessResponse) -> datetime | None:
    if not message.HasField("as_of_time"):
        return None
    try:
        return message.as_of_time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
