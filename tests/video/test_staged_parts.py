"""Parts of an upload: all of it, once, in order; and names that people and programs read."""

from hypothesis import given
from hypothesis import strategies as st

from services.video.limits import SIZE_BYTES_MAX
from services.video.staged_parts import NAMED_PARTS_CHARACTERS_MAX, PART_BYTES, Part, missing, named, parts_of

sizes = st.integers(1, 1 << 20)


@given(sizes, st.integers(1 << 10, 1 << 20))
def test_parts_are_the_whole_in_order(size: int, part_bytes: int) -> None:
    parts = parts_of(size, part_bytes)
    assert [part.part_number for part in parts] == list(range(1, len(parts) + 1))
    ends = [part.offset + part.size_bytes for part in parts]
    assert [part.offset for part in parts] == [0, *ends[:-1]]
    assert ends[-1] == size
    # Stores take small ones only at the end.
    assert {part.size_bytes for part in parts[:-1]} <= {part_bytes}


def test_the_longest_evidence_has_as_many_parts_as_stores_take() -> None:
    assert len(parts_of(SIZE_BYTES_MAX, PART_BYTES)) == 512


@given(sizes, st.data())
def test_what_is_missing_is_what_is_not_there_in_its_size(size: int, data: st.DataObject) -> None:
    parts = parts_of(size, 1 << 14)
    there = data.draw(st.sets(st.sampled_from(parts)))
    wrong = data.draw(st.sets(st.sampled_from(parts))) - there
    stored = {part.part_number: part.size_bytes for part in there}
    stored |= {part.part_number: part.size_bytes + 1 for part in wrong} | {len(parts) + 1: 1 << 14}
    assert missing(parts, stored) == [part for part in parts if part not in there]


def numbers_in(text: str) -> list[int]:
    spans = [tuple(map(int, span.split("-"))) for span in text.split(",") if span]
    return [number for span in spans for number in range(span[0], span[-1] + 1)]


@given(st.sets(st.integers(1, 300)))
def test_names_of_parts_can_be_read_again(numbers: set[int]) -> None:
    ordered = sorted(numbers)
    text = named([Part(number, 0, 1) for number in ordered])
    assert len(text) <= NAMED_PARTS_CHARACTERS_MAX + 2
    if text.endswith("…"):
        assert ordered[: len(numbers_in(text[:-2]))] == numbers_in(text[:-2])
    else:
        assert numbers_in(text) == ordered


def test_many_gaps_are_not_all_named() -> None:
    assert named([Part(number, 0, 1) for number in range(1, 1001, 2)]).endswith(",…")
