"""What a refusal says."""

import pytest

from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.reasons import Reason
from services.common.refusals import reason_name, refusal


def test_status_comes_from_the_catalogue() -> None:
    assert ServiceError(Reason.SEQUENCE_GAP, "expected 5").status == "OUT_OF_RANGE"


def test_chinese_defaults_to_the_title() -> None:
    assert ServiceError(Reason.NOT_FOUND, "no such unit").message_zh == "资源不存在"


def test_metadata_cannot_be_changed() -> None:
    given = {"origin": "141025"}
    error = ServiceError(Reason.UNKNOWN_LOG, "no such log", metadata=given)
    given["origin"] = "141000"

    assert dict(error.metadata) == {"origin": "141025"}


def test_text_names_the_reason() -> None:
    assert str(ServiceError(Reason.NOT_FOUND, "unit u1 does not exist")) == "NOT_FOUND: unit u1 does not exist"


@pytest.mark.parametrize(
    ("count", "message"),
    [(1, "a1: is bad"), (2, "a1: is bad (and 1 more field)"), (3, "a1: is bad (and 2 more fields)")],
)
def test_invalid_names_every_field(count: int, message: str) -> None:
    violations = [FieldViolation(f"a{number}", "is bad") for number in range(1, count + 1)]

    error = invalid(violations)

    assert (error.reason, error.message) == (Reason.INVALID_ARGUMENT, message)
    assert list(error.field_violations) == violations


def test_invalid_without_a_field_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one"):
        invalid([])


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_read_as_it_was_sent(reason: Reason) -> None:
    assert reason_name(refusal(ServiceError(reason, "no")).reason) == reason


def test_a_reason_of_a_newer_release_is_named_by_its_number() -> None:
    assert reason_name(9_999) == "REASON_9999"
