"""Which bytes are wanted from platforms below: what has to be decided, what was, and what is asked for now."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from services.common.database import RawConnection
from services.video.custody import CustodyAction
from services.video.domain import BytesState


class Undecided(NamedTuple):
    """Bytes of which it has to be decided whether they are wanted, and what the platform above has said of them."""

    digest: bytes
    state: int
    upstream_urgency: int | None
    upstream_until_time: datetime | None


class ManifestRow(NamedTuple):
    """A manifest that names such bytes."""

    digest: bytes
    origin: str
    source_unit_id: str
    kind: int
    seal_time: datetime
    content: bytes


class RequestRow(NamedTuple):
    """A request for such bytes that has not ended."""

    digest: bytes
    platform: str
    until_time: datetime


class Decided(NamedTuple):
    """Bytes that are wanted, and why."""

    digest: bytes
    origin: str
    seal_time: datetime
    urgency: int
    until_time: datetime | None


class WantedRow(NamedTuple):
    """Bytes that are asked for now."""

    digest: bytes
    size_bytes: int
    received_bytes: int
    urgency: int
    seal_time: datetime


class UpstreamRow(NamedTuple):
    """Bytes that the platform above may want, and what it has said of that."""

    state: int
    urgency: int | None
    until_time: datetime | None


class WantedObject(NamedTuple):
    """Bytes that are, or were, wanted."""

    digest: bytes
    size_bytes: int
    state: int
    decline_count: int
    stored_time: datetime | None


# Deciding

_UNDECIDED: Final = (
    "NOT is_considered AND state <> 1",
    "state IN (3, 4) AND is_considered AND wanted_until_time <= %(now)s",
    "state = 4 AND is_considered AND wanted_time IS NULL",
)


def lock_undecided(connection: RawConnection, now: datetime, count: int) -> list[Undecided]:
    """Return bytes of which it has to be decided whether they are wanted, locked; what others have locked is left out.

    These are such of which something new is known, such that were asked for until now, and what was damaged since.
    """
    rows = [
        row
        for condition in _UNDECIDED
        for row in connection.execute(
            "SELECT digest, state, upstream_urgency, upstream_until_time FROM objects"  # noqa: S608 - the constants
            f" WHERE {condition} ORDER BY digest LIMIT %(count)s FOR UPDATE SKIP LOCKED".encode(),
            {"now": now, "count": count},
        )
    ]
    return [Undecided(*row) for row in rows]


def read_manifests(connection: RawConnection, digests: Sequence[bytes], per_digest: int) -> list[ManifestRow]:
    """Return the manifests that name bytes, of each digest the first sealed."""
    rows = connection.execute(
        "SELECT e.digest, e.origin, e.source_unit_id, e.kind, e.seal_time, e.content"
        " FROM unnest(%s::bytea[]) AS wanted (digest) CROSS JOIN LATERAL (SELECT * FROM evidence"
        " WHERE evidence.digest = wanted.digest ORDER BY seal_time, origin LIMIT %s) AS e",
        (list(digests), per_digest),
    )
    return [ManifestRow(*row) for row in rows]


def read_suspected(connection: RawConnection, records: Sequence[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
    """Return those of some records – origin, source unit, record id – that are known to be suspected overloads."""
    rows = connection.execute(
        "SELECT origin, source_unit_id, record_id FROM suspected_weighings"
        " JOIN unnest(%s::text[], %s::text[], %s::text[]) AS asked (origin, source_unit_id, record_id)"
        " USING (origin, source_unit_id, record_id)",
        ([one[0] for one in records], [one[1] for one in records], [one[2] for one in records]),
    )
    return {(row[0], row[1], row[2]) for row in rows}


def read_requests(connection: RawConnection, digests: Sequence[bytes], now: datetime) -> list[RequestRow]:
    """Return the requests for bytes that have not ended: whose deadline is ahead, and after which the platform that
    asked has not received them.
    """
    rows = connection.execute(
        "SELECT e.digest, c.origin, max(c.until_time) FROM evidence e JOIN custody_events c"
        " ON (c.evidence_origin, c.source_unit_id, c.evidence_id) = (e.origin, e.source_unit_id, e.evidence_id)"
        " WHERE e.digest = ANY(%s) AND c.action = 8 AND c.until_time > %s"
        " AND NOT EXISTS (SELECT FROM custody_events r"
        " WHERE (r.evidence_origin, r.source_unit_id, r.evidence_id) = (e.origin, e.source_unit_id, e.evidence_id)"
        " AND r.origin = c.origin AND r.action = %s AND r.sequence > c.sequence)"
        " GROUP BY e.digest, c.origin",
        (list(digests), now, CustodyAction.RECEIVED),
    )
    return [RequestRow(*row) for row in rows]


def put_decided(connection: RawConnection, wanted: Sequence[Decided], others: Sequence[bytes], now: datetime) -> None:
    """Write which of some bytes are wanted, and which others are not."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE objects SET is_considered = true,"
            " state = CASE WHEN state = 4 THEN state ELSE 3 END,"
            # What is asked for anew is asked for at once, however often it was declined.
            " retry_time = CASE WHEN %(urgency)s = 1 AND urgency IS DISTINCT FROM 1 THEN NULL ELSE retry_time END,"
            " wanted_time = CASE WHEN urgency IS DISTINCT FROM %(urgency)s THEN %(now)s ELSE wanted_time END,"
            " wanted_origin = %(origin)s, wanted_seal_time = %(seal_time)s, urgency = %(urgency)s,"
            " wanted_until_time = %(until_time)s WHERE digest = %(digest)s",
            [{**one._asdict(), "now": now} for one in wanted],
        )
    if others:
        connection.execute(
            "UPDATE objects SET is_considered = true, state = CASE WHEN state = 3 THEN 2 ELSE state END,"
            # Of what is damaged and was sealed here nothing can be asked; that was decided, too.
            " wanted_time = CASE WHEN state = 4 THEN %s END, wanted_origin = NULL, wanted_seal_time = NULL,"
            " urgency = NULL, wanted_until_time = NULL, retry_time = NULL, decline_count = 0"
            " WHERE digest = ANY(%s)",
            (now, list(others)),
        )


