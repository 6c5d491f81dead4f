"""Recording a lone weighing with one statement: what a terminal does a hundred times for every backlog it sends."""

from typing import Any, Final

import psycopg

from services.journal.entries import NewEntry
from services.journal.store import Growth, LogHead
from services.journal.store.lone import APPEND_ONE, NOTIFY, append_one_parameters
from services.weighing.rows import COPY_COLUMNS, PackedRow, day_of, unpack_row
from services.weighing.store.weighings import Connection

_COLUMNS: Final = tuple(COPY_COLUMNS.replace(" ", "").split(","))
_VALUES: Final = ", ".join(f"%({name})s" for name in _COLUMNS[2:])
_IS_NEW: Final = (
    " AND NOT EXISTS (SELECT FROM weighings WHERE record_id = %(record_id)s"
    " AND source_unit_id = %(source_unit_id)s AND origin = %(origin)s)"
)
_RECORD: Final = (
    f"WITH {APPEND_ONE.format(condition=_IS_NEW)},"  # noqa: S608 - constants
    f" weighing AS (INSERT INTO weighings ({COPY_COLUMNS}) SELECT origin, %(size)s, {_VALUES} FROM head),"
    " total AS (INSERT INTO day_totals AS held (day, origin, source_unit_id, weighing_count, compliant_count,"
    " undetermined_count, suspected_count, not_judged_count, no_plate_count, gross_weight_sum_kg)"
    " SELECT %(day)s, origin, %(source_unit_id)s, 1, %(is_1)s, %(is_2)s, %(is_3)s, %(is_4)s, %(is_without_plate)s,"
    " %(gross_weight_kg)s FROM head ON CONFLICT (day, origin, source_unit_id) DO UPDATE SET"
    " weighing_count = held.weighing_count + 1,"
    " compliant_count = held.compliant_count + excluded.compliant_count,"
    " undetermined_count = held.undetermined_count + excluded.undetermined_count,"
    " suspected_count = held.suspected_count + excluded.suspected_count,"
    " not_judged_count = held.not_judged_count + excluded.not_judged_count,"
    " no_plate_count = held.no_plate_count + excluded.no_plate_count,"
    " gross_weight_sum_kg = held.gross_weight_sum_kg + excluded.gross_weight_sum_kg)"
    f" {NOTIFY}"
).encode()


def record_one(connection: Connection, base: LogHead, growth: Growth, new: NewEntry, row: PackedRow) -> bool:
    """Record one weighing after a head. False, and nothing is written, when the head has moved or the record is held.

    The connection commits by itself: when this returns True the weighing is durable.
    """
    values: dict[str, Any] = dict(zip(_COLUMNS[2:], unpack_row(row), strict=True))
    verdict = values["verdict"]
    parameters = append_one_parameters(base, growth, new) | values
    parameters |= {f"is_{number}": int(verdict == number) for number in range(1, 5)}
    parameters["day"] = day_of(values["weigh_time"])
    parameters["is_without_plate"] = int(not values["plate_number"])
    try:
        return connection.execute(_RECORD, parameters).fetchone() is not None
    except psycopg.errors.UniqueViolation:
        # Another replica recorded the same record between our look and our insert.
        return False
