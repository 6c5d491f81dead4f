"""What the registry has said of source units."""

from datetime import datetime
from typing import NamedTuple

from services.common.database import RawConnection


class SourceUnitRow(NamedTuple):
    """A source unit as the registry knew it."""

    source_unit_id: str
    division_code: str
    read_time: datetime


def read_source_unit(connection: RawConnection, source_unit_id: str) -> SourceUnitRow | None:
    """Return what is kept of a source unit."""
    row = connection.execute(
        "SELECT source_unit_id, division_code, read_time FROM source_units WHERE source_unit_id = %s",
        (source_unit_id,),
    ).fetchone()
    return SourceUnitRow(*row) if row else None


def put_source_unit(connection: RawConnection, row: SourceUnitRow) -> None:
    """Keep what the registry has said; what was heard later stays."""
    connection.execute(
        "INSERT INTO source_units (source_unit_id, division_code, read_time) VALUES (%s, %s, %s)"
        " ON CONFLICT (source_unit_id) DO UPDATE SET division_code = excluded.division_code,"
        " read_time = excluded.read_time WHERE excluded.read_time > source_units.read_time",
        row,
    )
