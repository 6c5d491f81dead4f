"""Page tokens come back as they went out, or are refused; nothing else can be made of them."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import ServiceError
from services.common.paging import KEY_INTEGER_MAX, decode_token, encode_token, filter_digest, page_size
from services.common.reasons import Reason

DIGEST = filter_digest("ListWeighings", "u1", 3, True, None)
TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40)
INTEGER = st.integers(-KEY_INTEGER_MAX, KEY_INTEGER_MAX)


def forged(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@given(st.tuples(INTEGER, TEXT, INTEGER))
def test_round_trip(key: tuple[int, str, int]) -> None:
    assert decode_token(encode_token(DIGEST, key), DIGEST, (int, str, int)) == key


def test_empty_token_is_the_first_page() -> None:
    assert decode_token("", DIGEST, (int,)) is None


def test_token_of_another_filter_is_refused() -> None:
    token = encode_token(filter_digest("ListWeighings", "u2", 3, True, None), (1,))

    with pytest.raises(ServiceError) as raised:
        decode_token(token, DIGEST, (int,))

    assert raised.value.reason == Reason.INVALID_PAGE_TOKEN
    assert "another filter" in raised.value.message


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "====",
        "令牌",
        "a" * 5000,
        base64.urlsafe_b64encode(b"[" * 1500).decode(),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        forged({}),
        forged([1]),
        forged([2, DIGEST, [1]]),
        forged([1, DIGEST, 1]),
        forged([1, DIGEST, []]),
        forged([1, DIGEST, ["1"]]),
        forged([1, DIGEST, [True]]),
        forged([1, DIGEST, [1.0]]),
        forged([1, DIGEST, [None]]),
        forged([1, DIGEST, [2**63]]),
        forged([1, DIGEST, [1, 2]]),
    ],
)
def test_foreign_token_is_refused(token: str) -> None:
    with pytest.raises(ServiceError) as raised:
        decode_token(token, DIGEST, (int,))

    assert raised.value.reason == Reason.INVALID_PAGE_TOKEN


def test_zero_byte_is_refused() -> None:
    with pytest.raises(ServiceError):
        decode_token(forged([1, DIGEST, ["a\x00"]]), DIGEST, (str,))


@given(st.text(max_size=60))
def test_any_text_is_refused_and_nothing_worse(token: str) -> None:
    if token:
        with pytest.raises(ServiceError):
            decode_token(token, DIGEST, (int,))


def test_filter_values_do_not_run_together() -> None:
    assert filter_digest("List", "ab", "c") != filter_digest("List", "a", "bc")


@pytest.mark.parametrize(("requested", "expected"), [(0, 100), (1, 1), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)])
def test_page_size(requested: int, expected: int) -> None:
    assert page_size(requested, 100, 1000) == expected


def test_negative_page_size_is_refused() -> None:
    with pytest.raises(ServiceError) as raised:
        page_size(-1, 100, 1000)

    assert [violation.field for violation in raised.value.field_violations] == ["page_size"]
