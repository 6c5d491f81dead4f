"""Field checks of a record: every limit at both ends, several violations at once, and nothing that makes them fail."""

import pytest

from services.weighing.validation import CLOCK_AHEAD_MAX_SECONDS, WEIGH_TIME_MIN_SECONDS, validate_record
from tests.weighing.full_record import NOW_SECONDS, Change, as_field, changed, fields, good, setting
from zhichao.weighing.v1 import record_pb2 as pb


def test_a_full_record_is_good() -> None:
    assert validate_record(good(), NOW_SECONDS) is None


def test_a_record_of_required_fields_alone_is_good() -> None:
    record = pb.WeighingRecord(
        record_id="1", source_unit_id="u", weighing_point_id="p", scale_id="s", gross_weight_kg=500
    )
    record.event = pb.WEIGHING_EVENT_TARE
    record.weigh_time.seconds = WEIGH_TIME_MIN_SECONDS

    assert validate_record(record, NOW_SECONDS) is None


def test_an_empty_record_has_every_required_field_wrong() -> None:
    assert fields(pb.WeighingRecord()) == [
        "record_id",
        "source_unit_id",
        "weighing_point_id",
        "scale_id",
        "weigh_time",
        "gross_weight_kg",
        "event",
    ]


def test_a_vehicle_found_good_before_is_not_checked_again() -> None:
    record = changed(setting("vehicle.axle_count", 99))
    record.goods = "\x00"

    assert validate_record(record, NOW_SECONDS, is_vehicle_checked=True) == [
        ("goods", "is '\\x00'; it must not hold the control character U+0000 at position 1")
    ]


def test_empty_parts_have_their_required_fields_wrong() -> None:
    record = good()
    record.front_plate.Clear()
    record.transport_permit.Clear()
    record.vehicle.Clear()

    assert fields(record) == ["front_plate.number", "transport_permit.number", "transport_permit.permitted_mass_kg"]


# Numbers: least and most are accepted, one beyond is not. Where 0 is no value, an explicit 0 is refused.

RANGES = [
    ("gross_weight_kg", 500, 200_000),
    ("tare_weight_kg", 1, 200_000),
    ("net_weight_kg", 0, 200_000),
    ("speed_kmh", 0, 200),
    ("lane", 1, 32),
    ("front_plate.confidence_permille", 0, 1_000),
    ("rear_plate.confidence_permille", 0, 1_000),
    ("vehicle.registered_mass_kg", 500, 1_000_000),
    ("vehicle.length_mm", 1_000, 100_000),
    ("vehicle.width_mm", 500, 15_000),
    ("vehicle.height_mm", 500, 15_000),
    ("vehicle.axles.0.weight_kg", 0, 100_000),
    ("vehicle.axles.1.spacing_mm", 300, 30_000),
    ("transport_permit.permitted_mass_kg", 500, 1_000_000),
]


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, *ends in RANGES for value in ends])
def test_ends_of_a_range_are_good(path: str, value: int) -> None:
    assert fields(changed(setting(path, value))) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [(path, value) for path, least, most in RANGES for value in (least - 1, most + 1, 0 if least else -1, -(2**31))],
)
def test_beyond_a_range_is_wrong(path: str, value: int) -> None:
    assert fields(changed(setting(path, value))) == [as_field(path)]


def test_a_description_names_the_value_and_what_is_accepted() -> None:
    found = validate_record(changed(setting("gross_weight_kg", 499)), NOW_SECONDS)

    assert found == [("gross_weight_kg", "is 499 kg; it must be 500 to 200000 kg")]


# Ids.


@pytest.mark.parametrize("record_id", ["a", "A-z.0_9:-", "x" * 64])
def test_good_record_ids(record_id: str) -> None:
    assert fields(changed(setting("record_id", record_id))) == []


@pytest.mark.parametrize("record_id", ["", "x" * 65, "a b", "a/b", "记录", "a\n", "a\x00", "１"])
def test_bad_record_ids(record_id: str) -> None:
    assert fields(changed(setting("record_id", record_id))) == ["record_id"]


@pytest.mark.parametrize("field", ["source_unit_id", "weighing_point_id", "scale_id"])
@pytest.mark.parametrize(
    ("value", "wrong"),
    [("a", False), ("A-z_09", False), ("x" * 32, False), ("", True), ("x" * 33, True), ("a.b", True), ("a b", True)],
)
def test_ids_of_resources(field: str, value: str, wrong: bool) -> None:
    assert fields(changed(setting(field, value))) == ([field] if wrong else [])


def test_ids_cannot_hide_in_each_other() -> None:
    record = good()
    record.record_id = "a b"
    record.source_unit_id = ""

    assert fields(record) == ["record_id", "source_unit_id"]


# Time.


def at(seconds: int, nanos: int = 0) -> Change:
    def change(record: pb.WeighingRecord) -> None:
        record.weigh_time.seconds = seconds
        record.weigh_time.nanos = nanos

    return change


@pytest.mark.parametrize("seconds", [WEIGH_TIME_MIN_SECONDS, 1_750_000_000 + CLOCK_AHEAD_MAX_SECONDS])
def test_times_that_are_good(seconds: int) -> None:
    assert fields(changed(at(seconds, 999_999_999))) == []


