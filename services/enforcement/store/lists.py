"""Lists of directives, newest first."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg import sql

from services.common.database import RawConnection
from services.enforcement.rules import Direction, Standing
from services.enforcement.store.directives import COLUMNS, Row


@dataclass(frozen=True, slots=True)
class DirectiveFilter:
    """What to list; None, 0 and empty do not narrow.

    `line` is the own division and those above it: what they issue may be meant for this platform. `platforms` are the
    recipients that count; a directive without one of them is left out.
    """

    kind: int
    own: str
    line: tuple[str, ...]
    now: datetime
    direction: int = 0
    standing: int = 0
    issuer: str = ""
    subkind: int = 0
    start_time: datetime | None = None
    end_time: datetime | None = None
    platforms: tuple[str, ...] | None = None


_IS_RECIPIENT: Final = (
    "EXISTS (SELECT 1 FROM directive_recipients r WHERE r.issuer = d.issuer AND r.kind = d.kind"
    " AND r.directive_id = d.directive_id AND r.platform = %(own)s)"
)
# Only what comes from above is received, whatever a platform beside or below writes into a directive.
_IS_RECEIVED: Final = (
    "(d.issuer <> %(own)s AND d.issuer = ANY(%(line)s::text[])"
    f" AND (d.audiences && %(line)s::text[] OR {_IS_RECIPIENT}))"
)
_DIRECTIONS: Final = {
    Direction.ISSUED: "d.issuer = %(own)s",
    Direction.RECEIVED: _IS_RECEIVED,
    Direction.OBSERVED: f"(d.issuer <> %(own)s AND NOT {_IS_RECEIVED})",
}
_HAS_PLATFORM: Final = (
    "EXISTS (SELECT 1 FROM directive_recipients r WHERE r.issuer = d.issuer AND r.kind = d.kind"
    " AND r.directive_id = d.directive_id AND r.platform = ANY(%(platforms)s::text[]))"
)
_IS_OPEN: Final = (
    "(NOT EXISTS (SELECT 1 FROM directive_withdrawals w WHERE w.issuer = d.issuer AND w.kind = d.kind"
    " AND w.directive_id = d.directive_id) AND EXISTS (SELECT 1 FROM directive_recipients r"
    " LEFT JOIN directive_responses a USING (issuer, kind, directive_id, platform)"
    " WHERE r.issuer = d.issuer AND r.kind = d.kind AND r.directive_id = d.directive_id AND a.platform IS NULL"
    " AND (%(awaited)s::text[] IS NULL OR r.platform = ANY(%(awaited)s::text[]))))"
)
_STANDINGS: Final = {
    Standing.OPEN: _IS_OPEN,
    Standing.OVERDUE: f"(d.deadline_time < %(now)s AND {_IS_OPEN})",
    Standing.SETTLED: f"NOT {_IS_OPEN}",
}


def list_directives(
    connection: RawConnection, narrow: DirectiveFilter, after: tuple[datetime, str, str] | None, count: int
) -> list[Row]:
    """Return directives after a key (issue time, issuer, id), the newest issue first."""
    conditions = ["d.kind = %(kind)s"]
    awaited = [narrow.own] if narrow.direction == Direction.RECEIVED else narrow.platforms
    values: dict[str, Any] = {
        "kind": narrow.kind,
        "own": narrow.own,
        "line": list(narrow.line),
        "now": narrow.now,
        "awaited": None if awaited is None else list(awaited),
        "count": count,
    }
    if narrow.direction:
        conditions.append(_DIRECTIONS[Direction(narrow.direction)])
    if narrow.standing:
        conditions.append(_STANDINGS[Standing(narrow.standing)])
    if narrow.platforms is not None:
        conditions.append(_HAS_PLATFORM)
        values["platforms"] = list(narrow.platforms)
    if narrow.issuer:
        conditions.append("d.issuer = %(issuer)s")
        values["issuer"] = narrow.issuer
    if narrow.subkind:
        conditions.append("d.subkind = %(subkind)s")
        values["subkind"] = narrow.subkind
    if narrow.start_time is not None:
        conditions.append("d.issue_time >= %(start_time)s")
        values["start_time"] = narrow.start_time
    if narrow.end_time is not None:
        conditions.append("d.issue_time < %(end_time)s")
        values["end_time"] = narrow.end_time
    if after is not None:
        conditions.append("(d.issue_time, d.issuer, d.directive_id) < (%(time)s, %(after_issuer)s, %(after_id)s)")
        values.update(zip(("time", "after_issuer", "after_id"), after, strict=True))
    query = sql.SQL(
        "SELECT {columns} FROM directives d WHERE {conditions}"
        " ORDER BY d.issue_time DESC, d.issuer DESC, d.directive_id DESC LIMIT %(count)s"
    ).format(columns=sql.SQL(COLUMNS), conditions=sql.SQL(" AND ").join(map(sql.SQL, conditions)))
    return [Row(*row) for row in connection.execute(query, values)]


def recipient_platforms(connection: RawConnection) -> list[str]:
    """Return every platform that is a recipient of anything."""
    # Some hundred platforms among any number of rows: the index is skipped through instead of read.
    rows = connection.execute(
        "WITH RECURSIVE found (platform) AS ("
        " SELECT min(platform) FROM directive_recipients UNION ALL"
        " SELECT (SELECT min(r.platform) FROM directive_recipients r WHERE r.platform > found.platform)"
        " FROM found WHERE found.platform IS NOT NULL)"
        " SELECT platform FROM found WHERE platform IS NOT NULL"
    )
    return [platform for (platform,) in rows]
