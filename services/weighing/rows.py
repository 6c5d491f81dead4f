"""Rows of the table `weighings` in PostgreSQL's binary COPY form. Pure.

Rows are packed in the thread that judges, long before the transaction: only the sequence is missing, and it goes in
front.
"""

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final

CHINA_STANDARD_TIME_SECONDS: Final = 8 * 3_600
"""Offset of China Standard Time, UTC+8 without daylight saving; days of totals are counted in it."""

DAY_SECONDS: Final = 86_400

_POSTGRES_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""Binary timestamps count microseconds from here (PostgreSQL manual, date/time types)."""

_POSTGRES_EPOCH_SECONDS: Final = int(_POSTGRES_EPOCH.timestamp())

_EPOCH_DAY: Final = date(1970, 1, 1)
_DAYS_CACHED: Final = 4_096
"""Days kept as date objects: ten years of them."""

SITES_CACHED_MAX: Final = 8_192
"""Scales whose packed ids are kept: a city receives from some hundreds."""

COPY_COLUMNS: Final = (
    "origin, sequence, weigh_time, receive_time, gross_weight_kg, verdict, severity, event, axle_count, quality_bits,"
    " limit_kg, excess_kg, source_unit_id, weighing_point_id, scale_id, record_id, plate_number"
)
"""Columns in the order in which rows are packed."""

_COLUMN_COUNT: Final = 17
_ROW_PIECES: Final = 3
"""Byte strings that a row at its place is joined of: columns before the sequence, sequence, all others."""

_FIXED_FORM: Final = struct.Struct("!iqiqiiihihihihiiiiii")
_FIXED: Final = _FIXED_FORM.pack
_FIXED_VALUES: Final = _FIXED_FORM.unpack_from
_FIXED_BYTES: Final = _FIXED_FORM.size
_VERDICT_LAST_BYTE: Final = 37
"""Where a packed row has the lower byte of its verdict: behind two times, the weight and three lengths."""
_LENGTH_FORM: Final = struct.Struct("!i")
_LENGTH: Final = _LENGTH_FORM.pack
_READ_LENGTH: Final = _LENGTH_FORM.unpack_from
_LENGTH_BYTES: Final = _LENGTH_FORM.size


RecordKey = tuple[str, str]
"""Source unit id and record id: how a terminal names a record."""

PackedRow = bytes
"""A row but for its place: the fields from the third column on, in binary COPY form."""


def day_number(seconds: int) -> int:
    """Return the day of a Unix time in China Standard Time, counted from 1970-01-01."""
    return (seconds + CHINA_STANDARD_TIME_SECONDS) // DAY_SECONDS


@lru_cache(_DAYS_CACHED)
def day_text(number: int) -> str:
    """Return the date of a day number as `YYYY-MM-DD`."""
    return (_EPOCH_DAY + timedelta(days=number)).isoformat()


def day_of(moment: datetime) -> date:
    """Return the day of an aware time in China Standard Time."""
    return (moment + timedelta(seconds=CHINA_STANDARD_TIME_SECONDS)).astimezone(UTC).date()


def pack_text(value: str) -> bytes:
    """Return one text field."""
    encoded = value.encode()
    return _LENGTH(len(encoded)) + encoded


@lru_cache(SITES_CACHED_MAX)
def pack_site(source_unit_id: str, weighing_point_id: str, scale_id: str) -> bytes:
    """Return the text fields of unit, point and scale, joined."""
    return pack_text(source_unit_id) + pack_text(weighing_point_id) + pack_text(scale_id)


def postgres_microseconds(seconds: int, nanos: int) -> int:
    """Return a Unix time as PostgreSQL's binary timestamp; finer digits than microseconds stay in the entry only."""
    return (seconds - _POSTGRES_EPOCH_SECONDS) * 1_000_000 + nanos // 1_000


def pack_row(
    weigh_microseconds: int,
    receive_microseconds: int,
    gross_weight_kg: int,
    verdict: int,
    severity: int,
    event: int,
    axle_count: int,
    quality_bits: int,
    limit_kg: int,
    excess_kg: int,
    packed_site: bytes,
    record_id: str,
    plate_number: str,
) -> bytes:
    """Return a row from its third column on. `packed_site` holds the text fields of unit, point and scale."""
    record = record_id.encode()
    plate = plate_number.encode()
    return b"".join(
        (
            _FIXED(
                8, weigh_microseconds, 8, receive_microseconds, 4, gross_weight_kg, 2, verdict, 2, severity, 2, event,
                2, axle_count, 4, quality_bits, 4, limit_kg, 4, excess_kg,
            ),
            packed_site,
            _LENGTH(len(record)),
            record,
            _LENGTH(len(plate)),
            plate,
        )
    )  # fmt: skip


def unpack_row(packed: bytes) -> tuple[datetime | int | str, ...]:
    """Return the values of a packed row, from its third column on."""
    weigh_microseconds, receive_microseconds, *numbers = _FIXED_VALUES(packed)[1::2]
    values: list[datetime | int | str] = [
        _POSTGRES_EPOCH + timedelta(microseconds=weigh_microseconds),
        _POSTGRES_EPOCH + timedelta(microseconds=receive_microseconds),
        *numbers,
    ]
    offset = _FIXED_BYTES
    while offset < len(packed):
        (length,) = _READ_LENGTH(packed, offset)
        offset += _LENGTH_BYTES
        values.append(packed[offset : offset + length].decode())
        offset += length
    return tuple(values)


def verdict_numbers(rows: Iterable[PackedRow]) -> list[int]:
    """Return the verdicts of packed rows, as numbers of the proto enum."""
    return [packed[_VERDICT_LAST_BYTE] for packed in rows]


def placed_rows(origin: str, sequences: Sequence[int], rows: Sequence[PackedRow]) -> list[bytes]:
    """Return whole rows, each at its sequence: pieces that are to be joined, in order."""
    encoded = origin.encode()
    pack_sequence = struct.Struct("!q").pack
    # Column by column, and joined once by the caller: half the time of row by row.
    pieces: list[bytes] = [b""] * (_ROW_PIECES * len(rows))
    pieces[0::_ROW_PIECES] = [struct.pack(f"!hi{len(encoded)}si", _COLUMN_COUNT, len(encoded), encoded, 8)] * len(rows)
    pieces[1::_ROW_PIECES] = map(pack_sequence, sequences)
    pieces[2::_ROW_PIECES] = rows
    return pieces
