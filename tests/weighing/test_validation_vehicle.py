"""Field checks of a vehicle's axles: how many there are, which are driven, and codes that agree with them."""

import pytest

from services.weighing.validation import Violation, validate_record
from zhichao.weighing.v1 import record_pb2 as pb

WEIGH_SECONDS = 1_750_000_000


def violations(vehicle: pb.Vehicle) -> list[Violation]:
    record = pb.WeighingRecord(
        record_id="1",
        source_unit_id="u",
        weighing_point_id="p",
        scale_id="s",
        event=pb.WEIGHING_EVENT_GROSS,
        gross_weight_kg=40_000,
        vehicle=vehicle,
    )
    record.weigh_time.seconds = WEIGH_SECONDS
    return validate_record(record, WEIGH_SECONDS) or []


def fields(vehicle: pb.Vehicle) -> list[str]:
    return [field for field, _ in violations(vehicle)]


@pytest.mark.parametrize(("axle_count", "is_good"), [(0, False), (1, False), (2, True), (20, True), (21, False)])
def test_axle_count(axle_count: int, is_good: bool) -> None:
    assert fields(pb.Vehicle(axle_count=axle_count)) == ([] if is_good else ["vehicle.axle_count"])


@pytest.mark.parametrize(("drive_axle_count", "is_good"), [(0, False), (1, True), (4, True), (5, False)])
def test_drive_axle_count(drive_axle_count: int, is_good: bool) -> None:
    found = fields(pb.Vehicle(drive_axle_count=drive_axle_count))

    assert found == ([] if is_good else ["vehicle.drive_axle_count"])


def test_no_more_axles_are_driven_than_there_are() -> None:
    assert fields(pb.Vehicle(axle_count=3, drive_axle_count=3)) == []
    assert violations(pb.Vehicle(axle_count=3, drive_axle_count=4)) == [
        ("vehicle.drive_axle_count", "is 4; it must not be above vehicle.axle_count, which is 3")
    ]


@pytest.mark.parametrize(
    ("codes", "axle_count", "is_good"),
    [
        ("157", 6, True),
        ("157", None, True),
        ("157", 5, False),
        ("1", None, False),
        ("08", None, False),
        ("1a", None, False),
        ("1５", None, False),
        ("1" * 20, 20, True),
        ("1" * 21, None, False),
        ("7" * 7, None, False),
        ("1\x00", None, False),
    ],
)
def test_group_codes(codes: str, axle_count: int | None, is_good: bool) -> None:
    found = fields(pb.Vehicle(axle_group_codes=codes, axle_count=axle_count))

    assert found == ([] if is_good else ["vehicle.axle_group_codes"])


def test_codes_that_contradict_the_axle_count_are_told_both() -> None:
    assert violations(pb.Vehicle(axle_group_codes="157", axle_count=5)) == [
        ("vehicle.axle_group_codes", "is 157, which stands for 6 axles, but vehicle.axle_count is 5")
    ]


@pytest.mark.parametrize(
    ("number", "axle_count", "codes", "expected"),
    [
        (2, 2, "", []),
        (20, 20, "", []),
        (6, None, "157", []),
        (2, None, "", []),
        (1, None, "", ["vehicle.axles"]),
        (21, None, "", ["vehicle.axles"]),
        (3, 2, "", ["vehicle.axles"]),
        (5, None, "157", ["vehicle.axle_group_codes"]),
        (5, 6, "157", ["vehicle.axles"]),
    ],
)
def test_number_of_axles(number: int, axle_count: int | None, codes: str, expected: list[str]) -> None:
    axles = [pb.Axle(weight_kg=5_000)] * number

    assert fields(pb.Vehicle(axles=axles, axle_count=axle_count, axle_group_codes=codes)) == expected


def test_too_many_axles_are_not_gone_through() -> None:
    assert fields(pb.Vehicle(axles=[pb.Axle(weight_kg=-1)] * 100_000)) == ["vehicle.axles"]


def test_the_last_axle_has_no_spacing() -> None:
    axles = [pb.Axle(spacing_mm=3_300), pb.Axle(spacing_mm=1_300)]

    assert violations(pb.Vehicle(axles=axles)) == [
        ("vehicle.axles[1].spacing_mm", "is given for the last axle; it must be absent: no axle follows")
    ]
