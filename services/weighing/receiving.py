"""Weighings of another platform as rows. Only what has a column is checked: the platform that wrote them has applied
its rules, and whatever else they say stays in the entry. Pure.
"""

from functools import lru_cache
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from services.journal.projection import Unprojectable
from services.weighing.convert import quality_bits
from services.weighing.rows import (
    DAY_SECONDS,
    SITES_CACHED_MAX,
    PackedRow,
    pack_row,
    pack_site,
    postgres_microseconds,
)
from services.weighing.validation import NANOS_MAX
from zhichao.weighing.v1 import record_pb2, weighing_pb2

RECEIVED_CHARACTERS_MAX: Final = 320
"""Characters of a text of another platform that goes into an index, whose rows hold 2,704 bytes: the longest plate that
normalising can make has 288, two ids have 64 each."""

SMALL_NUMBER_BITS: Final = 15
"""Bits of the largest number of a smallint column, without its sign."""

SMALL_NUMBER_MAX: Final = (1 << SMALL_NUMBER_BITS) - 1
"""Largest number of a smallint column."""

VERDICT_MAX: Final = 4
"""Largest verdict that this release knows; the lists and totals have a place for each."""

QUALITY_BITS: Final = 31
"""Quality flags that the column has room for; later ones stay in the entry."""

INSTANT_MIN_SECONDS: Final = -62_135_596_800 + DAY_SECONDS
INSTANT_MAX_SECONDS: Final = 253_402_300_800 - DAY_SECONDS
"""The years 1 to 9999 without their first and last day, which another time zone has in another year."""

_parse = weighing_pb2.Weighing.FromString


def received_row(payload: bytes) -> PackedRow:
    """Return the row of a weighing of another platform. Raises Unprojectable when the payload cannot be one."""
    try:
        weighing = _parse(payload)
    except DecodeError as error:
        raise Unprojectable("the payload is not a Weighing") from error
    # Every message and field is read once, and one condition holds for nearly all: this is most of what receiving an
    # entry costs. Which check failed is found out afterwards.
    record, judgement = weighing.record, weighing.judgement
    weigh_time, receive_time, vehicle = record.weigh_time, weighing.receive_time, record.vehicle
    weigh_seconds, weigh_nanos = weigh_time.seconds, weigh_time.nanos
    receive_seconds, receive_nanos = receive_time.seconds, receive_time.nanos
    record_id, plate, flags = record.record_id, weighing.plate_number, weighing.quality_flags
    verdict, severity, event = judgement.verdict, judgement.severity, record.event
    axle_count = vehicle.axle_count or len(vehicle.axles)
    if not (
        # Of several numbers together: none is negative and none has more bits.
        not (severity | event | axle_count) >> SMALL_NUMBER_BITS
        and 1 <= verdict <= VERDICT_MAX
        and INSTANT_MIN_SECONDS <= weigh_seconds < INSTANT_MAX_SECONDS
        and INSTANT_MIN_SECONDS <= receive_seconds < INSTANT_MAX_SECONDS
        and 0 <= weigh_nanos <= NANOS_MAX
        and 0 <= receive_nanos <= NANOS_MAX
        and len(record_id) <= RECEIVED_CHARACTERS_MAX
        and len(plate) <= RECEIVED_CHARACTERS_MAX
        and "\x00" not in record_id
        and "\x00" not in plate
        and record_id
        # The moment 0 is a time, and no time at all reads as 0.
        and (weigh_seconds or record.HasField("weigh_time"))
    ):
        raise _refusal(weighing)
    return pack_row(
        postgres_microseconds(weigh_seconds, weigh_nanos),
        postgres_microseconds(receive_seconds, receive_nanos),
        record.gross_weight_kg,
        verdict,
        severity,
        event,
        axle_count,
        quality_bits([flag for flag in flags if 0 < flag <= QUALITY_BITS]) if flags else 0,
        judgement.lenient_limit_kg,
        judgement.excess_kg,
        _pack_site(record.source_unit_id, record.weighing_point_id, record.scale_id),
        record_id,
        plate,
    )


@lru_cache(SITES_CACHED_MAX)
def _pack_site(source_unit_id: str, weighing_point_id: str, scale_id: str) -> bytes:
    """Return the checked and packed ids of a scale. Raises Unprojectable."""
    if not source_unit_id:
        raise Unprojectable("the record lacks record_id or source_unit_id")
    _check_texts(source_unit_id=source_unit_id, weighing_point_id=weighing_point_id, scale_id=scale_id)
    return pack_site(source_unit_id, weighing_point_id, scale_id)


def _refusal(weighing: weighing_pb2.Weighing) -> Unprojectable:
    """Return why a weighing has no row."""
    record, judgement = weighing.record, weighing.judgement
    if not record.HasField("weigh_time"):
        return Unprojectable("the record lacks weigh_time")
    try:
        check_received(record, weighing.plate_number)
        check_instant("weigh_time", record.weigh_time)
        check_instant("receive_time", weighing.receive_time)
    except Unprojectable as refusal:
        return refusal
    if not 1 <= judgement.verdict <= VERDICT_MAX:
        return Unprojectable(f"verdict {judgement.verdict} is not one that this release knows")
    # Enums are open: a newer release's numbers are kept as far as the columns go.
    axle_count = record.vehicle.axle_count or len(record.vehicle.axles)
    return Unprojectable(
        f"severity {judgement.severity}, event {record.event} or axle_count {axle_count} lies outside of"
        f" 0 to {SMALL_NUMBER_MAX}"
    )


def check_received(record: record_pb2.WeighingRecord, plate_number: str = "") -> None:
    """Check the texts of another platform's record that go into columns. Raises Unprojectable."""
    if not record.record_id or not record.source_unit_id:
        raise Unprojectable("the record lacks record_id or source_unit_id")
    _check_texts(
        record_id=record.record_id,
        source_unit_id=record.source_unit_id,
        weighing_point_id=record.weighing_point_id,
        scale_id=record.scale_id,
        plate_number=plate_number,
    )


def _check_texts(**texts: str) -> None:
    for name, text in texts.items():
        if len(text) > RECEIVED_CHARACTERS_MAX or "\x00" in text:
            raise Unprojectable(f"{name} has more than {RECEIVED_CHARACTERS_MAX} characters or a zero byte")


def check_instant(name: str, instant: Timestamp) -> None:
    """Check that an instant has a day in the calendar, in any time zone. Raises Unprojectable."""
    if not (INSTANT_MIN_SECONDS <= instant.seconds < INSTANT_MAX_SECONDS and 0 <= instant.nanos <= NANOS_MAX):
        raise Unprojectable(f"{name} is not an instant of the years 1 to 9999")