def decide_again(connection: RawConnection, digests: Sequence[bytes]) -> None:
    """Let it be decided again whether bytes are wanted: somebody has asked for them, or sealed them once more.

    What was gone may be there again, or somebody may want to know it anew. Rows of which it is not decided yet are
    held, too: whoever decides about them meanwhile would not see what the caller has not committed.
    """
    connection.execute(
        "UPDATE objects SET is_considered = false, state = CASE WHEN state = 6 THEN 2 ELSE state END"
        " FROM (SELECT digest FROM objects"
        " WHERE digest = ANY(%s) AND state <> 1 ORDER BY digest FOR UPDATE) AS chosen"
        " WHERE objects.digest = chosen.digest",
        (list(digests),),
    )


def decide_requested_again(connection: RawConnection, now: datetime) -> None:
    """Let it be decided again of bytes that somebody has asked for and that are not wanted.

    Mostly a platform below has asked for them. A request that came in the same moment as its manifest is found here.
    """
    connection.execute(
        "UPDATE objects SET is_considered = false FROM (SELECT o.digest FROM objects o WHERE o.state = 2"
        " AND o.is_considered AND o.digest IN (SELECT c.digest FROM custody_events c"
        " WHERE c.action = 8 AND c.until_time > %s) ORDER BY o.digest FOR UPDATE SKIP LOCKED) AS chosen"
        " WHERE objects.digest = chosen.digest",
        (now,),
    )


def decide_all_again(connection: RawConnection, policy: str, count: int) -> bool:
    """Let it be decided again of some bytes whether they are wanted, if that was decided by another policy.

    Returns whether there are more.
    """
    row = connection.execute("SELECT policy, digest FROM wanted_policy FOR UPDATE").fetchone()
    if row is None:
        connection.execute("INSERT INTO wanted_policy (id, policy) VALUES (1, %s) ON CONFLICT DO NOTHING", (policy,))
        return False
    known, after = row
    if known != policy:
        after = b""
    if after is None:
        return False
    digests = [
        one[0]
        for one in connection.execute(
            "SELECT digest FROM objects WHERE digest > %s AND state IN (2, 3) ORDER BY digest LIMIT %s", (after, count)
        )
    ]
    decide_again(connection, digests)
    connection.execute(
        "UPDATE wanted_policy SET policy = %s, digest = %s", (policy, digests[-1] if len(digests) == count else None)
    )
    return len(digests) == count


