"""`zhichao duty-check` against real enforcement services: asked at the city, answered at the county."""

from pathlib import Path

import pytest

from tests.cli.test_notice import Shell
from tests.enforcement.conftest import city, clock, county, registries, service, short_poll
from tests.enforcement.harness import CITY, COUNTY, RunningEnforcement
from tests.running_service import SharedClock, carry_down, carry_up

__all__ = ["city", "clock", "county", "registries", "service", "short_poll"]
# Fixtures of the enforcement tests, which pytest finds by their names here.


@pytest.fixture
def city_shell(city: RunningEnforcement, tmp_path: Path) -> Shell:
    return Shell("duty-check", city, tmp_path)


@pytest.fixture
def county_shell(county: RunningEnforcement, tmp_path: Path) -> Shell:
    return Shell("duty-check", county, tmp_path)


ISSUE = ("issue", "--id", "dc-1", "--to", COUNTY, "--question", "当前值班人员是谁", "--minutes", "10")


def test_a_duty_check_from_question_to_answer(
    city: RunningEnforcement, county: RunningEnforcement, city_shell: Shell, county_shell: Shell
) -> None:
    issued = city_shell.done(*ISSUE)
    carry_down(city, county)
    received = county_shell.done("list", "--direction", "received", "--standing", "open")
    answered = county_shell.done("answer", "dc-1", "示例乙在岗", "--issuer", CITY, "--officer", "示例乙")
    again = county_shell.done("answer", "dc-1", "示例丙在岗", "--issuer", CITY, "--officer", "示例丙")
    carry_up(county, city)
    shown = city_shell.done("show", "dc-1")

    assert "当前值班人员是谁" in issued
    # Noon in China, and ten minutes.
    assert "2025-03-01 12:10:00" in issued
    assert "received 已送达" in received
    assert "answered 已应答" in answered
    assert "此前已应答" in again
    assert "示例丙" not in again
    assert "1/1" in shown
    assert "示例乙在岗" in shown
    assert "answered 已应答" in shown


def test_missed_and_undelivered_are_told_apart(
    city: RunningEnforcement, county: RunningEnforcement, clock: SharedClock, city_shell: Shell
) -> None:
    city_shell.done(*ISSUE)
    carry_down(city, county)
    city_shell.done("issue", "--id", "dc-2", *ISSUE[3:])
    carry_up(county, city)
    clock.advance(minutes=11)

    assert "missed 未应答" in city_shell.done("show", "dc-1")
    undelivered = city_shell.done("show", "dc-2")
    assert "undelivered 未送达" in undelivered
    assert "missed" not in undelivered
    assert city_shell.document("list", "--standing", "overdue")["duty_checks"][0]["counts"]["overdue_count"] == 1


@pytest.mark.parametrize(("typed", "kept"), [("是", "yes"), ("否", "no"), ("Y", "yes"), ("yes", "yes")])
def test_yes_and_no_are_understood_as_people_say_them(
    city: RunningEnforcement,
    county: RunningEnforcement,
    city_shell: Shell,
    county_shell: Shell,
    typed: str,
    kept: str,
) -> None:
    city_shell.done(*ISSUE, "--answer-kind", "yes-no")
    carry_down(city, county)

    answered = county_shell.document("answer", "dc-1", typed, "--issuer", CITY, "--officer", "示例乙")

    assert answered["recipient"]["answer"]["answer"] == kept


def test_a_text_stays_as_it_was_typed(
    city: RunningEnforcement, county: RunningEnforcement, city_shell: Shell, county_shell: Shell
) -> None:
    city_shell.done(*ISSUE)
    carry_down(city, county)

    answered = county_shell.document("answer", "dc-1", "是", "--issuer", CITY, "--officer", "示例乙")

    assert answered["recipient"]["answer"]["answer"] == "是"


def test_refusals_are_told(
    city: RunningEnforcement, county: RunningEnforcement, city_shell: Shell, county_shell: Shell
) -> None:
    city_shell.done(*ISSUE, "--answer-kind", "number")
    carry_down(city, county)

    bad = county_shell.refused("answer", "dc-1", "两", "--issuer", CITY, "--officer", "示例乙")
    unknown = county_shell.refused("answer", "dc-9", "2", "--issuer", CITY, "--officer", "示例乙")
    taken = city_shell.refused(*ISSUE, "--answer-kind", "text")

    assert "asks for a number" in bad
    assert "NOT_FOUND" in unknown
    assert "RESOURCE_EXISTS" in taken
    assert "dc-1" in county_shell.done("list")


def test_an_empty_list_says_so(city_shell: Shell) -> None:
    assert city_shell.done("list").splitlines()[-1] == "no duty checks 无查岗"
