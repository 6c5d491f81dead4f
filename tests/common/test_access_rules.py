"""Masks, divisions, rates and delays, without a server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.access.divisions import Divisions, code_above
from services.common.access.masking import PersonalDataMask, masked
from services.common.access.permissions import PrincipalKind, permissions_of
from services.common.access.principal import CallLimits, Principal
from services.common.access.throttle import (
    DELAY_SECONDS_MAX,
    FAILURE_WINDOW_SECONDS,
    FAILURES_FREE,
    FailedAttempts,
    RateLimiter,
)
from zhichao.common.v1 import access_pb2
from zhichao.registry.v1 import resources_pb2
from zhichao.registry.v1 import service_pb2 as registry_pb2
from zhichao.weighing.v1 import record_pb2, weighing_pb2
from zhichao.weighing.v1 import service_pb2 as weighing_service_pb2

NAME, PHONE, DOCUMENT = (
    access_pb2.PERSONAL_DATA_NAME,
    access_pb2.PERSONAL_DATA_PHONE_NUMBER,
    access_pb2.PERSONAL_DATA_DOCUMENT_NUMBER,
)


class Seconds:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.value = 1_000.0

    def __call__(self) -> float:
        return self.value


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        (NAME, "示例甲", "示**"),
        (NAME, "甲", "甲"),
        (NAME, "", ""),
        (NAME, "甲" * 200, "甲" + "*" * 64),
        (PHONE, "10000000099", "100******99"),
        (PHONE, "12345", "*****"),
        (PHONE, "123456", "123*56"),
        (DOCUMENT, "ABCDEF12", "******12"),
        (DOCUMENT, "12", "**"),
        (99, "anything", "********"),
    ],
)
def test_masks(kind: int, value: str, shown: str) -> None:
    assert masked(kind, value) == shown


def test_only_messages_that_can_hold_personal_data_are_looked_at() -> None:
    assert PersonalDataMask(registry_pb2.ListSourceUnitsResponse.DESCRIPTOR).is_needed
    assert PersonalDataMask(weighing_service_pb2.ListWeighingsResponse.DESCRIPTOR).is_needed
    assert not PersonalDataMask(weighing_service_pb2.RecordWeighingsResponse.DESCRIPTOR).is_needed
    assert not PersonalDataMask(registry_pb2.ListScalesResponse.DESCRIPTOR).is_needed


def test_personal_data_is_found_wherever_it_lies() -> None:
    driver = record_pb2.Driver(name="示例甲", phone_number="10000000099", license_number="ABCDEF12")
    held = weighing_service_pb2.HeldWeighing(
        weighing=weighing_pb2.Weighing(record=record_pb2.WeighingRecord(record_id="r-1", driver=driver))
    )
    page = weighing_service_pb2.ListWeighingsResponse(held_weighings=[held, held, weighing_service_pb2.HeldWeighing()])
    mask = PersonalDataMask(page.DESCRIPTOR)
    assert mask.values(page) == ["示例甲", "10000000099", "ABCDEF12"] * 2
    mask.mask(page)
    shown = page.held_weighings[1].weighing.record
    assert (shown.driver.name, shown.driver.phone_number, shown.driver.license_number) == (
        "示**",
        "100******99",
        "******12",
    )
    assert shown.record_id == "r-1"


def test_what_a_newer_release_has_added_is_not_shown_unjudged() -> None:
    unit = resources_pb2.SourceUnit(source_unit_id="u-1")
    unit.MergeFromString(b"\xaa\x3e\x06secret")
    answer = registry_pb2.GetSourceUnitResponse(source_unit=unit)
    PersonalDataMask(answer.DESCRIPTOR).mask(answer)
    assert b"secret" not in answer.SerializeToString()


@pytest.mark.parametrize(
    ("code", "above"), [("141025", "141000"), ("141000", "140000"), ("140000", ""), ("140671", "140600")]
)
def test_codes_say_what_is_above(code: str, above: str) -> None:
    assert code_above(code) == above


def test_own_records_place_a_division_elsewhere() -> None:
    divisions = Divisions({"141025": "140600", "140671": "140602"})
    assert divisions.is_within("141025", "140600")
    assert not divisions.is_within("141025", "141000")
    assert divisions.is_within("140671", "140602")
    assert divisions.is_within("140671", "140000")


def test_a_circle_of_divisions_ends() -> None:
    circle = Divisions({"141025": "141026", "141026": "141025"})
    assert not circle.is_within("141025", "141000")


@given(st.text(max_size=8), st.text(max_size=8))
def test_what_is_no_code_lies_nowhere(code: str, division: str) -> None:
    is_code = len(code) == 6 and code.isascii() and code.isdecimal()
    if not is_code or not (len(division) == 6 and division.isascii() and division.isdecimal()):
        assert not Divisions().is_within(code, division)


def terminal(limits: CallLimits, name: str = "t") -> Principal:
    return Principal(PrincipalKind.TERMINAL, name, permissions_of(PrincipalKind.TERMINAL), frozenset({"u"}), "", limits)


def test_calls_come_back_with_time() -> None:
    seconds = Seconds()
    rates = RateLimiter(seconds)
    caller = terminal(CallLimits(2, 3, None))
    assert [rates.take(caller, 1) for _ in range(3)] == [0.0] * 3
    assert rates.take(caller, 1) == pytest.approx(0.5)
    seconds.value += 0.5
    assert rates.take(caller, 1) == 0.0
    seconds.value += 1_000
    assert [rates.take(caller, 1) == 0.0 for _ in range(4)] == [True] * 3 + [False]


def test_a_large_message_is_paid_for_afterwards() -> None:
    seconds = Seconds()
    rates = RateLimiter(seconds)
    caller = terminal(CallLimits(None, 0, 100))
    assert rates.take(caller, 1_000) == 0.0
    assert rates.take(caller, 1) == pytest.approx(6.0)
    seconds.value += 6
    assert rates.take(caller, 1) == 0.0


def test_principals_do_not_pay_for_each_other() -> None:
    rates = RateLimiter(Seconds())
    one, other = terminal(CallLimits(1, 1, None)), terminal(CallLimits(1, 1, None), "other")
    assert (rates.take(one, 1), rates.take(other, 1)) == (0.0, 0.0)
    assert rates.take(one, 1) > 0


def test_delays_double_and_end() -> None:
    seconds = Seconds()
    attempts = FailedAttempts(seconds)
    for _ in range(FAILURES_FREE - 1):
        attempts.failed("ipv4:192.0.2.1", "t", "INVALID_CREDENTIALS")
    assert attempts.seconds_delayed("ipv4:192.0.2.1", "t") == 0.0
    delays = []
    for _ in range(10):
        attempts.failed("ipv4:192.0.2.1", "t", "INVALID_CREDENTIALS")
        delays.append(attempts.seconds_delayed("ipv4:192.0.2.1", "t"))
        seconds.value += delays[-1]
    assert delays == [1, 2, 4, 8, 16, 32] + [DELAY_SECONDS_MAX] * 4
    assert attempts.seconds_delayed("ipv4:192.0.2.2", "t") == 0.0
    assert attempts.seconds_delayed("ipv4:192.0.2.1", "other") == 0.0
    seconds.value += FAILURE_WINDOW_SECONDS + DELAY_SECONDS_MAX + 1
    attempts.failed("ipv4:192.0.2.1", "t", "INVALID_CREDENTIALS")
    assert attempts.seconds_delayed("ipv4:192.0.2.1", "t") == 0.0
