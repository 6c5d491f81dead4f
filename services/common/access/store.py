"""The statements on what a service keeps of access in its own database. Each method is one transaction."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from services.common.access.statement import StoredStatement
from services.common.database import Engine, RawConnection, raw_connection, translate_errors


class AccessStore:
    """What is kept of access in one service's database. Methods raise ServiceError DATABASE_UNAVAILABLE."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def read(self, platform: str) -> StoredStatement | None:
        """Return the statement; that of another platform when only such a one is there."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT platform, as_of_time, digest, seal, statement FROM access_statements"
                " ORDER BY platform <> %s, platform LIMIT 1",
                (platform,),
            ).fetchone()
        return StoredStatement(*row) if row else None

    def write(self, stored: StoredStatement) -> None:
        """Store a whole statement in the place of the former one."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO access_statements (platform, as_of_time, digest, seal, statement)"
                " VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT (platform) DO UPDATE SET as_of_time = excluded.as_of_time, digest = excluded.digest,"
                " seal = excluded.seal, statement = excluded.statement",
                (stored.platform, stored.as_of, stored.digest, stored.seal, stored.content),
            )

    def set_as_of(self, stored: StoredStatement) -> bool:
        """Store a new time for the statement that is there; False when another one is there, or none."""
        with self._transaction() as connection:
            changed = connection.execute(
                "UPDATE access_statements SET as_of_time = %s, seal = %s WHERE platform = %s AND digest = %s",
                (stored.as_of, stored.seal, stored.platform, stored.digest),
            )
            return changed.rowcount == 1

    def read_uses(self, uses_max: int) -> dict[str, datetime]:
        """Return the last uses that the registry has not been told, the latest ones if there are more."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT credential_id, last_use_time FROM access_untold_uses ORDER BY last_use_time DESC LIMIT %s",
                (uses_max,),
            ).fetchall()
        return dict(rows)

    def keep_uses(self, uses: Mapping[str, datetime]) -> None:
        """Store last uses that the registry could not be told; of two the later stays."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO access_untold_uses (credential_id, last_use_time)"
                " SELECT used.id, used.at FROM unnest(%s::text[], %s::timestamptz[]) AS used (id, at) ORDER BY used.id"
                " ON CONFLICT (credential_id) DO UPDATE SET last_use_time = excluded.last_use_time"
                " WHERE access_untold_uses.last_use_time < excluded.last_use_time",
                _columns(uses),
            )

    def forget_uses(self, uses: Mapping[str, datetime]) -> None:
        """Forget last uses that the registry has been told; a later one, as of another replica, stays."""
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM access_untold_uses kept USING unnest(%s::text[], %s::timestamptz[]) AS told (id, at)"
                " WHERE kept.credential_id = told.id AND kept.last_use_time <= told.at",
                _columns(uses),
            )

    @contextmanager
    def _transaction(self) -> Iterator[RawConnection]:
        with translate_errors(), self._engine.begin() as pooled:
            yield raw_connection(pooled)


def _columns(uses: Mapping[str, datetime]) -> tuple[list[str], list[datetime]]:
    # In one order, so that two replicas wait for each other and never in a circle.
    ids = sorted(uses)
    return ids, [uses[credential_id] for credential_id in ids]
