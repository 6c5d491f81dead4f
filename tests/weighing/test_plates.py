"""Plates: normal form, and forms. All numbers are made up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.weighing.plates import (
    NO_PLATE_TEXTS,
    PROVINCES,
    PlateForm,
    has_known_form,
    normalize_plate,
    plate_form,
)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("晋L12345", "晋L12345"),
        ("晋l12a45", "晋L12A45"),
        (" 晋L 12345 ", "晋L12345"),
        ("晋L·12345", "晋L12345"),
        ("晋L•12345", "晋L12345"),
        ("晋L．12345", "晋L12345"),
        ("晋L.12345", "晋L12345"),
        ("晋L・12345", "晋L12345"),
        ("晋L\u300012345", "晋L12345"),
        ("晋L\u200b12345\ufeff", "晋L12345"),
        ("晋Ｌ１２３４５", "晋L12345"),
        ("晋l1234挂", "晋L1234挂"),
        ("", ""),
        (" · ", ""),
        ("无牌", ""),
        (" 无 牌 车 ", ""),
        ("unknown", ""),
        ("NULL", ""),
    ],
)
def test_normal_form(raw: str, expected: str) -> None:
    assert normalize_plate(raw) == expected


@given(st.text(max_size=16))
def test_normalising_twice_changes_nothing(raw: str) -> None:
    once = normalize_plate(raw)

    assert normalize_plate(once) == once


def test_no_character_needs_a_third_round() -> None:
    # Every character of Unicode by itself, surrogates too.
    once = [normalize_plate(chr(code)) for code in range(0x110000)]

    assert [normalize_plate(number) for number in once] == once


def test_texts_for_no_plate_are_in_normal_form() -> None:
    assert {normalize_plate(f" {text.lower()}") for text in NO_PLATE_TEXTS} == {""}


@pytest.mark.parametrize(
    ("number", "form"),
    [
        ("晋L12345", PlateForm.ORDINARY),
        ("晋FA1B2C", PlateForm.ORDINARY),
        ("晋AD12345", PlateForm.NEW_ENERGY_SMALL),
        ("晋AF1A234", None),
        ("晋AFA1234", PlateForm.NEW_ENERGY_SMALL),
        ("晋A12345D", PlateForm.NEW_ENERGY_LARGE),
        ("晋A12345F", PlateForm.NEW_ENERGY_LARGE),
        ("晋A12345Z", None),
        ("晋L1234挂", PlateForm.TRAILER),
        ("晋LA123挂", PlateForm.TRAILER),
        ("晋L123挂", None),
        ("晋L1234警", PlateForm.SPECIAL),
        ("晋L1234学", PlateForm.SPECIAL),
        ("晋L1234超", PlateForm.SPECIAL),
        ("粤Z1234港", PlateForm.SPECIAL),
        ("粤Z1234澳", PlateForm.SPECIAL),
        ("京A1234领", PlateForm.SPECIAL),
        ("晋X1234应急", PlateForm.EMERGENCY),
        ("WJ晋1234X", PlateForm.ARMED_POLICE),
        ("WJ0112345", None),
        ("WJ012345", PlateForm.ARMED_POLICE),
        ("VA12345", PlateForm.MILITARY),
        ("KB12345", PlateForm.MILITARY),
        ("北A12345", PlateForm.MILITARY),
        ("使123456", PlateForm.DIPLOMATIC),
        ("123456使", PlateForm.DIPLOMATIC),
        ("晋0112345", PlateForm.TRACTOR),
        # Not plates.
        ("", None),
        ("12345", None),
        ("L12345", None),
        ("晋12345", None),
        ("晋L1234", None),
        ("晋L123456", None),
        ("晋I12345", None),
        ("晋O12345", None),
        ("晋L1234O", None),
        ("晋L1234I", None),
        ("港L12345", None),
        ("晋l12345", None),
        ("晋L12345\n", None),
        ("晋L１２３４５", None),
    ],
)
def test_forms(number: str, form: PlateForm | None) -> None:
    assert (plate_form(number), has_known_form(number)) == (form, form is not None)


def test_every_province_has_plates() -> None:
    assert len(set(PROVINCES)) == 31
    assert {plate_form(f"{province}A12345") for province in PROVINCES} == {PlateForm.ORDINARY}


@given(st.text(max_size=40))
def test_looking_for_a_form_never_fails(text: str) -> None:
    assert has_known_form(text) == (plate_form(text) is not None)
