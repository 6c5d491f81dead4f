"""The field checks of a record: what no weighing can be. Every violation of a record is found at once.

What is merely doubtful is a quality flag (`quality`). Nothing is looked up here: whether a unit exists is not its
matter. The record is read attribute by attribute, as the generated class offers it; nothing else of protobuf is used.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from services.weighing.axles import TireArrangement, count_axles
from services.weighing.limits import VehicleClass
from services.weighing.plates import PlateColor
from services.weighing.verdict import WeighingEvent

if TYPE_CHECKING:
    from zhichao.weighing.v1.record_pb2 import Axle, Driver, Plate, TransportPermit, Vehicle, WeighingRecord

Violation = tuple[str, str]

# Limits that the comments of record.proto state.
RECORD_ID_CHARACTERS_MAX: Final = 64
RESOURCE_ID_CHARACTERS_MAX: Final = 32
TEXT_CHARACTERS_MAX: Final = 64
PLATE_CHARACTERS_MAX: Final = 16
CONFIDENCE_MAX_PERMILLE: Final = 1_000
GROSS_WEIGHT_MIN_KG: Final = 500
GROSS_WEIGHT_MAX_KG: Final = 200_000
PERMITTED_MASS_MAX_KG: Final = 1_000_000
AXLES_MIN: Final = 2
AXLES_MAX: Final = 20
DRIVE_AXLES_MAX: Final = 4
DRIVER_NAME_CHARACTERS_MAX: Final = 64
PHONE_NUMBER_CHARACTERS_MAX: Final = 20
LICENSE_NUMBER_CHARACTERS_MAX: Final = 32

# A tare of 0 is an unset one; net may be 0 when nothing was loaded.
TARE_WEIGHT_MIN_KG: Final = 1
# The registered mass of the heaviest special vehicles is far below; a permit goes as far.
REGISTERED_MASS_MIN_KG: Final = 500
REGISTERED_MASS_MAX_KG: Final = 1_000_000
# Twice what the fastest truck does: slips of the sensor, not of a keyboard.
SPEED_MAX_KMH: Final = 200
# No site has as many; a larger number is another field's value.
LANE_MAX: Final = 32
# A lifted axle weighs 0. Half the largest gross weight on one axle is a fault of the scale.
AXLE_WEIGHT_MAX_KG: Final = 100_000
# Below 300 mm the tyres would overlap; above 30 m no trailer reaches.
AXLE_SPACING_MIN_MM: Final = 300
AXLE_SPACING_MAX_MM: Final = 30_000
# From a small farm vehicle to a long permitted transport.
LENGTH_MIN_MM: Final = 1_000
LENGTH_MAX_MM: Final = 100_000
WIDTH_HEIGHT_MIN_MM: Final = 500
WIDTH_HEIGHT_MAX_MM: Final = 15_000

# Clocks of terminals are bad, but beyond ten minutes ahead the time is worthless as evidence. A day behind is normal:
# backfill. Before 2010 no terminal of this kind existed: such a clock has lost its battery and starts at its epoch.
CLOCK_AHEAD_MAX_SECONDS: Final = 600
WEIGH_TIME_MIN_SECONDS: Final = 1_262_304_000
NANOS_MAX: Final = 999_999_999

_RECORD_ID_FORM: Final = rf"[A-Za-z0-9._:-]{{1,{RECORD_ID_CHARACTERS_MAX}}}"
_RESOURCE_ID_FORM: Final = rf"[A-Za-z0-9_-]{{1,{RESOURCE_ID_CHARACTERS_MAX}}}"
_is_record_id: Final = re.compile(_RECORD_ID_FORM).fullmatch
_is_resource_id: Final = re.compile(_RESOURCE_ID_FORM).fullmatch
# The four ids of a record in one match: no id can hold the space between them.
_are_ids: Final = re.compile(" ".join((_RECORD_ID_FORM, *[_RESOURCE_ID_FORM] * 3))).fullmatch
_is_phone_number: Final = re.compile(rf"(?=.{{1,{PHONE_NUMBER_CHARACTERS_MAX}}}\Z)\+?[0-9]+").fullmatch
_is_license_number: Final = re.compile(rf"[A-Za-z0-9]{{1,{LICENSE_NUMBER_CHARACTERS_MAX}}}").fullmatch
_are_group_codes: Final = re.compile(rf"[1-7]{{0,{AXLES_MAX}}}").fullmatch

# Control characters, line and paragraph separators, marks that turn the direction of text, lone surrogates: they make a
# line of a log or a page say something else than the record does, and PostgreSQL refuses NUL.
FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_SHOWN_CHARACTERS_MAX: Final = 40

_RECORD_ID_ACCEPTED: Final = f"it must be 1 to {RECORD_ID_CHARACTERS_MAX} characters of A-Z a-z 0-9 . _ : -"
_RESOURCE_ID_ACCEPTED: Final = f"it must be 1 to {RESOURCE_ID_CHARACTERS_MAX} characters of A-Z a-z 0-9 _ -"

_GROSS: Final = int(WeighingEvent.GROSS)
_TARE: Final = int(WeighingEvent.TARE)
_REWEIGH: Final = int(WeighingEvent.REWEIGH)
_VEHICLE_CLASS_MAX: Final = int(max(VehicleClass))
_COLOR_MAX: Final = int(max(PlateColor))
_TIRES_MAX: Final = int(max(TireArrangement))


def validate_record(
    record: "WeighingRecord", now_seconds: float, *, is_vehicle_checked: bool = False
) -> list[Violation] | None:
    """Check every field of a record; None when all are good, else each bad field with what is wrong, in English.

    `now_seconds` is the receiving platform's time in seconds since 1970. A field is named by its path from the record,
    for example `vehicle.axles[0].weight_kg`. Unknown fields are passed over: they travel on. `is_vehicle_checked` says
    that an equal vehicle was found good before. Never raises.
    """
    violations: list[Violation] = []
    has_field = record.HasField
    if not _are_ids(f"{record.record_id} {record.source_unit_id} {record.weighing_point_id} {record.scale_id}"):
        _check_ids(record, violations)

    weigh_time = record.weigh_time
    seconds = weigh_time.seconds
    if not (
        WEIGH_TIME_MIN_SECONDS <= seconds <= now_seconds + CLOCK_AHEAD_MAX_SECONDS
        and 0 <= weigh_time.nanos <= NANOS_MAX
    ):
        _check_weigh_time(record, now_seconds, violations)

    # Zero is what an absent field reads as: only where zero is no value, presence has to be asked for.
    if not GROSS_WEIGHT_MIN_KG <= record.gross_weight_kg <= GROSS_WEIGHT_MAX_KG:
        violations.append(
            _range("gross_weight_kg", record.gross_weight_kg, GROSS_WEIGHT_MIN_KG, GROSS_WEIGHT_MAX_KG, "kg")
        )
    tare_weight_kg = record.tare_weight_kg
    if not TARE_WEIGHT_MIN_KG <= tare_weight_kg <= GROSS_WEIGHT_MAX_KG and (
        tare_weight_kg or has_field("tare_weight_kg")
    ):
        violations.append(_range("tare_weight_kg", tare_weight_kg, TARE_WEIGHT_MIN_KG, GROSS_WEIGHT_MAX_KG, "kg"))
    if not 0 <= record.net_weight_kg <= GROSS_WEIGHT_MAX_KG:
        violations.append(_range("net_weight_kg", record.net_weight_kg, 0, GROSS_WEIGHT_MAX_KG, "kg"))
    if not 0 <= record.speed_kmh <= SPEED_MAX_KMH:
        violations.append(_range("speed_kmh", record.speed_kmh, 0, SPEED_MAX_KMH, "km/h"))
    lane = record.lane
    if not 1 <= lane <= LANE_MAX and (lane or has_field("lane")):
        violations.append(_range("lane", lane, 1, LANE_MAX, ""))

    event = record.event
    parent_record_id = record.parent_record_id
    if parent_record_id or (event != _GROSS and event != _TARE):  # noqa: PLR1714 - twice as fast as a set
        _check_event(record, violations)

    # What is short and printable together is so each.
    texts = record.visit_id + record.goods + record.loading_slip_number
    if len(texts) > TEXT_CHARACTERS_MAX or not texts.isprintable():
        for field in ("visit_id", "goods", "loading_slip_number"):
            _check_text(field, getattr(record, field), 0, TEXT_CHARACTERS_MAX, violations)

    if has_field("front_plate"):
        _check_plate("front_plate", record.front_plate, violations)
    if has_field("rear_plate"):
        _check_plate("rear_plate", record.rear_plate, violations)
    if not is_vehicle_checked and has_field("vehicle"):
        _check_vehicle(record.vehicle, violations)
    if has_field("transport_permit"):
        _check_permit(record.transport_permit, violations)
    if has_field("driver"):
        _check_driver(record.driver, violations)
    return violations or None


def _check_ids(record: "WeighingRecord", violations: list[Violation]) -> None:
    if not _is_record_id(record.record_id):
        violations.append(("record_id", f"is {_shown(record.record_id)}; {_RECORD_ID_ACCEPTED}"))
    for field, value in (
        ("source_unit_id", record.source_unit_id),
        ("weighing_point_id", record.weighing_point_id),
        ("scale_id", record.scale_id),
    ):
        if not _is_resource_id(value):
            violations.append((field, f"is {_shown(value)}; {_RESOURCE_ID_ACCEPTED}"))


def _check_weigh_time(record: "WeighingRecord", now_seconds: float, violations: list[Violation]) -> None:
    if not record.HasField("weigh_time"):
        violations.append(("weigh_time", "is absent; every record says when the weight was taken"))
        return
    seconds, nanos = record.weigh_time.seconds, record.weigh_time.nanos
    if not 0 <= nanos <= NANOS_MAX:
        violations.append(("weigh_time.nanos", f"is {nanos}; it must be 0 to {NANOS_MAX}"))
    latest_seconds = now_seconds + CLOCK_AHEAD_MAX_SECONDS
    if seconds < WEIGH_TIME_MIN_SECONDS:
        earliest = _instant(WEIGH_TIME_MIN_SECONDS)
        violations.append(("weigh_time", f"is {_instant(seconds)}; it must not be before {earliest}"))
    elif seconds > latest_seconds:
        accepted = f"it must not be after {_instant(latest_seconds)}, {CLOCK_AHEAD_MAX_SECONDS} s ahead of the platform"
        violations.append(("weigh_time", f"is {_instant(seconds)}; {accepted}: set the terminal's clock"))


def _check_event(record: "WeighingRecord", violations: list[Violation]) -> None:
    event, parent_record_id = record.event, record.parent_record_id
    if event not in (_TARE, _GROSS, _REWEIGH):
        violations.append(_enum("event", event, WeighingEvent, "WEIGHING_EVENT_", first=1))
    if not parent_record_id:
        if event == _REWEIGH:
            accepted = "a re-weigh (WEIGHING_EVENT_REWEIGH) names the record that it repeats"
            violations.append(("parent_record_id", f"is empty; {accepted}"))
        return
    shown = _shown(parent_record_id)
    if event != _REWEIGH:
        accepted = "it must be empty unless the event is WEIGHING_EVENT_REWEIGH"
        violations.append(("parent_record_id", f"is {shown}; {accepted}"))
    if not _is_record_id(parent_record_id):
        violations.append(("parent_record_id", f"is {shown}; {_RECORD_ID_ACCEPTED}"))
    elif parent_record_id == record.record_id:
        violations.append(("parent_record_id", f"is {shown}, the record itself; it must be an earlier record"))


def _check_plate(field: str, plate: "Plate", violations: list[Violation]) -> None:
    number = plate.number
    if not (number.isprintable() and 1 <= len(number) <= PLATE_CHARACTERS_MAX):
        _check_text(f"{field}.number", number, 1, PLATE_CHARACTERS_MAX, violations)
    if not 0 <= plate.color <= _COLOR_MAX:
        violations.append(_enum(f"{field}.color", plate.color, PlateColor, "PLATE_COLOR_"))
    raw_color_code = plate.raw_color_code
    if raw_color_code:
        _check_text(f"{field}.raw_color_code", raw_color_code, 0, PLATE_CHARACTERS_MAX, violations)
    if not 0 <= plate.confidence_permille <= CONFIDENCE_MAX_PERMILLE:
        violations.append(
            _range(f"{field}.confidence_permille", plate.confidence_permille, 0, CONFIDENCE_MAX_PERMILLE, "permille")
        )


def _check_vehicle(vehicle: "Vehicle", violations: list[Violation]) -> None:
    has_field = vehicle.HasField
    if not 0 <= vehicle.vehicle_class <= _VEHICLE_CLASS_MAX:
        violations.append(_enum("vehicle.vehicle_class", vehicle.vehicle_class, VehicleClass, "VEHICLE_CLASS_"))
    axle_count = vehicle.axle_count
    if not AXLES_MIN <= axle_count <= AXLES_MAX and (axle_count or has_field("axle_count")):
        violations.append(_range("vehicle.axle_count", axle_count, AXLES_MIN, AXLES_MAX, ""))
    drive_axle_count = vehicle.drive_axle_count
    if not 1 <= drive_axle_count <= DRIVE_AXLES_MAX and (drive_axle_count or has_field("drive_axle_count")):
        violations.append(_range("vehicle.drive_axle_count", drive_axle_count, 1, DRIVE_AXLES_MAX, ""))
    elif 0 < axle_count < drive_axle_count:
        violations.append(
            (
                "vehicle.drive_axle_count",
                f"is {drive_axle_count}; it must not be above vehicle.axle_count, which is {axle_count}",
            )
        )
    registered_mass_kg = vehicle.registered_mass_kg
    if not REGISTERED_MASS_MIN_KG <= registered_mass_kg <= REGISTERED_MASS_MAX_KG and (
        registered_mass_kg or has_field("registered_mass_kg")
    ):
        violations.append(
            _range(
                "vehicle.registered_mass_kg", registered_mass_kg, REGISTERED_MASS_MIN_KG, REGISTERED_MASS_MAX_KG, "kg"
            )
        )
    length_mm, width_mm, height_mm = vehicle.length_mm, vehicle.width_mm, vehicle.height_mm
    if not LENGTH_MIN_MM <= length_mm <= LENGTH_MAX_MM and (length_mm or has_field("length_mm")):
        violations.append(_range("vehicle.length_mm", length_mm, LENGTH_MIN_MM, LENGTH_MAX_MM, "mm"))
    if not WIDTH_HEIGHT_MIN_MM <= width_mm <= WIDTH_HEIGHT_MAX_MM and (width_mm or has_field("width_mm")):
        violations.append(_range("vehicle.width_mm", width_mm, WIDTH_HEIGHT_MIN_MM, WIDTH_HEIGHT_MAX_MM, "mm"))
    if not WIDTH_HEIGHT_MIN_MM <= height_mm <= WIDTH_HEIGHT_MAX_MM and (height_mm or has_field("height_mm")):
        violations.append(_range("vehicle.height_mm", height_mm, WIDTH_HEIGHT_MIN_MM, WIDTH_HEIGHT_MAX_MM, "mm"))
    codes = vehicle.axle_group_codes
    if codes and not (_are_group_codes(codes) and count_axles(codes) == axle_count):
        _check_group_codes(vehicle, violations)
    if vehicle.axles:
        _check_axles(vehicle, violations)


def _check_group_codes(vehicle: "Vehicle", violations: list[Violation]) -> None:
    codes, axle_count = vehicle.axle_group_codes, vehicle.axle_count
    field = "vehicle.axle_group_codes"
    if not _are_group_codes(codes):
        violations.append((field, f"is {_shown(codes)}; it must be up to {AXLES_MAX} digits 1 to 7"))
        return
    coded = count_axles(codes)
    if not AXLES_MIN <= coded <= AXLES_MAX:
        violations.append((field, f"is {codes}, which stands for {coded} axles; it must be {AXLES_MIN} to {AXLES_MAX}"))
    elif vehicle.HasField("axle_count") and coded != axle_count:
        violations.append(
            (field, f"is {codes}, which stands for {coded} axles, but vehicle.axle_count is {axle_count}")
        )
    elif vehicle.axles and coded != len(vehicle.axles) and not vehicle.HasField("axle_count"):
        violations.append(
            (field, f"is {codes}, which stands for {coded} axles, but vehicle.axles holds {len(vehicle.axles)}")
        )


def _check_axles(vehicle: "Vehicle", violations: list[Violation]) -> None:
    axles = vehicle.axles
    if not AXLES_MIN <= len(axles) <= AXLES_MAX:
        # Not gone through one by one: a message can hold millions.
        violations.append(("vehicle.axles", f"holds {len(axles)} axles; it must hold {AXLES_MIN} to {AXLES_MAX}"))
        return
    if len(axles) != vehicle.axle_count and vehicle.HasField("axle_count"):
        violations.append(
            ("vehicle.axles", f"holds {len(axles)} axles, but vehicle.axle_count is {vehicle.axle_count}")
        )
    for position, axle in enumerate(axles):
        weight_kg, spacing_mm = axle.weight_kg, axle.spacing_mm
        # The last axle has no spacing and always takes the longer way.
        if not (
            0 <= weight_kg <= AXLE_WEIGHT_MAX_KG
            and AXLE_SPACING_MIN_MM <= spacing_mm <= AXLE_SPACING_MAX_MM
            and 0 <= axle.tires <= _TIRES_MAX
        ):
            _check_axle(f"vehicle.axles[{position}]", axle, violations)
    if axles[-1].HasField("spacing_mm"):
        violations.append(
            (
                f"vehicle.axles[{len(axles) - 1}].spacing_mm",
                "is given for the last axle; it must be absent: no axle follows",
            )
        )


def _check_axle(field: str, axle: "Axle", violations: list[Violation]) -> None:
    if not 0 <= axle.weight_kg <= AXLE_WEIGHT_MAX_KG:
        violations.append(_range(f"{field}.weight_kg", axle.weight_kg, 0, AXLE_WEIGHT_MAX_KG, "kg"))
    spacing_mm = axle.spacing_mm
    if not AXLE_SPACING_MIN_MM <= spacing_mm <= AXLE_SPACING_MAX_MM and (spacing_mm or axle.HasField("spacing_mm")):
        violations.append(_range(f"{field}.spacing_mm", spacing_mm, AXLE_SPACING_MIN_MM, AXLE_SPACING_MAX_MM, "mm"))
    if not 0 <= axle.tires <= _TIRES_MAX:
        violations.append(_enum(f"{field}.tires", axle.tires, TireArrangement, "TIRE_ARRANGEMENT_"))


def _check_permit(permit: "TransportPermit", violations: list[Violation]) -> None:
    _check_text("transport_permit.number", permit.number, 1, TEXT_CHARACTERS_MAX, violations)
    if not GROSS_WEIGHT_MIN_KG <= permit.permitted_mass_kg <= PERMITTED_MASS_MAX_KG:
        violations.append(
            _range(
                "transport_permit.permitted_mass_kg",
                permit.permitted_mass_kg,
                GROSS_WEIGHT_MIN_KG,
                PERMITTED_MASS_MAX_KG,
                "kg",
            )
        )


def _check_driver(driver: "Driver", violations: list[Violation]) -> None:
    # What is wrong is said without the value: descriptions are shown to people and end up in files.
    name, phone_number, license_number = driver.name, driver.phone_number, driver.license_number
    if not 1 <= len(name) <= DRIVER_NAME_CHARACTERS_MAX or not name.strip():
        accepted = f"it must be 1 to {DRIVER_NAME_CHARACTERS_MAX}, not only spaces"
        violations.append(("driver.name", f"has {len(name)} characters; {accepted}"))
    if not name.isprintable() and FORBIDDEN.search(name):
        violations.append(("driver.name", "holds a control character"))
    if phone_number and not _is_phone_number(phone_number):
        accepted = f"it must be digits with an optional leading +, at most {PHONE_NUMBER_CHARACTERS_MAX} characters"
        violations.append(("driver.phone_number", f"has {len(phone_number)} characters; {accepted}"))
    if license_number and not _is_license_number(license_number):
        accepted = f"it must be at most {LICENSE_NUMBER_CHARACTERS_MAX} characters of A-Z a-z 0-9"
        violations.append(("driver.license_number", f"has {len(license_number)} characters; {accepted}"))


def _check_text(field: str, text: str, characters_min: int, characters_max: int, violations: list[Violation]) -> None:
    if not characters_min <= len(text) <= characters_max:
        violations.append(
            (field, f"is {_shown(text)}, {len(text)} characters; it must be {characters_min} to {characters_max}")
        )
    # isprintable() is quick but stricter: it also refuses the wide space, which Chinese text may hold.
    forbidden = None if text.isprintable() else FORBIDDEN.search(text)
    if forbidden:
        found = f"the control character U+{ord(forbidden.group()):04X} at position {forbidden.start() + 1}"
        violations.append((field, f"is {_shown(text)}; it must not hold {found}"))


def _range(field: str, value: int, least: int, most: int, unit: str) -> Violation:
    unit = f" {unit}" if unit else ""
    return field, f"is {value}{unit}; it must be {least} to {most}{unit}"


def _enum(field: str, value: int, values: Iterable[IntEnum], prefix: str, first: int = 0) -> Violation:
    accepted = ", ".join(f"{prefix}{member.name} ({member.value})" for member in values if member.value >= first)
    return field, f"is {value}; it must be one of {accepted}"


def _shown(text: str) -> str:
    """Quote a text for a description: escaped, so that it cannot forge one, and cut off."""
    start = text[:_SHOWN_CHARACTERS_MAX]
    return (repr(start) if start.isprintable() else ascii(start)) + ("…" if len(text) > _SHOWN_CHARACTERS_MAX else "")


def _instant(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f} s since 1970"
