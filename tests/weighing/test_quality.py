"""Quality flags: each doubt by itself, at its boundary, and all together."""

from typing import Any

import pytest

from services.weighing.limits import VehicleClass
from services.weighing.quality import QualityFlag, find_quality_flags

GOOD: dict[str, Any] = {
    "front_plate": "晋L12345",
    "rear_plate": "晋L1234挂",
    "vehicle_class": VehicleClass.ARTICULATED,
    "gross_weight_kg": 40_000,
    "tare_weight_kg": 15_000,
    "net_weight_kg": 25_000,
    "axle_weight_sum_kg": 40_000,
    "capacity_kg": 100_000,
    "has_certificate": True,
    "weigh_seconds": 1_000.0,
    "receive_seconds": 1_010.0,
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"front_plate": "", "rear_plate": ""}, [QualityFlag.NO_PLATE]),
        ({"front_plate": ""}, []),
        ({"rear_plate": ""}, []),
        ({"front_plate": "晋L123"}, [QualityFlag.PLATE_FORM]),
        ({"rear_plate": "晋L123挂"}, [QualityFlag.PLATE_FORM]),
        ({"front_plate": "", "rear_plate": "1234"}, [QualityFlag.PLATE_FORM]),
        ({"axle_weight_sum_kg": 42_000}, []),
        ({"axle_weight_sum_kg": 42_001}, [QualityFlag.AXLE_SUM]),
        ({"axle_weight_sum_kg": 37_999}, [QualityFlag.AXLE_SUM]),
        ({"axle_weight_sum_kg": None}, []),
        ({"has_certificate": False}, [QualityFlag.NO_CERTIFICATE]),
        ({"capacity_kg": 40_000}, []),
        ({"capacity_kg": 39_999}, [QualityFlag.ABOVE_CAPACITY]),
        ({"capacity_kg": None}, []),
        ({"receive_seconds": 1_000.0}, []),
        ({"receive_seconds": 999.9}, [QualityFlag.CLOCK_AHEAD]),
        ({"receive_seconds": 1_600.0}, []),
        ({"receive_seconds": 1_600.1}, [QualityFlag.LATE]),
        ({"net_weight_kg": 25_020}, []),
        ({"net_weight_kg": 25_021}, [QualityFlag.NET_SUM]),
        ({"net_weight_kg": 24_979}, [QualityFlag.NET_SUM]),
        ({"tare_weight_kg": None, "net_weight_kg": 1}, []),
        ({"tare_weight_kg": 1, "net_weight_kg": None}, []),
        ({"vehicle_class": VehicleClass.RIGID_TRUCK}, [QualityFlag.PLATES_DIFFER]),
        ({"vehicle_class": VehicleClass.RIGID_TRUCK, "rear_plate": "晋L12345"}, []),
        ({"vehicle_class": VehicleClass.RIGID_TRUCK, "rear_plate": ""}, []),
        ({"vehicle_class": VehicleClass.UNSPECIFIED}, []),
    ],
)
def test_each_doubt(changes: dict[str, Any], expected: list[QualityFlag]) -> None:
    assert find_quality_flags(**{**GOOD, **changes}) == tuple(expected)


def test_all_doubts_at_once_in_the_order_of_their_numbers() -> None:
    found = find_quality_flags("x", "y", VehicleClass.RIGID_TRUCK, 40_000, 1, 1, 1, 1, False, 0.0, 601.0)

    assert found == (
        QualityFlag.PLATE_FORM,
        QualityFlag.AXLE_SUM,
        QualityFlag.NO_CERTIFICATE,
        QualityFlag.ABOVE_CAPACITY,
        QualityFlag.LATE,
        QualityFlag.NET_SUM,
        QualityFlag.PLATES_DIFFER,
    )
