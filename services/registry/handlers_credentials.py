"""The changes of credentials: issue, change, rotate and revoke. One method is one transaction.

As with resources, every write takes the lock of the own log first: whether an id is free, and whether another security
administrator is left, cannot change before it is committed.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration

from services.common.access import tokens
from services.common.access.certificates import credential_spiffe_id
from services.common.access.permissions import Permission, PrincipalKind
from services.common.access.principal import BOOTSTRAP_ID
from services.common.china_time import day_in_china
from services.common.clock import Clock
from services.common.database import Engine, RawConnection, raw_connection, translate_errors
from services.common.request import request_context
from services.journal.log_writer import LogWriter
from services.journal.store import LogHead
from services.registry import bindings, convert, convert_access, credential_entries, forms, refusals
from services.registry import credentials as rules
from services.registry.credentials import CredentialKind
from services.registry.forms import Violation
from services.registry.scope import Scope
from services.registry.store import credentials as credential_store
from services.registry.store.credentials import CredentialRow
from zhichao.access.v1 import credential_pb2 as pb

REVOKED_EVERYWHERE: Final = timedelta(seconds=10)
"""When the last service has learnt of a revocation, if it can reach the registry (the contract): five of the intervals
at which the registry says something at least."""

ID_RANDOM_BYTES: Final = 6
"""Random bytes of an id that the registry makes: of a million credentials two are the same once in 500 platforms, and
then the second is refused."""

MUTABLE: Final = ("display_name", "source_unit_ids", "division_code", "roles", "limits", "expire_time")
"""Fields that an update may change (the contract)."""

OWN_MUTABLE: Final = frozenset({"display_name"})
"""Fields of their own credential that callers may change: nobody decides what they may do themselves."""

_PREFIX: Final = "credential."


@dataclass(frozen=True, slots=True)
class Issued:
    """A credential whose token is shown this once."""

    credential: pb.Credential
    token: str
    certificate_uri: str = ""


@dataclass(frozen=True, slots=True)
class Rotated:
    """A credential with a new token."""

    credential: pb.Credential
    token: str
    former_expire_time: datetime


class CredentialHandlers:
    """The changes of credentials."""

    def __init__(
        self, engine: Engine, writer: LogWriter, clock: Clock, announce: Callable[[str], None], trust_domain: str
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._clock = clock
        self._announce = announce
        self._trust_domain = trust_domain

    @property
    def _platform(self) -> str:
        return self._writer.origin

    # Writing

    def create(self, message: pb.Credential, *, is_certificate_only: bool) -> Issued:
        """Issue a credential.

        Raises ServiceError INVALID_ARGUMENT with every bad field, ROLES_CONFLICT, REFERENCE_NOT_FOUND, OUTSIDE_SCOPE,
        RESOURCE_EXISTS.
        """
        asked_at = self._clock.now()
        wanted, violations = convert_access.wanted(message, asked_at + rules.LIFETIME_DEFAULT)
        if not wanted.credential_id:
            wanted = replace(wanted, credential_id=_new_id(wanted.kind))
        violations = [*wanted.violations(), *(violations or rules.end_violations(wanted.expire_time, asked_at))]
        _refuse(violations, wanted)
        with self._writing() as (connection, head, now):
            bindings.check(connection, self._scope(connection, now), wanted, day_in_china(now))
            if credential_store.read(connection, self._platform, wanted.credential_id) is not None:
                raise refusals.credential_exists(wanted.credential_id)
            secret = "" if is_certificate_only else tokens.new_secret()
            if secret:
                made = rules.first_secret(tokens.digest(secret), now, wanted.expire_time)
                wanted = replace(wanted, secrets=(made,))
            shown = self._write(connection, head, convert_access.issued(wanted, now), now)
        token = tokens.format_token(wanted.credential_id, secret) if secret else ""
        return Issued(shown, token, self._certificate_uri(wanted.credential_id))

    def update(self, message: pb.Credential, paths: Sequence[str]) -> pb.Credential:
        """Change fields of a credential of this platform and return it; a change of nothing writes nothing.

        Raises ServiceError INVALID_ARGUMENT, NOT_FOUND, ETAG_MISMATCH, CREDENTIAL_ENDED, OWN_CREDENTIAL, OUTSIDE_SCOPE,
        ROLES_CONFLICT, REFERENCE_NOT_FOUND, LAST_ADMINISTRATOR.
        """
        fields = _masked_fields(message, paths)
        with self._writing() as (connection, head, now):
            row, stored, before = self._changeable(connection, message.credential_id, now)
            if before.revoke_time is not None:
                raise refusals.credential_ended(before.credential_id, "was revoked", "issue another one")
            if message.etag and message.etag != row.etag:
                raise refusals.credential_changed(before.credential_id, message.etag, row.etag)
            changed = pb.Credential()
            changed.CopyFrom(stored)
            convert.set_fields(changed, message, fields)
            after, violations = convert_access.wanted(changed, before.expire_time)
            if "expire_time" in fields and not violations:
                violations = rules.end_violations(after.expire_time, now)
            _refuse([*after.violations(), *violations], after)
            after = replace(after, secrets=rules.ended_with(before.secrets, after.expire_time))
            if after == before:
                return convert_access.shown(row.content, row.origin, row.etag, row.last_use_time)
            self._refuse_own(before, [field for field in fields if getattr(after, field) != getattr(before, field)])
            bindings.check(connection, self._scope(connection, now), after, day_in_china(now))
            self._keep_an_administrator(connection, before, after, now)
            convert_access.set_end(changed, after.expire_time, after.secrets)
            return self._write(connection, head, changed, now)

    def rotate(self, credential_id: str, asked_overlap: Duration | None) -> Rotated:
        """Make a new secret beside the former one, which stays valid for the overlap, by default seven days.

        Raises ServiceError INVALID_ARGUMENT, NOT_FOUND, OUTSIDE_SCOPE, CREDENTIAL_ENDED.
        """
        overlap = rules.OVERLAP_DEFAULT if asked_overlap is None else convert_access.overlap(asked_overlap)
        refusals.refuse_bad(
            [
                Violation("credential_id", forms.credential_id(credential_id)),
                Violation("overlap", "is no duration" if overlap is None else rules.overlap_violation(overlap)),
            ]
        )
        with self._writing() as (connection, head, now):
            _, stored, before = self._changeable(connection, credential_id, now)
            if before.revoke_time is not None:
                raise refusals.credential_ended(credential_id, "was revoked", "issue another one")
            if before.has_ended(now):
                raise refusals.credential_ended(credential_id, "has ended", "move its expire_time first")
            if before.is_certificate_only:
                description = "names a credential that is used by a certificate and has no secret: issue a certificate"
                raise refusals.bad_fields([Violation("credential_id", description)])
            secret = tokens.new_secret()
            rotated = rules.rotated(before, tokens.digest(secret), now, overlap or timedelta())
            convert_access.set_end(stored, before.expire_time, rotated)
            shown = self._write(connection, head, stored, now)
        former_ends = rotated[0].expire_time if len(rotated) > 1 else now
        return Rotated(shown, tokens.format_token(credential_id, secret), former_ends)

    def revoke(self, credential_id: str, reason: str) -> tuple[pb.Credential, datetime]:
        """End a credential for ever, and return it and when the last service has learnt of it; repeatable.

        Raises ServiceError INVALID_ARGUMENT, NOT_FOUND, OUTSIDE_SCOPE, LAST_ADMINISTRATOR.
        """
        violations = [
            Violation("credential_id", forms.credential_id(credential_id)),
            Violation("reason", rules.reason_violation(reason)),
        ]
        refusals.refuse_bad(violations)
        with self._writing() as (connection, head, now):
            row, stored, before = self._changeable(connection, credential_id, now)
            if before.revoke_time is not None:
                shown = convert_access.shown(row.content, row.origin, row.etag, row.last_use_time)
                return shown, before.revoke_time + REVOKED_EVERYWHERE
            self._keep_an_administrator(connection, before, replace(before, revoke_time=now), now)
            stored.revoke_time.CopyFrom(convert_access.timestamp(now))
            stored.revoke_reason = reason
            return self._write(connection, head, stored, now), now + REVOKED_EVERYWHERE

    # Parts of the above

    @contextmanager
    def _writing(self) -> Iterator[tuple[RawConnection, LogHead, datetime]]:
        """Open a transaction with the lock of the own log, in which the caller may still write."""
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            head = self._writer.lock(connection)
            now = self._clock.now()
            self._refuse_overtaken(connection, now)
            yield connection, head, now
        self._announce(self._platform)

    def _write(self, connection: RawConnection, head: LogHead, message: pb.Credential, now: datetime) -> pb.Credential:
        """Append the entry and write its row, both in the caller's transaction."""
        request = request_context()
        (row,) = credential_entries.append(
            connection,
            self._writer,
            head,
            [message],
            now,
            actor=request.principal.name,
            request_id=request.request_id,
        )
        return convert_access.shown(row.content, row.origin, row.etag, row.last_use_time)

    def _changeable(
        self, connection: RawConnection, credential_id: str, now: datetime
    ) -> tuple[CredentialRow, pb.Credential, rules.Credential]:
        """Return a credential of this platform that the caller may change. Raises NOT_FOUND, OUTSIDE_SCOPE."""
        row = credential_store.read(connection, self._platform, credential_id)
        if row is None:
            raise refusals.not_found(convert_access.RESOURCE_TYPE, [credential_id])
        scope = self._scope(connection, now)
        if not bindings.held(connection, scope, [row]):
            raise refusals.outside_scope("credential_id", credential_id, scope.described)
        stored = pb.Credential.FromString(row.content)
        return row, stored, convert_access.stored(stored)

    def _scope(self, connection: RawConnection, now: datetime) -> Scope:
        return Scope.of(connection, request_context().principal, self._platform, day_in_china(now))

    def _refuse_own(self, credential: rules.Credential, changed: Sequence[str]) -> None:
        principal = request_context().principal
        if (principal.kind, principal.id) != (PrincipalKind.PERSON, credential.credential_id):
            return
        for field in changed:
            if field not in OWN_MUTABLE:
                raise refusals.own_credential(credential.credential_id, field)

    def _keep_an_administrator(
        self, connection: RawConnection, before: rules.Credential, after: rules.Credential, now: datetime
    ) -> None:
        """Refuse a change that takes the last security administrator from the platform."""
        if not before.is_administrator_of(self._platform, now) or after.is_administrator_of(self._platform, now):
            return
        if not bindings.administrators(connection, self._platform, now) - {before.credential_id}:
            raise refusals.last_administrator(before.credential_id, self._platform)

    def _refuse_overtaken(self, connection: RawConnection, now: datetime) -> None:
        """Refuse a caller whose right has ended while the call waited for the lock.

        The bootstrap token ends when somebody is appointed, also when two callers use it at the same moment.
        """
        principal = request_context().principal
        if principal.kind is not PrincipalKind.PERSON:
            return
        if principal.id == BOOTSTRAP_ID:
            if bindings.administrators(connection, self._platform, now):
                raise refusals.bootstrap_over()
            return
        row = credential_store.read(connection, self._platform, principal.id)
        own = convert_access.stored(pb.Credential.FromString(row.content)) if row is not None else None
        if own is None or own.has_ended(now) or Permission.CREDENTIAL_WRITE not in own.permissions:
            raise refusals.overtaken(principal.name)

    def _certificate_uri(self, credential_id: str) -> str:
        return credential_spiffe_id(self._trust_domain, self._platform, credential_id)


