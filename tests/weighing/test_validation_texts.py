"""Field checks of texts: their lengths at both ends, and characters that they must not hold."""

import pytest

from services.weighing.validation import validate_record
from tests.weighing.full_record import NOW_SECONDS, changed, fields, good, setting
from zhichao.weighing.v1 import record_pb2 as pb

TEXTS = [
    ("goods", 0, 64),
    ("visit_id", 0, 64),
    ("loading_slip_number", 0, 64),
    ("front_plate.number", 1, 16),
    ("rear_plate.number", 1, 16),
    ("front_plate.raw_color_code", 0, 16),
    ("transport_permit.number", 1, 64),
]


@pytest.mark.parametrize(("path", "length"), [(path, length) for path, *ends in TEXTS for length in ends])
def test_texts_of_good_length(path: str, length: int) -> None:
    assert fields(changed(setting(path, "煤" * length))) == []


@pytest.mark.parametrize(
    ("path", "length"),
    [(path, most + 1) for path, _, most in TEXTS] + [(path, 0) for path, least, _ in TEXTS if least],
)
def test_texts_of_wrong_length(path: str, length: int) -> None:
    assert fields(changed(setting(path, "煤" * length))) == [path]


@pytest.mark.parametrize("path", [path for path, *_ in TEXTS])
@pytest.mark.parametrize("character", ["\x00", "\n", "\x1b", "\x7f", "\x85", "\u2028", "\u202e", "\u2066"])
def test_control_characters(path: str, character: str) -> None:
    text = f"ab{character}c"
    name = f"U+{ord(character):04X}"

    assert validate_record(changed(setting(path, text)), NOW_SECONDS) == [
        (path, f"is {text!a}; it must not hold the control character {name} at position 3")
    ]


@pytest.mark.parametrize("text", ["原煤\u3000", "é", "👍", "\u200b", "\ue000"])
def test_other_characters_are_good(text: str) -> None:
    assert fields(changed(setting("goods", text))) == []


def test_lone_surrogates_are_refused_wherever_they_come_from() -> None:
    class Record:
        """A record that the generated class refuses to hold; another runtime may not."""

        def __init__(self, record: pb.WeighingRecord) -> None:
            self._record = record

        def __getattr__(self, name: str) -> object:
            return "a\ud800" if name == "goods" else getattr(self._record, name)

    found = validate_record(Record(good()), NOW_SECONDS)  # type: ignore[arg-type]  # wrong or untyped on purpose

    assert found == [("goods", "is 'a\\ud800'; it must not hold the control character U+D800 at position 2")]


def test_a_long_value_is_not_repeated_whole() -> None:
    found = validate_record(changed(setting("goods", "煤" * 1_000)), NOW_SECONDS)

    assert found == [("goods", f"is '{'煤' * 40}'…, 1000 characters; it must be 0 to 64")]
