"""To whom a directive goes: never upwards or sideways, nobody twice, and who is asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.access.divisions import Divisions
from services.enforcement import audience
from services.enforcement.audience import Recipients, RegisteredPlatform
from services.enforcement.domain import RecipientScope
from services.enforcement.limits import AUDIENCES_MAX

DAY = "2025-03-01"
BY_CODE = Divisions()


def _platform(code: str, origin: str = "140000", **days: str) -> RegisteredPlatform:
    return RegisteredPlatform(code, origin, **days)


def _recipients(
    registered: list[RegisteredPlatform],
    *audiences: str,
    scope: RecipientScope = RecipientScope.SUBTREE,
    own: str = "140000",
    divisions: Divisions = BY_CODE,
) -> Recipients:
    return audience.recipients(registered, audiences, scope, own, DAY, divisions)


@pytest.mark.parametrize(
    ("code", "is_outside"),
    [
        ("141000", False),
        ("141025", False),
        # Sideways, upwards, and nowhere.
        ("141100", True),
        ("140000", True),
        ("110000", True),
        ("", True),
        ("14100", True),
    ],
)
def test_a_city_addresses_itself_and_what_lies_below(code: str, is_outside: bool) -> None:
    assert bool(list(audience.outside([code], "141000", BY_CODE))) == is_outside


def test_every_audience_outside_is_named() -> None:
    outside = audience.outside(["141100", "141025", "140000"], "141000", BY_CODE)

    assert [violation.field for violation in outside] == ["audiences[0]", "audiences[2]"]


def test_a_division_that_was_placed_elsewhere_lies_there() -> None:
    moved = Divisions({"141025": "140500"})

    assert [v.field for v in audience.outside(["141025"], "141000", moved)] == ["audiences[0]"]
    assert list(audience.outside(["141025"], "140500", moved)) == []


def test_an_audience_within_another_is_named() -> None:
    overlapping = audience.overlapping(["141025", "141000", "141100", "141121"], BY_CODE)

    assert [violation.field for violation in overlapping] == ["audiences[0]", "audiences[3]"]


def test_more_audiences_than_allowed_are_not_compared() -> None:
    codes = [f"{number:06}" for number in range(AUDIENCES_MAX + 1)]

    assert list(audience.overlapping(codes, BY_CODE)) == []


def test_everybody_in_an_audience_is_asked() -> None:
    registered = [_platform(code) for code in ("141121", "141025", "141000", "141100")]

    assert _recipients(registered, "141000") == Recipients(("141000", "141025"), ())


def test_the_whole_subtree_is_everybody_but_oneself() -> None:
    registered = [_platform(code) for code in ("140000", "141000", "141025", "110000")]

    assert _recipients(registered, "140000") == Recipients(("141000", "141025"), ())


def test_only_the_highest_platforms_are_asked_if_so_wanted() -> None:
    registered = [_platform(code) for code in ("141000", "141025", "141121", "141122", "140602")]

    assert _recipients(registered, "140000", scope=RecipientScope.DIVISION) == Recipients(
        ("140602", "141000", "141121", "141122"), ()
    )


def test_audiences_without_a_platform_are_told_by_their_place() -> None:
    registered = [_platform("141025")]

    assert _recipients(registered, "141100", "141000", "140500") == Recipients(("141025",), (0, 2))


@pytest.mark.parametrize(
    ("days", "is_asked"),
    [
        ({}, True),
        ({"valid_from": DAY}, True),
        ({"valid_from": "2025-03-02"}, False),
        ({"valid_until": "2025-03-02"}, True),
        ({"valid_until": DAY}, False),
    ],
)
def test_platforms_in_service_today_are_asked(days: dict[str, str], is_asked: bool) -> None:
    assert _recipients([_platform("141025", **days)], "141000").platforms == (("141025",) if is_asked else ())


def test_a_platform_below_tells_only_of_its_own_division() -> None:
    registered = [
        _platform("141025", origin="141000"),
        # Another city's county, and the city itself, as told by a county: not its business.
        _platform("141121", origin="141025"),
        _platform("141100", origin="141025"),
    ]

    assert _recipients(registered, "140000") == Recipients(("141025",), ())


def test_what_is_registered_here_counts_before_what_others_say() -> None:
    ended_here = [_platform("141025", valid_until="2025-01-01"), _platform("141025", origin="141025")]
    ended_there = [_platform("141025", origin="141025", valid_until="2025-01-01"), _platform("141025")]

    assert _recipients(ended_here, "141000").platforms == ()
    assert _recipients(ended_there, "141000").platforms == ("141025",)


_CODES = st.sampled_from(["140000", "141000", "141025", "141024", "141100", "141121", "140602", "110000", "140671"])


@given(st.sets(_CODES), st.lists(_CODES, unique=True, max_size=4), st.sampled_from(list(RecipientScope)))
def test_who_is_asked_lies_in_an_audience_and_below_the_issuer(
    codes: set[str], audiences: list[str], scope: RecipientScope
) -> None:
    found = audience.recipients([_platform(code) for code in codes], audiences, scope, "140000", DAY, BY_CODE)

    assert list(found.platforms) == sorted(set(found.platforms))
    for platform in found.platforms:
        assert platform != "140000"
        assert BY_CODE.is_within(platform, "140000")
        assert any(BY_CODE.is_within(platform, one) for one in audiences)
    for place, one in enumerate(audiences):
        reached = any(BY_CODE.is_within(platform, one) for platform in found.platforms)
        # With the highest only, who lies below another one is not asked; with all, an audience is reached or told.
        if scope is RecipientScope.SUBTREE:
            assert reached != (place in found.places_without_platform)


def test_the_line_goes_up_to_the_top() -> None:
    assert audience.line_of("141025", BY_CODE) == ("141025", "141000", "140000")
    assert audience.line_of("140000", BY_CODE) == ("140000",)


def test_a_line_in_a_circle_ends() -> None:
    assert audience.line_of("141025", Divisions({"141025": "141000", "141000": "141025"})) == ("141025", "141000")
