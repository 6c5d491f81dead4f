"""Every SQL statement that writes weighings, conflicts and totals, or looks records up by their terminal's key."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import psycopg

from services.journal.store import COPY_ROWS_MIN
from services.journal.store.copy_format import copy_content, send_copy
from services.weighing.rows import COPY_COLUMNS, PackedRow, RecordKey, placed_rows, unpack_row

Connection = psycopg.Connection[Any]
_COPY: Final = f"COPY weighings ({COPY_COLUMNS}) FROM STDIN (FORMAT BINARY)".encode()
_ADD_TOTALS: Final = (
    # Summed up by the database, from the rows just written: they are in its cache, and Python would take ten times as
    # long.
    # In one order everywhere, so that two transactions never wait for each other's rows.
    b"INSERT INTO day_totals AS held (day, origin, source_unit_id, weighing_count, compliant_count, undetermined_count,"
    b" suspected_count, not_judged_count, no_plate_count, gross_weight_sum_kg)"
    b" SELECT ((weigh_time AT TIME ZONE 'UTC') + interval '8 hours')::date AS day, origin, source_unit_id, count(*),"
    b" count(*) FILTER (WHERE verdict = 1), count(*) FILTER (WHERE verdict = 2), count(*) FILTER (WHERE verdict = 3),"
    b" count(*) FILTER (WHERE verdict = 4), count(*) FILTER (WHERE plate_number = ''), sum(gross_weight_kg)"
    b" FROM weighings WHERE origin = %s AND sequence BETWEEN %s AND %s GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
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
    # One text instead of an array: no record id holds a space, and psycopg writes arrays element by element.
    rows = connection.execute(
        b"SELECT source_unit_id, record_id, sequence FROM weighings"
        b" WHERE record_id = ANY(string_to_array(%s, ' ')) AND origin = %s",
        (" ".join([key[1] for key in keys]), origin),
    ).fetchall()
    wanted = set(keys) if rows else ()
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
    """Rows made ready to be sent before the transaction begins."""

    copy_content: bytes
    """The rows in binary COPY form; empty for so few that INSERTs are quicker."""
    rows: Sequence[tuple[Any, ...]]
    """The rows as values; empty when there is COPY content."""
    range: tuple[str, int, int]
    """Origin, first and last sequence; what else lies between are no weighings."""


def pack_weighings(origin: str, sequences: Sequence[int], rows: Sequence[PackedRow]) -> PackedWeighings | None:
    """Return rows at their ascending sequences ready to be inserted; None for no rows. Pure."""
    if not rows:
        return None
    place = (origin, sequences[0], sequences[-1])
    if len(rows) < COPY_ROWS_MIN:
        values = [(origin, sequence, *unpack_row(row)) for sequence, row in zip(sequences, rows, strict=True)]
        return PackedWeighings(b"", values, place)
    return PackedWeighings(copy_content(placed_rows(origin, sequences, rows)), (), place)


def insert_weighings(connection: Connection, packed: PackedWeighings) -> None:
    """Insert rows at their places and add them to their days' totals."""
    if packed.copy_content:
        send_copy(connection, _COPY, packed.copy_content)
    else:
        with connection.cursor() as cursor:
            cursor.executemany(_INSERT, packed.rows)
    connection.execute(_ADD_TOTALS, packed.range)


def pack_rows(origin: str, sequences: Sequence[int], rows: Sequence[PackedRow]) -> bytes:
    """Return rows in binary COPY form, one part of what `copy_weighings` sends. Pure."""
    return b"".join(placed_rows(origin, sequences, rows))


def copy_weighings(connection: Connection, parts: Sequence[bytes], place: tuple[str, int, int]) -> None:
    """Insert rows that `pack_rows` packed, and add them to their days' totals.

    `place` is origin, first and last sequence; what else lies between are no weighings.
    """
    send_copy(connection, _COPY, copy_content(parts))
    connection.execute(_ADD_TOTALS, place)


def insert_conflicts(connection: Connection, origin: str, conflicts: Sequence[tuple[int, str, str, Any]]) -> None:
    """Insert (sequence, source_unit_id, record_id, receive_time) of conflicting submissions."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO weighing_conflicts (origin, sequence, source_unit_id, record_id, receive_time)"
            " VALUES (%s, %s, %s, %s, %s)",
            [(origin, *conflict) for conflict in conflicts],
        )
