"""What was last said of cameras, as it is read. The projection writes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from psycopg import sql

from services.common.database import RawConnection

CameraKey = tuple[str, str, str]
"""Source unit, camera and origin: where a page ends."""


class CameraRow(NamedTuple):
    """A camera with its newest report."""

    origin: str
    source_unit_id: str
    camera_id: str
    content: bytes


@dataclass(frozen=True, slots=True)
class CameraFilter:
    """Which cameras to list; empty does not narrow."""

    origin: str = ""
    source_unit_id: str = ""
    states: tuple[int, ...] = ()


def read_reports(
    connection: RawConnection, origin: str, cameras: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], bytes]:
    """Return the newest reports of cameras of one platform, by source unit and camera."""
    rows = connection.execute(
        "SELECT c.source_unit_id, c.camera_id, c.content FROM cameras c"
        " JOIN unnest(%s::text[], %s::text[]) AS n (unit, camera)"
        " ON c.source_unit_id = n.unit AND c.camera_id = n.camera WHERE c.origin = %s",
        ([unit for unit, _ in cameras], [camera for _, camera in cameras], origin),
    ).fetchall()
    return {(unit, camera): bytes(content) for unit, camera, content in rows}


def list_cameras(
    connection: RawConnection, narrow: CameraFilter, after: CameraKey | None, count: int
) -> list[CameraRow]:
    """Return cameras after a key, by source unit, camera and origin."""
    conditions = ["TRUE"]
    values: dict[str, Any] = {"count": count}
    if narrow.origin:
        conditions.append("origin = %(origin)s")
        values["origin"] = narrow.origin
    if narrow.source_unit_id:
        conditions.append("source_unit_id = %(unit)s")
        values["unit"] = narrow.source_unit_id
    if narrow.states:
        conditions.append("state = ANY(%(states)s::smallint[])")
        values["states"] = list(narrow.states)
    if after is not None:
        conditions.append("(source_unit_id, camera_id, origin) > (%(after_unit)s, %(after_camera)s, %(after_origin)s)")
        values.update(zip(("after_unit", "after_camera", "after_origin"), after, strict=True))
    query = sql.SQL(
        "SELECT origin, source_unit_id, camera_id, content FROM cameras WHERE {conditions}"
        " ORDER BY source_unit_id, camera_id, origin LIMIT %(count)s"
    ).format(conditions=sql.SQL(" AND ").join(map(sql.SQL, conditions)))
    return [CameraRow(row[0], row[1], row[2], bytes(row[3])) for row in connection.execute(query, values)]


def count_states(connection: RawConnection) -> list[tuple[str, int, int]]:
    """Return origin, state and number of cameras."""
    return [
        (origin, state, count)
        for origin, state, count in connection.execute(
            "SELECT origin, state, count(*) FROM cameras GROUP BY origin, state ORDER BY origin, state"
        )
    ]
