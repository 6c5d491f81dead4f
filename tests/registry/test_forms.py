"""Forms of single fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry import forms


@pytest.mark.parametrize("value", ["2025-01-31", "2024-02-29", forms.DATE_MIN, forms.DATE_MAX])
def test_days_of_the_calendar_are_taken(value: str) -> None:
    assert forms.day(value) == ""


@pytest.mark.parametrize(
    "value",
    [
        "",
        "2025-02-29",
        "2025-13-01",
        "2025-1-1",
        "20250101",
        "2025-W01-1",
        "0025-01-01",
        "9999-12-31",
        "２０２５-01-01",
        "2025-01-01\n",
        "2025-01-01T00:00",
    ],
)
def test_other_texts_are_no_days(value: str) -> None:
    assert forms.day(value) != ""


@pytest.mark.parametrize("value", ["", "14102", "1410255", "14102a", "１４１０２５", "141025\n", " 141025"])
def test_division_codes_are_six_digits(value: str) -> None:
    assert forms.division_code("141025") == ""
    assert forms.division_code(value) != ""


@pytest.mark.parametrize("value", ["", "a" * 33, "a b", "煤矿", "a/b", "a\n", "a.b"])
def test_ids_are_plain_and_short(value: str) -> None:
    assert forms.identifier("a" * 32) == ""
    assert forms.identifier(value) != ""


@pytest.mark.parametrize("character", ["\0", "\n", "\t", "\x7f", "\x85", "\u2028", "\u202e", "\u2066", "\u200f"])
def test_characters_that_break_displays_are_refused(character: str) -> None:
    assert f"U+{ord(character):04X}" in forms.text(f"a{character}b", 64, is_required=True)


@pytest.mark.parametrize("value", ["示例煤矿（一号井）", "O'Neill & Söhne", "𠮷", "a\u200db"])
def test_names_of_the_world_are_taken(value: str) -> None:
    assert forms.text(value, 64, is_required=True) == ""


@pytest.mark.parametrize(
    ("value", "is_required", "is_right"), [("", True, False), ("", False, True), (" a", True, False)]
)
def test_text_that_is_empty_or_padded(value: str, is_required: bool, is_right: bool) -> None:
    assert (forms.text(value, 64, is_required=is_required) == "") is is_right


@given(st.text(min_size=65, max_size=80))
def test_text_over_the_limit_is_refused(value: str) -> None:
    assert "at most 64" in forms.text(value, 64, is_required=False)


@given(st.text())
def test_every_check_answers_for_any_text(value: str) -> None:
    for form in (forms.division_code, forms.identifier, forms.rule_set_id, forms.day, forms.required_text(64)):
        assert isinstance(form(value), str)