def _new_id(kind: int) -> str:
    """Make an id that says the kind; a collision is refused like any id that is taken."""
    prefix = CredentialKind(kind).name[0].lower() if kind in [*CredentialKind] else "x"
    return f"{prefix}-{secrets.token_hex(ID_RANDOM_BYTES)}"


def _refuse(violations: Sequence[Violation], wanted: rules.Credential) -> None:
    if violations:
        raise refusals.bad_fields(violations, _PREFIX)
    if wanted.excluding_roles:
        raise refusals.roles_conflict(wanted.excluding_roles)


def _masked_fields(message: pb.Credential, paths: Sequence[str]) -> list[str]:
    """Return the fields that a mask names. Raises ServiceError INVALID_ARGUMENT for a bad id or path."""
    violations = [Violation(f"{_PREFIX}credential_id", forms.credential_id(message.credential_id))]
    if not paths:
        violations.append(Violation("update_mask", f"is empty; name what changes among {', '.join(MUTABLE)}"))
    violations += [
        Violation(f"update_mask.paths[{position}]", f"{path[:64]!r} is none of {', '.join(MUTABLE)}")
        for position, path in enumerate(paths)
        if path not in MUTABLE
    ]
    if "expire_time" in paths and not message.HasField("expire_time"):
        violations.append(Violation(f"{_PREFIX}expire_time", "is missing though update_mask names it"))
    refusals.refuse_bad(violations)
    return [field for field in MUTABLE if field in paths]