@pytest.mark.parametrize(
    "seconds",
    [WEIGH_TIME_MIN_SECONDS - 1, 1_750_000_001 + CLOCK_AHEAD_MAX_SECONDS, 0, -1, 2**63 - 1, -(2**63), 253_402_300_800],
)
def test_times_that_are_wrong(seconds: int) -> None:
    assert fields(changed(at(seconds))) == ["weigh_time"]


@pytest.mark.parametrize("nanos", [-1, 1_000_000_000])
def test_nanos_that_are_wrong(nanos: int) -> None:
    assert fields(changed(at(1_750_000_000, nanos))) == ["weigh_time.nanos"]


def test_an_absent_time_is_named_as_absent() -> None:
    record = good()
    record.ClearField("weigh_time")

    assert validate_record(record, NOW_SECONDS) == [
        ("weigh_time", "is absent; every record says when the weight was taken")
    ]


def test_a_clock_ahead_is_told_what_to_do() -> None:
    found = validate_record(changed(at(1_750_001_000)), NOW_SECONDS)

    accepted = "it must not be after 2025-06-15T15:16:40Z, 600 s ahead of the platform"
    assert found == [("weigh_time", f"is 2025-06-15T15:23:20Z; {accepted}: set the terminal's clock")]


# Event and parent.


@pytest.mark.parametrize(
    ("event", "parent_record_id", "expected"),
    [
        (pb.WEIGHING_EVENT_TARE, "", []),
        (pb.WEIGHING_EVENT_GROSS, "", []),
        (pb.WEIGHING_EVENT_REWEIGH, "first-1", []),
        (pb.WEIGHING_EVENT_REWEIGH, "", ["parent_record_id"]),
        (pb.WEIGHING_EVENT_REWEIGH, "a b", ["parent_record_id"]),
        (pb.WEIGHING_EVENT_REWEIGH, "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", ["parent_record_id"]),
        (pb.WEIGHING_EVENT_GROSS, "first-1", ["parent_record_id"]),
        (pb.WEIGHING_EVENT_TARE, "first-1", ["parent_record_id"]),
        (pb.WEIGHING_EVENT_UNSPECIFIED, "", ["event"]),
        (4, "", ["event"]),
        (-1, "first-1", ["event", "parent_record_id"]),
        (pb.WEIGHING_EVENT_GROSS, "a b", ["parent_record_id", "parent_record_id"]),
    ],
)
def test_event_and_parent(event: pb.WeighingEvent.ValueType, parent_record_id: str, expected: list[str]) -> None:
    record = good()
    record.event = event
    record.parent_record_id = parent_record_id

    assert fields(record) == expected


def test_an_unknown_event_is_told_the_known_ones() -> None:
    found = validate_record(changed(setting("event", 7)), NOW_SECONDS)

    assert found == [
        (
            "event",
            "is 7; it must be one of WEIGHING_EVENT_TARE (1), WEIGHING_EVENT_GROSS (2), WEIGHING_EVENT_REWEIGH (3)",
        )
    ]


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("vehicle.vehicle_class", max(pb.VehicleClass.values())),
        ("front_plate.color", max(pb.PlateColor.values())),
        ("rear_plate.color", max(pb.PlateColor.values())),
        ("vehicle.axles.2.tires", max(pb.TireArrangement.values())),
    ],
)
def test_enums(path: str, most: int) -> None:
    assert [fields(changed(setting(path, value))) for value in range(most + 1)] == [[]] * (most + 1)
    assert [fields(changed(setting(path, value))) for value in (-1, most + 1)] == [[as_field(path)]] * 2


# Several at once.


def test_all_violations_are_found_at_once() -> None:
    record = good()
    for change in (
        setting("record_id", ""),
        setting("scale_id", "a b"),
        setting("gross_weight_kg", 499),
        setting("event", 9),
        setting("goods", "\x00"),
        setting("front_plate.color", 99),
        setting("front_plate.confidence_permille", 1_001),
        setting("vehicle.axles.0.weight_kg", -1),
        setting("vehicle.axles.0.tires", 9),
        setting("vehicle.axles.1.spacing_mm", 1),
        setting("transport_permit.permitted_mass_kg", 0),
        at(0),
    ):
        change(record)

    assert fields(record) == [
        "record_id",
        "scale_id",
        "weigh_time",
        "gross_weight_kg",
        "event",
        "goods",
        "front_plate.color",
        "front_plate.confidence_permille",
        "vehicle.axles[0].weight_kg",
        "vehicle.axles[0].tires",
        "vehicle.axles[1].spacing_mm",
        "transport_permit.permitted_mass_kg",
    ]


def test_checking_changes_nothing() -> None:
    record = pb.WeighingRecord()
    validate_record(record, NOW_SECONDS)

    assert record.SerializeToString() == b""


def test_unknown_fields_are_passed_over() -> None:
    # Field 1000, a varint.
    record = pb.WeighingRecord.FromString(good().SerializeToString() + b"\xc0\x3e\x01")

    assert validate_record(record, NOW_SECONDS) is None
