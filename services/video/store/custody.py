"""Custody events and what is derived of them: holds, extensions, requests."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import sql

from services.common.database import RawConnection
from services.video.custody import CustodyAction, CustodyFact
from services.video.domain import Name


class Named(NamedTuple):
    """A piece of evidence and its bytes."""

    name: Name
    digest: bytes


class EventRow(NamedTuple):
    """A custody event as held."""

    origin: str
    sequence: int
    event_time: datetime
    content: bytes


class HoldRow(NamedTuple):
    """A hold that stands, with the event that placed it."""

    platform: str
    hold_id: str
    content: bytes


EventKey = tuple[datetime, str, int]
"""Event time, origin and sequence: where a page ends."""


def list_events(connection: RawConnection, name: Name, after: EventKey | None, count: int) -> list[EventRow]:
    """Return what was done with a piece of evidence after a key, the oldest first."""
    later = "" if after is None else " AND (event_time, origin, sequence) > (%s, %s, %s)"
    rows = connection.execute(
        sql.SQL(
            "SELECT origin, sequence, event_time, content FROM custody_events"
            " WHERE (evidence_origin, source_unit_id, evidence_id) = (%s, %s, %s){later}"
            " ORDER BY event_time, origin, sequence LIMIT %s"
        ).format(later=sql.SQL(later)),
        (*name, *(after or ()), count),
    )
    return [EventRow(*row) for row in rows]


def read_holds(connection: RawConnection, names: Sequence[Name]) -> dict[Name, list[HoldRow]]:
    """Return the holds that stand on pieces of evidence, ordered by platform and id."""
    rows = connection.execute(
        "SELECT h.evidence_origin, h.source_unit_id, h.evidence_id, h.platform, h.hold_id, h.content"
        " FROM legal_holds h JOIN unnest(%s::text[], %s::text[], %s::text[])"
        " AS wanted (evidence_origin, source_unit_id, evidence_id) USING (evidence_origin, source_unit_id, evidence_id)"
        " WHERE h.place_sequence > h.release_sequence ORDER BY h.platform, h.hold_id",
        name_columns(names),
    )
    holds: dict[Name, list[HoldRow]] = {}
    for origin, unit, evidence_id, platform, hold_id, content in rows:
        holds.setdefault(Name(origin, unit, evidence_id), []).append(HoldRow(platform, hold_id, content))
    return holds


def read_hold_platforms(connection: RawConnection, name: Name, hold_id: str) -> dict[str, bool]:
    """Return which platforms have placed a hold of this id on a piece of evidence, and whether it stands."""
    rows = connection.execute(
        "SELECT platform, place_sequence > release_sequence FROM legal_holds"
        " WHERE (evidence_origin, source_unit_id, evidence_id) = (%s, %s, %s) AND hold_id = %s"
        " AND place_sequence > 0 ORDER BY platform",
        (*name, hold_id),
    )
    return dict(rows)


def read_facts(connection: RawConnection, name: Name, actions: Sequence[CustodyAction]) -> list[CustodyFact]:
    """Return the events of some kinds about a piece of evidence, without purpose and actor, in no order."""
    rows = connection.execute(
        "SELECT origin, sequence, action, event_time, reference_id, until_time FROM custody_events"
        " WHERE (evidence_origin, source_unit_id, evidence_id) = (%s, %s, %s) AND action = ANY(%s::smallint[])",
        (*name, list(actions)),
    )
    return [_fact(row) for row in rows]


def read_facts_of_bytes(
    connection: RawConnection, digest: bytes, actions: Sequence[CustodyAction], count: int
) -> list[CustodyFact]:
    """Return the events of some kinds about all evidence whose bytes have this digest, as `read_facts`; of so many
    pieces of evidence at most, the first sealed ones.
    """
    rows = connection.execute(
        "SELECT c.origin, c.sequence, c.action, c.event_time, c.reference_id, c.until_time"
        " FROM (SELECT origin, source_unit_id, evidence_id FROM evidence WHERE digest = %s"
        " ORDER BY seal_time, origin, source_unit_id, evidence_id LIMIT %s) AS e JOIN custody_events c"
        " ON (c.evidence_origin, c.source_unit_id, c.evidence_id) = (e.origin, e.source_unit_id, e.evidence_id)"
        " WHERE c.action = ANY(%s::smallint[])",
        (digest, count, list(actions)),
    )
    return [_fact(row) for row in rows]


def read_seals(connection: RawConnection, digest: bytes, count: int) -> list[tuple[str, int]]:
    """Return where bytes were sealed and the place of each manifest in that log, the first sealed first."""
    rows = connection.execute(
        "SELECT origin, sequence FROM evidence WHERE digest = %s"
        " ORDER BY seal_time, origin, source_unit_id, evidence_id LIMIT %s",
        (digest, count),
    )
    return [(origin, sequence) for origin, sequence in rows]


def _fact(row: tuple[Any, ...]) -> CustodyFact:
    origin, sequence, action, event_time, reference_id, until_time = row
    return CustodyFact(origin, sequence, action, event_time, reference_id=reference_id, until_time=until_time)


def read_named_by(connection: RawConnection, digest: bytes, count: int) -> list[Named]:
    """Return the evidence whose bytes have this digest, the first sealed first."""
    rows = connection.execute(
        "SELECT origin, source_unit_id, evidence_id FROM evidence WHERE digest = %s"
        " ORDER BY seal_time, origin, source_unit_id, evidence_id LIMIT %s",
        (digest, count),
    )
    return [Named(Name(*row), digest) for row in rows]


def read_exports(
    connection: RawConnection, platform: str, bundle_id: str, names: Sequence[Name]
) -> dict[Name, EventRow]:
    """Return the events by which a platform has written down that evidence went into a bundle."""
    rows = connection.execute(
        "SELECT DISTINCT ON (c.evidence_origin, c.source_unit_id, c.evidence_id)"
        " c.evidence_origin, c.source_unit_id, c.evidence_id, c.origin, c.sequence, c.event_time, c.content"
        " FROM custody_events c JOIN unnest(%s::text[], %s::text[], %s::text[])"
        " AS wanted (evidence_origin, source_unit_id, evidence_id) USING (evidence_origin, source_unit_id, evidence_id)"
        " WHERE c.origin = %s AND c.action = %s AND c.reference_id = %s"
        " ORDER BY c.evidence_origin, c.source_unit_id, c.evidence_id, c.sequence",
        (*name_columns(names), platform, CustodyAction.EXPORTED, bundle_id),
    )
    return {Name(*row[:3]): EventRow(*row[3:]) for row in rows}


def name_columns(names: Sequence[Name]) -> tuple[list[str], list[str], list[str]]:
    """Return names column by column, as `unnest` takes them."""
    return (
        [name.origin for name in names],
        [name.source_unit_id for name in names],
        [name.evidence_id for name in names],
    )
