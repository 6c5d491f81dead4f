"""Weighing messages to and from what the rules work with. Pure. The hot path joins serialised parts instead of
building messages.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from services.journal.entries import varint
from services.weighing.axles import Axle
from services.weighing.directory import (
    JUDGEMENTS_PER_SITE_MAX,
    Site,
)
from services.weighing.limits import VehicleFacts
from services.weighing.rows import postgres_microseconds
from services.weighing.verdict import Judgement
from zhichao.weighing.v1 import record_pb2, weighing_pb2

WEIGHING_KIND: Final = weighing_pb2.Weighing.DESCRIPTOR.full_name
CONFLICT_KIND: Final = weighing_pb2.WeighingConflict.DESCRIPTOR.full_name

WeighingRecord = record_pb2.WeighingRecord

RULES_NOT_IN_FORCE: Final = "rule-set-not-in-force"
"""Reason added when the weigh time lies outside the validity of every version; the nearest version judged."""

VEHICLES_CACHED_MAX: Final = 8_192
"""Vehicle messages kept parsed, by their bytes: sites send the same few hundred combinations of facts."""

VEHICLE_BYTES_CACHED_MAX: Final = 128
"""Bytes of a vehicle message that is kept: with every field but axles it has some 60, with unknown ones any number."""

_LENGTHS: Final = 4_096
"""Field lengths whose tag and length are precomputed; longer ones are rare."""


def _tags(field: int) -> tuple[bytes, ...]:
    tag = bytes([field << 3 | 2])
    return tuple(tag + varint(length) for length in range(_LENGTHS))


def _field(tags: tuple[bytes, ...], content: bytes) -> bytes:
    length = len(content)
    if length < _LENGTHS:
        return tags[length] + content
    return tags[0][:1] + varint(length) + content


_RECORD: Final = _tags(weighing_pb2.Weighing.RECORD_FIELD_NUMBER)
_JUDGEMENT: Final = _tags(weighing_pb2.Weighing.JUDGEMENT_FIELD_NUMBER)
_PLATE: Final = _tags(weighing_pb2.Weighing.PLATE_NUMBER_FIELD_NUMBER)
_FLAGS: Final = _tags(weighing_pb2.Weighing.QUALITY_FLAGS_FIELD_NUMBER)


class VehicleReading(NamedTuple):
    """A vehicle message as the rules take it."""

    facts: VehicleFacts
    registered_mass_kg: int | None
    axles: tuple[Axle, ...]
    axle_count: int
    axle_weight_sum_kg: int | None


_vehicles: dict[bytes, VehicleReading] = {}


def known_vehicle(key: bytes) -> VehicleReading | None:
    """Return the reading of a vehicle whose serialised message was read, and so checked, before."""
    return _vehicles.get(key)


def read_vehicle(vehicle: record_pb2.Vehicle, key: bytes) -> VehicleReading:
    """Return a checked vehicle's facts and remember them by its serialised message."""
    reading = _read_vehicle(vehicle)
    # Measured axles differ from truck to truck: keeping them would only push the others out.
    if not reading.axles and len(key) <= VEHICLE_BYTES_CACHED_MAX:
        if len(_vehicles) >= VEHICLES_CACHED_MAX:
            _vehicles.clear()
        _vehicles[key] = reading
    return reading


def _read_vehicle(vehicle: record_pb2.Vehicle) -> VehicleReading:
    has_field = vehicle.HasField
    axles = tuple(_read_axle(axle) for axle in vehicle.axles) if vehicle.axles else ()
    # A checked vehicle has no zeros where zero is no value: there, absent is what reads as zero.
    facts = VehicleFacts(
        vehicle.vehicle_class,
        vehicle.axle_count or None,
        vehicle.axle_group_codes,
        vehicle.drive_axle_count or None,
        vehicle.has_air_suspension if has_field("has_air_suspension") else None,
        vehicle.has_single_tires if has_field("has_single_tires") else None,
    )
    weights = [axle.weight_kg for axle in axles]
    return VehicleReading(
        facts,
        vehicle.registered_mass_kg or None,
        axles,
        facts.axle_count or len(axles),
        sum(weights) if axles and None not in weights else None,  # type: ignore[arg-type]  # none is None
    )