# The wishes of the platform above


def lock_upstream_wish(connection: RawConnection, digest: bytes) -> UpstreamRow | None:
    """Return what the platform above has said that it wants of bytes, locked; None when no manifest names them."""
    row = connection.execute(
        "SELECT state, upstream_urgency, upstream_until_time FROM objects WHERE digest = %s FOR UPDATE", (digest,)
    ).fetchone()
    return UpstreamRow(*row) if row is not None else None


def put_upstream_wish(connection: RawConnection, digest: bytes, urgency: int, until_time: datetime) -> None:
    """Write that the platform above wants bytes, and let it be decided again whether they are wanted here."""
    connection.execute(
        "UPDATE objects SET upstream_urgency = %s, upstream_until_time = %s WHERE digest = %s",
        (urgency, until_time, digest),
    )
    decide_again(connection, [digest])


# What is asked for

_CLASSES: Final = (
    "urgency = 1",
    "urgency = 2 AND wanted_seal_time > %(fresh_after)s",
    "urgency = 2 AND wanted_seal_time <= %(fresh_after)s",
)

_DECLINED: Final = "retry_time <= %(now)s"
_NOT_DECLINED: Final = "retry_time IS NULL"


def list_origins(connection: RawConnection) -> list[str]:
    """Return the platforms of whose evidence something is wanted."""
    found: set[str] = set()
    # Each has an index of its own.
    for condition in ("retry_time IS NULL", "retry_time IS NOT NULL"):
        wanted = f"SELECT min(wanted_origin) FROM objects WHERE state IN (3, 4) AND {condition}"  # noqa: S608 - constants
        rows = connection.execute(
            f"WITH RECURSIVE o (origin) AS ({wanted}"  # noqa: S608 - as above
            f" UNION ALL SELECT ({wanted} AND wanted_origin > o.origin)"
            " FROM o WHERE o.origin IS NOT NULL) SELECT origin FROM o WHERE origin IS NOT NULL".encode()
        )
        found.update(row[0] for row in rows)
    return sorted(found)


def list_wanted(
    connection: RawConnection,
    origins: Sequence[str],
    fresh_after: datetime,
    now: datetime,
    count: int,
    declined_count: int,
) -> list[WantedRow]:
    """Return what is asked for of the evidence of some platforms: what was requested, then what is fresh, then the
    rest. Within each what was not declined goes first, the first sealed first; what was declined follows, whoever has
    waited longest first, so many of those that were requested and so many others at most.
    """
    values = {"origins": list(origins), "fresh_after": fresh_after, "now": now}
    declined = [
        row
        for condition in ("urgency = 1", "urgency = 2")
        for row in _list_some(connection, f"{condition} AND {_DECLINED}", "retry_time", values, declined_count)
    ]
    found: list[WantedRow] = []
    for condition in _CLASSES:
        if (missing := count - len(declined) - len(found)) > 0:
            found += _list_some(connection, f"{condition} AND {_NOT_DECLINED}", "wanted_seal_time", values, missing)
    return sorted([*found, *declined], key=lambda one: (one.urgency, one.urgency > 1 and one.seal_time <= fresh_after))


def _list_some(
    connection: RawConnection, condition: str, order: str, values: Mapping[str, object], count: int
) -> list[WantedRow]:
    """Return what meets a condition, which is one of the constants above, in an order."""
    rows = connection.execute(
        "SELECT digest, size_bytes, received_bytes, urgency, wanted_seal_time"  # noqa: S608 - constants
        " FROM unnest(%(origins)s::text[]) AS o (origin) CROSS JOIN LATERAL (SELECT * FROM objects"
        f" WHERE state IN (3, 4) AND wanted_origin = o.origin AND {condition}"
        " AND (wanted_until_time IS NULL OR wanted_until_time > %(now)s)"
        f" ORDER BY {order}, digest LIMIT %(count)s) AS w ORDER BY {order}, digest LIMIT %(count)s".encode(),
        {**values, "count": count},
    )
    return [WantedRow(*row) for row in rows]


