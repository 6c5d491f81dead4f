"""Rules about single resources: what is refused and what is only doubtful."""

from dataclasses import replace
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry import convert, domain
from services.registry.domain import CREDIT_CODE_ALPHABET, credit_code_check_character, credit_code_violation
from services.registry.forms import Violation
from tests.registry import examples
from zhichao.registry.v1 import resources_pb2 as pb

DIVISION = convert.division(examples.division())
UNIT = convert.source_unit(examples.source_unit())
SCALE = convert.scale(examples.scale())
CERTIFICATE = convert.verification_certificate(examples.verification_certificate())


def fields(found: list[Violation]) -> list[str]:
    return [violation.field for violation in found]


# GB 32100-2015, table 3: the weights as printed there.
WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)


def test_check_character_of_the_usual_worked_example() -> None:
    assert credit_code_check_character("91350100M000100Y43") == "3"


body = st.text(CREDIT_CODE_ALPHABET, min_size=17, max_size=17)


@given(body)
def test_check_character_with_the_printed_weights(code: str) -> None:
    values = [CREDIT_CODE_ALPHABET.index(character) for character in [*code, credit_code_check_character(code)]]
    assert sum(value * weight for value, weight in zip(values, (*WEIGHTS, 1), strict=True)) % 31 == 0


@given(body, st.integers(0, 16), st.sampled_from(CREDIT_CODE_ALPHABET))
def test_check_character_finds_every_single_slip(code: str, position: int, other: str) -> None:
    slipped = code[:position] + other + code[position + 1 :]
    assert (credit_code_check_character(code) == credit_code_check_character(slipped)) is (code == slipped)


@given(body)
def test_any_code_of_the_alphabet_has_the_right_form(code: str) -> None:
    assert credit_code_violation(code + credit_code_check_character(code)) == ""


@pytest.mark.parametrize("code", ["", "9" * 17, "9" * 19, "9" * 17 + "I", "9" * 17 + "o", "９" * 18])
def test_credit_codes_of_another_form_are_refused(code: str) -> None:
    assert credit_code_violation(code) != ""


def test_a_missing_credit_code_is_doubtful_from_publicity_on() -> None:
    assert fields(replace(UNIT, credit_code="").doubts()) == ["credit_code"]
    assert replace(UNIT, credit_code="", state=domain.SourceUnitState.SURVEYED).doubts() == []


@pytest.mark.parametrize(
    ("code", "level", "parent"),
    [("140000", 1, ""), ("140600", 2, "140000"), ("141025", 3, "141000"), ("429004", 3, "420000")],
)
def test_divisions_of_the_standard_are_taken_without_doubt(code: str, level: int, parent: str) -> None:
    division = replace(DIVISION, division_code=code, level=level, parent_code=parent)
    assert (division.violations(), division.doubts()) == ([], [])


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"level": 0}, ["level"]),
        ({"level": 4}, ["level"]),
        ({"level": domain.DivisionLevel.CITY}, ["level"]),
        ({"parent_code": ""}, ["parent_code"]),
        ({"division_code": "140000", "level": 1}, ["parent_code"]),
        ({"successor_code": "141025"}, ["successor_code"]),
        ({"valid_until": "1971-01-01"}, ["valid_until"]),
        ({"valid_from": "1971-02-30", "valid_until": "1"}, ["valid_from", "valid_until"]),
        ({"division_code": "", "name": "a" * 65, "level": 9}, ["division_code", "name", "level"]),
    ],
)
def test_divisions_that_are_refused(changes: dict[str, object], wrong: list[str]) -> None:
    assert fields(replace(DIVISION, **changes).violations()) == wrong  # type: ignore[arg-type]  # wrong or untyped on purpose


def test_an_extra_zone_may_have_any_code_and_parent() -> None:
    zone = replace(DIVISION, division_code="140671", parent_code="140602", is_extra_zone=True)
    assert (zone.violations(), zone.doubts()) == ([], [])
    assert fields(replace(zone, is_extra_zone=False).doubts()) == ["parent_code"]


def test_a_successor_without_an_end_is_doubtful() -> None:
    assert fields(replace(DIVISION, successor_code="141099").doubts()) == ["valid_until"]


@pytest.mark.parametrize(
    ("latitude", "longitude", "wrong", "doubtful"),
    [
        (36.0, 112.0, [], []),
        (112.0, 36.0, ["location.latitude_degrees"], []),
        (-90.0, 180.0, [], ["location"]),
        (36.0, 12.0, [], ["location"]),
        (float("nan"), float("inf"), ["location.latitude_degrees", "location.longitude_degrees"], []),
    ],
)
def test_places(latitude: float, longitude: float, wrong: list[str], doubtful: list[str]) -> None:
    unit = replace(UNIT, location=domain.GeoPoint(latitude, longitude))
    assert fields(unit.violations()) == wrong
    if not wrong:
        assert fields(unit.doubts()) == doubtful


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"kind": 0}, ["kind"]),
        ({"capacity_kg": 999}, ["capacity_kg"]),
        ({"capacity_kg": 1_000_001}, ["capacity_kg"]),
        ({"division_kg": 0}, ["division_kg"]),
        ({"division_kg": None}, []),
        ({"accuracy_class": "a" * 17, "model": "a" * 129, "serial_number": "a" * 65},
         ["accuracy_class", "model", "serial_number"]),
    ],
)  # fmt: skip
def test_scales(changes: dict[str, object], wrong: list[str]) -> None:
    assert fields(replace(SCALE, **changes).violations()) == wrong  # type: ignore[arg-type]  # wrong or untyped on purpose


@pytest.mark.parametrize(
    ("valid_from", "valid_until", "wrong", "doubtful"),
    [
        ("2025-01-10", "2025-01-10", [], []),
        ("2024-01-01", "2024-12-31", [], []),
        ("2025-01-10", "2026-01-11", [], ["valid_until"]),
        ("2025-01-10", "2025-01-09", ["valid_until"], []),
        ("", "2025-01-09", ["valid_from"], []),
        ("2025-01-10", "", ["valid_until"], []),
    ],
)
def test_certificates(valid_from: str, valid_until: str, wrong: list[str], doubtful: list[str]) -> None:
    certificate = replace(CERTIFICATE, valid_from=valid_from, valid_until=valid_until)
    assert fields(certificate.violations()) == wrong
    if not wrong:
        assert fields(certificate.doubts()) == doubtful


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (domain.DivisionLevel, pb.DivisionLevel),
        (domain.SourceUnitKind, pb.SourceUnitKind),
        (domain.SourceUnitState, pb.SourceUnitState),
        (domain.ScaleKind, pb.ScaleKind),
    ],
)
def test_numbers_are_those_of_the_contract(ours: type[IntEnum], theirs: Any) -> None:
    assert {member.value for member in ours} | {0} == set(theirs.values())