def _read_axle(axle: record_pb2.Axle) -> Axle:
    weight_kg = axle.weight_kg
    is_drive = axle.is_drive
    return Axle(
        # A lifted axle weighs 0, which is not the same as one that was not weighed.
        weight_kg if weight_kg or axle.HasField("weight_kg") else None,
        axle.spacing_mm or None,
        axle.tires,
        is_drive if is_drive or axle.HasField("is_drive") else None,
    )


def judgement_bytes(judgement: Judgement, site: Site) -> bytes:
    """Return a judgement serialised with the site's rule set and certificate; the same object gives the same bytes."""
    held = site.judgements.get(id(judgement))
    if held is not None:
        return held[1]
    content = site.judgements_by_value.get(judgement)
    if content is not None:
        return content
    content = _serialized(judgement, site)
    # Judgements with an excess are made for one truck and never come back.
    if not judgement.excess_kg and not judgement.axle_excesses:
        if len(site.judgements) >= JUDGEMENTS_PER_SITE_MAX:
            site.judgements.clear()
            site.judgements_by_value.clear()
        site.judgements[id(judgement)] = (judgement, content)
        site.judgements_by_value[judgement] = content
    return content


def _serialized(judgement: Judgement, site: Site) -> bytes:
    message = weighing_pb2.Judgement(
        verdict=int(judgement.verdict),  # type: ignore[arg-type]  # the numbers are the proto's
        rule_set_id=site.rules.rule_set.rule_set_id,
        rule_set_version=site.rules.rule_set.version,
        rule_set_origin=site.rule_set_origin,
        severity=int(judgement.severity),  # type: ignore[arg-type]  # the numbers are the proto's
        reasons=judgement.reasons if site.is_in_force else (*judgement.reasons, RULES_NOT_IN_FORCE),
        certificate_number=site.certificate_number,
        axle_excesses=[
            weighing_pb2.AxleExcess(
                first_axle=one.first_axle, axle_count=one.axle_count, weight_kg=one.weight_kg, limit_kg=one.limit_kg
            )
            for one in judgement.axle_excesses
        ],
    )
    for name in (
        "conservative_limit_kg",
        "lenient_limit_kg",
        "tolerance_kg",
        "excess_kg",
        "overload_rate_permille",
    ):
        value = getattr(judgement, name)
        if value is not None:
            setattr(message, name, value)
    return message.SerializeToString()


class Reception:
    """What all weighings of one request share: the receive time, serialised once."""

    def __init__(self, receive_time: Timestamp) -> None:
        self.receive_time = receive_time
        self.receive_seconds = receive_time.seconds + receive_time.nanos / 1e9
        self.receive_microseconds = postgres_microseconds(receive_time.seconds, receive_time.nanos)
        # Whether the registry said meanwhile that nothing is missing here; None until an unknown id makes us ask.
        self.is_directory_fresh: bool | None = None
        self._tails: dict[str, bytes] = {}

    def weighing_bytes(
        self, record: bytes, judgement: bytes, division_code: str, plate_number: str, flags: Sequence[int]
    ) -> bytes:
        """Return a serialised `Weighing`."""
        tail = self._tails.get(division_code)
        if tail is None:
            tail = self._tails[division_code] = weighing_pb2.Weighing(
                receive_time=self.receive_time, division_code=division_code
            ).SerializeToString()
        content = _field(_RECORD, record) + _field(_JUDGEMENT, judgement) + tail
        if plate_number:
            content += _field(_PLATE, plate_number.encode())
        if flags:
            # Flag numbers are below 128: each is one byte of a packed field.
            content += _field(_FLAGS, bytes(flags))
        return content


def quality_bits(flags: Sequence[int]) -> int:
    """Return flags as bits: bit n-1 for flag n."""
    bits = 0
    for flag in flags:
        bits |= 1 << flag - 1
    return bits


def is_same_content(first: record_pb2.WeighingRecord, second: record_pb2.WeighingRecord) -> bool:
    """Return whether two records say the same; whether they were sent late does not count."""
    if first.is_backfill != second.is_backfill:
        copy = record_pb2.WeighingRecord()
        copy.CopyFrom(second)
        copy.is_backfill = first.is_backfill
        return first == copy
    return first == second
