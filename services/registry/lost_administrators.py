"""The way back when no security administrator of a platform can call any more because their tokens are lost: whoever
has the registry's database and the platform's signing key revokes their credentials, and the bootstrap token is
accepted again. Works beside a registry that runs: it takes its turn on the log like a replica.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final, Self

import structlog

from services.common.clock import Clock, SystemClock
from services.common.database import Engine, RawConnection, check, create_engine, raw_connection, translate_errors
from services.common.errors import FieldViolation, invalid
from services.common.settings import PlatformSettings
from services.journal import access_records
from services.journal import store as journal_store
from services.journal.log_writer import LogIdentityError, LogWriter
from services.journal.signing import load_signer
from services.registry import bindings, convert_access, credential_entries
from services.registry import credentials as rules
from services.registry.app import MIGRATIONS, STREAM
from services.registry.store import credentials as credential_store
from zhichao.access.v1 import credential_pb2 as pb
from zhichao.journal.v1 import access_record_pb2

ACTOR: Final = "recovery"
"""Actor of the entries. No credential and no service has this name: they have a kind and a stroke in theirs."""

COMMAND: Final = "zhichao credential recover"
"""What stands as the method in the access record: nobody calls an RPC."""

POOL_SIZE: Final = 2
"""Connections: one thread, one transaction at a time."""

_log = structlog.get_logger()


class AdministratorsChangedError(Exception):
    """Somebody was appointed or has ended since it was looked."""


class LostAdministrators:
    """The security administrators of one platform, as the database of its registry holds them."""

    def __init__(self, engine: Engine, settings: PlatformSettings, clock: Clock) -> None:
        """Build it; nothing is read. Raises SettingsError without the platform's key file."""
        self._engine = engine
        self._platform = settings.platform
        self._signer = load_signer(settings)
        self._clock = clock

    @classmethod
    def of(cls, settings: PlatformSettings, database_url: str, clock: Clock | None = None) -> Self:
        """Open the registry's database, whose schema is that of this release.

        Raises SettingsError, SchemaError, ServiceError DATABASE_UNAVAILABLE.
        """
        engine = create_engine(database_url, pool_size=POOL_SIZE, application_name="zhichao-recover")
        made = cls(engine, settings, clock or SystemClock())
        with translate_errors():
            check(database_url, MIGRATIONS)
        return made

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def found(self) -> list[pb.Credential]:
        """Return the valid credentials of security administrators for the whole platform, without secrets and names.

        Raises ServiceError DATABASE_UNAVAILABLE, LogIdentityError for the database of another platform or key.
        """
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            self._writer(connection)
            return [_nameless(one) for one in self._administrators(connection, self._clock.now())]

    def revoke(self, credential_ids: Collection[str], reason: str) -> list[pb.Credential]:
        """Revoke all of them, in one transaction with a record for the auditor, and return them as they are now.

        `credential_ids` are those that were found; AdministratorsChangedError is raised when there are others by now.
        Raises ServiceError INVALID_ARGUMENT for a bad reason, RECOVERING, DATABASE_UNAVAILABLE; LogIdentityError as
        above. Nothing is written then.
        """
        wrong = rules.reason_violation(reason)
        if wrong:
            raise invalid([FieldViolation("reason", wrong)])
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            writer = self._writer(connection)
            head = writer.lock(connection)
            now = self._clock.now()
            held = self._administrators(connection, now)
            if {one.credential_id for one in held} != set(credential_ids):
                raise AdministratorsChangedError(
                    "the security administrators have changed meanwhile: look at them again 请重新核对"
                )
            if not held:
                return []
            for credential in held:
                credential.revoke_time.CopyFrom(convert_access.timestamp(now))
                credential.revoke_reason = reason
            credential_entries.append(connection, writer, head, held, now, actor=ACTOR)
            self._record(connection, writer, held, reason, now)
        ids = [credential.credential_id for credential in held]
        _log.warning("administrators_revoked", platform=self._platform, actor=ACTOR, credential_ids=ids, reason=reason)
        return [_nameless(credential) for credential in held]

    def _writer(self, connection: RawConnection) -> LogWriter:
        """Return what writes the own log. Raises LogIdentityError unless it is that of this platform and key."""
        own = journal_store.read_own_head(connection)
        key = self._signer.verifier_key.format()
        if own is None or (own.origin, own.verifier_key) != (self._platform, key):
            held = f"{own.origin} with the key {own.verifier_key}" if own else "nobody"
            raise LogIdentityError(
                f"this database holds the registry's log of {held}, not of {self._platform} with the key {key}: name "
                "the database and the signing key of one platform"
            )
        return LogWriter(self._platform, STREAM, self._signer, own.digest_algorithm)

    def _administrators(self, connection: RawConnection, now: datetime) -> list[pb.Credential]:
        ids = sorted(bindings.administrators(connection, self._platform, now))
        rows = [credential_store.read(connection, self._platform, credential_id) for credential_id in ids]
        return [pb.Credential.FromString(row.content) for row in rows if row is not None]

    def _record(
        self,
        connection: RawConnection,
        writer: LogWriter,
        revoked: Sequence[pb.Credential],
        reason: str,
        now: datetime,
    ) -> None:
        """Write the access record: whoever did this has seen and changed what may be done here, and shows no token."""
        record = access_record_pb2.AccessRecord(
            principal=ACTOR,
            method=COMMAND,
            subjects=[f"credential_id={one.credential_id}" for one in revoked[: access_records.SUBJECTS_MAX]],
            purpose=reason,
        )
        # The head of before has been written after: the same lock, the next place.
        access_records.append(connection, writer, writer.lock(connection), [record], now, actor=ACTOR)


def _nameless(credential: pb.Credential) -> pb.Credential:
    """Return what this command may show without another record: ids, roles and times."""
    return pb.Credential(
        credential_id=credential.credential_id,
        roles=credential.roles,
        expire_time=credential.expire_time,
        revoke_time=credential.revoke_time if credential.HasField("revoke_time") else None,
        revoke_reason=credential.revoke_reason,
    )
