"""Every SQL statement that writes weighings, conflicts and totals, or looks records up by their terminal's key."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import psycopg

from services.journal.store import COPY_ROWS_MIN
from services.journal.store.copy_format import copy_content, send_copy
from services.weighing.rows import COPY_COLUMNS, WeighingRow, day_date, placed_rows, unpack_row

Connection = psycopg.Connection[Any]
RecordKey = tuple[str, str]
"""Source unit id and record id: how a terminal names a record."""

_COPY: Final = f"COPY weighings ({COPY_COLUMNS}) FROM STDIN (FORMAT BINARY)".encode()
_UPSERT_TOTALS: Final = (
    b"INSERT INTO day_totals AS held (origin, day, source_unit_id, weighing_count, compliant_count, undetermined_count,"
    b" suspected_count, not_judged_count, no_plate_count, gross_weight_sum_kg)"
    b" SELECT %s, * FROM unnest(%s::date[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],"
    b" %s::bigint[], %s::bigint[], %s::bigint[])"
    b" ON CONFLICT (day, origin, source_unit_id) DO UPDATE SET"
    b" weighing_count = held.weighing_count + excluded.weighing_count,"
    b" compliant_count = held.compliant_count + excluded.compliant_count,"
    b" undetermined_count = held.undetermined_count + excluded.undetermined_count,"
    b" suspected_count = held.suspected_count + excluded.suspected_count,"
    b" not_judged_count = held.not_judged_count + excluded.not_judged_count,"
    b" no_plate_count = held.no_plate_count + excluded.no_plate_count,"
    b" gross_weight_sum_kg = held.gross_weight_sum_kg + excluded.gross_weight_sum_kg"
)


def find_places(connection: Connection, origin: str, keys: Sequence[RecordKey]) -> dict[RecordKey, int]:
    """Return the sequences of the records that are held."""
    wanted = set(keys)
    rows = connection.execute(
        b"SELECT source_unit_id, record_id, sequence FROM weighings WHERE record_id = ANY(%s::text[]) AND origin = %s",
        ([key[1] for key in keys], origin),
    )
    return {(unit, record): sequence for unit, record, sequence in rows if (unit, record) in wanted}


def find_conflicts(connection: Connection, origin: str, key: RecordKey) -> list[int]:
    """Return the sequences of the conflicting submissions kept under a record id, oldest first."""
    rows = connection.execute(
        "SELECT sequence FROM weighing_conflicts WHERE origin = %s AND source_unit_id = %s AND record_id = %s"
        " ORDER BY sequence",
        (origin, *key),
    )
    return [row[0] for row in rows]


def read_entries(connection: Connection, origin: str, sequences: Sequence[int]) -> dict[int, tuple[bytes, bytes]]:
    """Return the bytes and leaf digests of entries that are held, by their sequences."""
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(
            "SELECT sequence, entry, leaf FROM journal_entries WHERE origin = %s AND sequence = ANY(%s::bigint[])",
            (origin, sequences),
        ).fetchall()
    if len(rows) != len(set(sequences)):
        raise LookupError(f"entries of {origin} are in a table and not in the journal")
    return {sequence: (entry, leaf) for sequence, entry, leaf in rows}


_PLACES: Final = ", ".join(["%s"] * (COPY_COLUMNS.count(",") + 1))
_INSERT: Final = f"INSERT INTO weighings ({COPY_COLUMNS}) VALUES ({_PLACES})".encode()  # noqa: S608 - constants


class PackedWeighings(NamedTuple):
    """Rows and totals made ready to be sent before the transaction begins."""

    copy_content: bytes
    """The rows in binary COPY form; empty for so few that INSERTs are quicker."""
    rows: Sequence[tuple[Any, ...]]
    """The rows as values; empty when there is COPY content."""
    totals: tuple[Any, ...]


def pack_weighings(origin: str, places: Sequence[tuple[int, WeighingRow]]) -> PackedWeighings | None:
    """Return rows at their places with what they add to their days' totals; None for no rows. Pure."""
    if not places:
        return None
    sums: dict[tuple[int, str], list[int]] = {}
    for _, (_, (number, unit, verdict, has_plate, gross_weight_kg)) in places:
        key = (number, unit)
        held = sums.get(key)
        if held is None:
            # One place per number of `Verdict`, index 0 counts all; then those without a plate and the weights.
            held = sums[key] = [0, 0, 0, 0, 0, 0, 0]
        held[0] += 1
        held[verdict] += 1
        if not has_plate:
            held[5] += 1
        held[6] += gross_weight_kg
    # In one order everywhere, so that two transactions never wait for each other's rows.
    keys = sorted(sums)
    columns = zip(*(sums[key] for key in keys), strict=True)
    totals = (origin, [day_date(number) for number, _ in keys], [unit for _, unit in keys], *map(list, columns))
    if len(places) < COPY_ROWS_MIN:
        return PackedWeighings(b"", [(origin, sequence, *unpack_row(row.packed)) for sequence, row in places], totals)
    return PackedWeighings(copy_content(placed_rows(origin, places)), (), totals)


def insert_weighings(connection: Connection, packed: PackedWeighings) -> None:
    """Insert rows at their places and add them to their days' totals."""
    if packed.copy_content:
        send_copy(connection, _COPY, packed.copy_content)
    else:
        with connection.cursor() as cursor:
            cursor.executemany(_INSERT, packed.rows)
    connection.execute(_UPSERT_TOTALS, packed.totals)


def insert_conflicts(connection: Connection, origin: str, conflicts: Sequence[tuple[int, str, str, Any]]) -> None:
    """Insert (sequence, source_unit_id, record_id, receive_time) of conflicting submissions."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO weighing_conflicts (origin, sequence, source_unit_id, record_id, receive_time)"
            " VALUES (%s, %s, %s, %s, %s)",
            [(origin, *conflict) for conflict in conflicts],
        )
