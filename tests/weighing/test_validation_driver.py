"""Field checks of the driver, which never say what they have seen: it is personal data."""

import pytest

from services.weighing.validation import Violation, validate_record
from zhichao.weighing.v1 import record_pb2 as pb

WEIGH_SECONDS = 1_750_000_000


def violations(**driver: str) -> list[Violation]:
    record = pb.WeighingRecord(
        record_id="1",
        source_unit_id="u",
        weighing_point_id="p",
        scale_id="s",
        event=pb.WEIGHING_EVENT_GROSS,
        gross_weight_kg=40_000,
        driver=pb.Driver(**({"name": "王某"} | driver)),
    )
    record.weigh_time.seconds = WEIGH_SECONDS
    return validate_record(record, WEIGH_SECONDS) or []


def fields(**driver: str) -> list[str]:
    return [field for field, _ in violations(**driver)]


@pytest.mark.parametrize(
    ("name", "is_good"),
    [
        ("", False),
        (" ", False),
        ("王", True),
        ("买买提·吐尔逊", True),
        ("王" * 64, True),
        ("王" * 65, False),
        ("王\n某", False),
        ("\u202e王", False),
    ],
)
def test_name(name: str, is_good: bool) -> None:
    assert fields(name=name) == ([] if is_good else ["driver.name"])


@pytest.mark.parametrize(
    ("phone_number", "is_good"),
    [
        ("", True),
        ("13800000000", True),
        ("+8613800000000", True),
        ("1" * 20, True),
        ("+" + "1" * 20, False),
        ("1" * 21, False),
        ("+", False),
        ("138-0000-0000", False),
        ("１３８00000000", False),
        ("13800000000\n", False),
    ],
)
def test_phone_number(phone_number: str, is_good: bool) -> None:
    assert fields(phone_number=phone_number) == ([] if is_good else ["driver.phone_number"])


@pytest.mark.parametrize(
    ("license_number", "is_good"),
    [
        ("", True),
        ("140000190001010000", True),
        ("14000019000101000X", True),
        ("1" * 32, True),
        ("1" * 33, False),
        ("1 2", False),
        ("证1", False),
    ],
)
def test_license_number(license_number: str, is_good: bool) -> None:
    assert fields(license_number=license_number) == ([] if is_good else ["driver.license_number"])


def test_every_bad_field_is_named_and_none_is_repeated() -> None:
    found = violations(name="某" * 70, phone_number="no number", license_number="no licence")

    assert [field for field, _ in found] == ["driver.name", "driver.phone_number", "driver.license_number"]
    assert not any(value in description for _, description in found for value in ("某", "no number", "no licence"))


def test_a_record_without_a_driver_is_good() -> None:
    record = pb.WeighingRecord(
        record_id="1",
        source_unit_id="u",
        weighing_point_id="p",
        scale_id="s",
        event=pb.WEIGHING_EVENT_GROSS,
        gross_weight_kg=40_000,
    )
    record.weigh_time.seconds = WEIGH_SECONDS

    assert validate_record(record, WEIGH_SECONDS) is None
