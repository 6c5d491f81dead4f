"""The statements on credentials and their last use. Runs in the caller's transaction."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from services.common.database import RawConnection

_UPSERT: Final = """
INSERT INTO credentials (origin, credential_id, kind, division_code, source_unit_ids, roles, expire_time, revoke_time,
    sequence, content)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (origin, credential_id) DO UPDATE SET kind = excluded.kind, division_code = excluded.division_code,
    source_unit_ids = excluded.source_unit_ids, roles = excluded.roles, expire_time = excluded.expire_time,
    revoke_time = excluded.revoke_time, sequence = excluded.sequence, content = excluded.content
WHERE credentials.sequence < excluded.sequence
"""
# The guard makes the row that of the newest entry, in whatever order entries are replayed.

_SELECT: Final = "SELECT c.origin, c.sequence, c.content, u.last_use_time FROM credentials c"
_WITH_OWN_USES: Final = (
    " LEFT JOIN credential_uses u ON u.credential_id = c.credential_id"
    " AND c.origin = (SELECT origin FROM journal_logs WHERE is_own)"
)


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """One credential as held: its issuer, the place of its newest entry, the entry's payload, and its last use."""

    origin: str
    sequence: int
    content: bytes
    last_use_time: datetime | None

    @property
    def etag(self) -> str:
        """The place as an etag."""
        return f"{self.origin}-{self.sequence}"


@dataclass(frozen=True, slots=True)
class NewCredentialRow:
    """A credential to be written."""

    credential_id: str
    kind: int
    division_code: str
    source_unit_ids: tuple[str, ...]
    roles: tuple[int, ...]
    expire_time: datetime
    revoke_time: datetime | None
    sequence: int
    content: bytes


@dataclass(frozen=True, slots=True)
class CredentialFilter:
    """What a list is narrowed to; empty and 0 do not filter."""

    origin: str
    kind: int = 0
    source_unit_id: str = ""
    role: int = 0
    live_at: datetime | None = None
    """Leaves out those that have ended by then."""


def upsert(connection: RawConnection, origin: str, rows: Iterable[NewCredentialRow]) -> None:
    """Write credentials of one issuer; a row that is newer in the table stays."""
    with connection.cursor() as cursor:
        cursor.executemany(
            _UPSERT,
            [
                (
                    origin,
                    row.credential_id,
                    row.kind,
                    row.division_code,
                    list(row.source_unit_ids),
                    list(row.roles),
                    row.expire_time,
                    row.revoke_time,
                    row.sequence,
                    row.content,
                )
                for row in rows
            ],
        )


def read(connection: RawConnection, origin: str, credential_id: str) -> CredentialRow | None:
    """Return one credential."""
    row = connection.execute(
        f"{_SELECT}{_WITH_OWN_USES} WHERE c.origin = %s AND c.credential_id = %s".encode(), (origin, credential_id)
    ).fetchone()
    return CredentialRow(*row) if row else None


def page(
    connection: RawConnection, wanted: CredentialFilter, after_id: str | None, rows_max: int
) -> list[CredentialRow]:
    """Return the next rows in the order of ids that pass the filter."""
    conditions = ["c.origin = %(origin)s"]
    values: dict[str, Any] = {"origin": wanted.origin, "rows_max": rows_max}
    if wanted.kind:
        conditions.append("c.kind = %(kind)s")
        values["kind"] = wanted.kind
    if wanted.source_unit_id:
        conditions.append("%(unit)s = ANY (c.source_unit_ids)")
        values["unit"] = wanted.source_unit_id
    if wanted.role:
        conditions.append("%(role)s = ANY (c.roles)")
        values["role"] = wanted.role
    if wanted.live_at is not None:
        conditions.append("c.revoke_time IS NULL AND c.expire_time > %(live_at)s")
        values["live_at"] = wanted.live_at
    if after_id is not None:
        conditions.append("c.credential_id > %(after)s")
        values["after"] = after_id
    query = f"{_SELECT}{_WITH_OWN_USES} WHERE {' AND '.join(conditions)} ORDER BY c.credential_id LIMIT %(rows_max)s"
    return [CredentialRow(*row) for row in connection.execute(query.encode(), values)]


def stated(connection: RawConnection, origin: str, after_sequence: int, ended_after: datetime) -> list[CredentialRow]:
    """Return the credentials of one issuer that services are told of: changed after a sequence, not long ended."""
    rows = connection.execute(
        "SELECT origin, sequence, content, NULL::timestamptz FROM credentials"
        " WHERE origin = %(origin)s AND sequence > %(after)s"
        " AND expire_time > %(ended_after)s AND (revoke_time IS NULL OR revoke_time > %(ended_after)s)"
        " ORDER BY sequence",
        {"origin": origin, "after": after_sequence, "ended_after": ended_after},
    )
    return [CredentialRow(*row) for row in rows]


def with_role(connection: RawConnection, origin: str, division_code: str, role: int, now: datetime) -> list[bytes]:
    """Return the credentials of one issuer that have a role over exactly this division and have not ended."""
    rows = connection.execute(
        "SELECT content FROM credentials WHERE origin = %s AND division_code = %s AND %s = ANY (roles)"
        " AND revoke_time IS NULL AND expire_time > %s",
        (origin, division_code, role, now),
    )
    return [row[0] for row in rows]


def record_uses(connection: RawConnection, origin: str, uses: Mapping[str, datetime]) -> None:
    """Keep when credentials of one issuer were used last; the later time stays, unknown ids are ignored."""
    # In one order, so that two services that report at once wait for each other and never in a circle.
    ids = sorted(uses)
    connection.execute(
        "INSERT INTO credential_uses (credential_id, last_use_time)"
        " SELECT used.id, used.at FROM unnest(%s::text[], %s::timestamptz[]) AS used (id, at)"
        " JOIN credentials c ON c.origin = %s AND c.credential_id = used.id ORDER BY used.id"
        " ON CONFLICT (credential_id) DO UPDATE SET last_use_time = excluded.last_use_time"
        " WHERE credential_uses.last_use_time < excluded.last_use_time",
        (ids, [uses[credential_id] for credential_id in ids], origin),
    )