def count_wanted(connection: RawConnection, origins: Sequence[str]) -> tuple[int, int]:
    """Return how many objects are wanted of the evidence of some platforms, and their bytes that are not here."""
    row = connection.execute(
        "SELECT count(*), coalesce(sum(size_bytes - received_bytes), 0)::bigint FROM objects"
        " WHERE state IN (3, 4) AND wanted_origin = ANY(%s)",
        (list(origins),),
    ).fetchone()
    return (row[0], row[1]) if row is not None else (0, 0)


def read_wanted(connection: RawConnection, digest: bytes, *, is_locked: bool = False) -> WantedObject | None:
    """Return bytes that a manifest names, locked until the transaction ends or not; None when none names them."""
    lock = " FOR UPDATE" if is_locked else ""
    row = connection.execute(
        f"SELECT digest, size_bytes, state, decline_count, stored_time FROM objects WHERE digest = %s{lock}".encode(),  # noqa: S608 - a constant
        (digest,),
    ).fetchone()
    return WantedObject(*row) if row is not None else None


def put_received(connection: RawConnection, digest: bytes, received_bytes: int) -> None:
    """Note how much of wanted bytes has come."""
    connection.execute(
        "UPDATE objects SET received_bytes = %s WHERE digest = %s AND state IN (3, 4)", (received_bytes, digest)
    )


def put_declined(connection: RawConnection, digest: bytes, decline_count: int, retry_time: datetime) -> None:
    """Note that a platform below does not have wanted bytes now, or sent others, and when it is asked again."""
    connection.execute(
        "UPDATE objects SET decline_count = %s, retry_time = %s WHERE digest = %s AND state IN (3, 4)",
        (decline_count, retry_time, digest),
    )


def put_gone(connection: RawConnection, digest: bytes) -> None:
    """Note that no platform below will have wanted bytes again. What is damaged here stays that."""
    connection.execute(
        "UPDATE objects SET state = CASE WHEN state = 3 THEN %s::smallint ELSE state END, is_considered = true,"
        " wanted_origin = NULL, wanted_seal_time = NULL, urgency = NULL, wanted_until_time = NULL, retry_time = NULL,"
        " decline_count = 0, received_bytes = 0 WHERE digest = %s AND state IN (3, 4)",
        (BytesState.GONE.value, digest),
    )


def put_other_origin(connection: RawConnection, digest: bytes, origin: str, seal_time: datetime) -> None:
    """Ask for wanted bytes elsewhere: on account of the manifest of another platform."""
    connection.execute(
        "UPDATE objects SET wanted_origin = %s, wanted_seal_time = %s, retry_time = NULL, decline_count = 0"
        " WHERE digest = %s AND state IN (3, 4)",
        (origin, seal_time, digest),
    )


# What has come


def list_held_since(connection: RawConnection, since: datetime, count: int) -> list[bytes]:
    """Return what came to be held since a time, the first first."""
    rows = connection.execute(
        "SELECT digest FROM objects WHERE state = 1 AND stored_time >= %s ORDER BY stored_time, digest LIMIT %s",
        (since, count),
    )
    return [row[0] for row in rows]


def read_retain_until(connection: RawConnection, digest: bytes) -> datetime | None:
    """Return until when bytes are kept at least, by all manifests that name them and all extensions."""
    row = connection.execute(
        "SELECT max(GREATEST(e.retain_until_time, x.retain_until_time)) FROM evidence e"
        " LEFT JOIN retention_extensions x"
        " ON (x.evidence_origin, x.source_unit_id, x.evidence_id) = (e.origin, e.source_unit_id, e.evidence_id)"
        " WHERE e.digest = %s",
        (digest,),
    ).fetchone()
    return row[0] if row is not None else None
