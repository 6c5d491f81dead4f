"""What custody events add up to, in whatever order the logs of several platforms arrive."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.video import custody
from services.video.custody import CustodyAction, CustodyFact

NOW = datetime(2025, 3, 1, 4, 0, tzinfo=UTC)
OWN, CITY, PROVINCE = "141025", "141000", "140000"


def _fact(
    action: CustodyAction,
    sequence: int,
    platform: str = OWN,
    reference_id: str = "case-1",
    until_time: datetime | None = None,
    minutes: int = 0,
) -> CustodyFact:
    event_time = NOW + timedelta(minutes=minutes)
    return CustodyFact(platform, sequence, action, event_time, reference_id=reference_id, until_time=until_time)


@st.composite
def _histories(draw: st.DrawFn) -> list[CustodyFact]:
    """Draw the logs of three platforms, put one behind the other."""
    facts = []
    for platform in (OWN, CITY, PROVINCE):
        for sequence in range(1, draw(st.integers(0, 6)) + 1):
            days = draw(st.integers(-400, 400))
            facts.append(
                CustodyFact(
                    platform,
                    sequence,
                    draw(st.sampled_from(list(CustodyAction))),
                    NOW + timedelta(minutes=draw(st.integers(-5, 5))),
                    reference_id=draw(st.sampled_from(["case-1", "case-2"])),
                    until_time=NOW + timedelta(days=days),
                )
            )
    return facts


@given(_histories(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_nothing(facts: list[CustodyFact], random: object) -> None:
    arrived = list(facts)
    random.shuffle(arrived)  # type: ignore[attr-defined]  # hypothesis draws a random.Random

    assert custody.standing_holds(arrived) == custody.standing_holds(facts)
    assert custody.retained_until(NOW, arrived) == custody.retained_until(NOW, facts)
    for platform in (OWN, CITY, PROVINCE):
        assert custody.open_request(arrived, platform, NOW) == custody.open_request(facts, platform, NOW)
        assert custody.delete_time(arrived, platform) == custody.delete_time(facts, platform)
        assert custody.lost_as(arrived, platform) == custody.lost_as(facts, platform)


@given(_histories())
def test_retention_is_never_shortened_by_what_comes(facts: list[CustodyFact]) -> None:
    until = [custody.retained_until(NOW, facts[:count]) for count in range(len(facts) + 1)]

    assert until == sorted(until)
    assert until[0] == NOW


@given(_histories())
def test_only_its_own_platform_releases_a_hold(facts: list[CustodyFact]) -> None:
    """Held against a plain reading of each log from its beginning."""
    expected = set()
    for fact in facts:
        key = (fact.platform, fact.reference_id)
        if fact.action == CustodyAction.HOLD_PLACED:
            expected.add(key)
        elif fact.action == CustodyAction.HOLD_RELEASED:
            expected.discard(key)

    assert {(one.platform, one.reference_id) for one in custody.standing_holds(facts)} == expected


def test_a_hold_that_is_placed_again_stands_as_placed_last() -> None:
    again = _fact(CustodyAction.HOLD_PLACED, 9, minutes=3)
    facts = [again, _fact(CustodyAction.HOLD_PLACED, 5), _fact(CustodyAction.HOLD_RELEASED, 7, minutes=2)]

    assert custody.standing_holds(facts) == (again,)


def test_holds_are_shown_from_the_oldest_on() -> None:
    late = _fact(CustodyAction.HOLD_PLACED, 1, CITY, minutes=5)
    early = _fact(CustodyAction.HOLD_PLACED, 900, PROVINCE, minutes=1)

    assert custody.standing_holds([late, early]) == (early, late)


@pytest.mark.parametrize(
    ("facts", "is_open"),
    [
        ([], False),
        ([_fact(CustodyAction.REQUESTED, 3, until_time=NOW + timedelta(days=1))], True),
        # The deadline itself is over.
        ([_fact(CustodyAction.REQUESTED, 3, until_time=NOW)], False),
        ([_fact(CustodyAction.REQUESTED, 3, CITY, until_time=NOW + timedelta(days=1))], False),
        (
            [
                _fact(CustodyAction.REQUESTED, 3, until_time=NOW + timedelta(days=1)),
                _fact(CustodyAction.RECEIVED, 4),
            ],
            False,
        ),
        # They came, were lost, and are asked for again.
        (
            [
                _fact(CustodyAction.RECEIVED, 2),
                _fact(CustodyAction.REQUESTED, 3, until_time=NOW + timedelta(days=1)),
            ],
            True,
        ),
        # Another platform's bytes are not ours.
        (
            [
                _fact(CustodyAction.REQUESTED, 3, until_time=NOW + timedelta(days=1)),
                _fact(CustodyAction.RECEIVED, 4, CITY),
            ],
            True,
        ),
    ],
)
def test_a_request_is_open_until_the_bytes_or_the_deadline_come(facts: list[CustodyFact], is_open: bool) -> None:
    assert (custody.open_request(facts, OWN, NOW) is not None) is is_open


@pytest.mark.parametrize(
    ("actions", "is_deleted", "lost"),
    [
        ([CustodyAction.DELETED], True, None),
        ([CustodyAction.DELETED, CustodyAction.RECEIVED], False, None),
        ([CustodyAction.RECEIVED, CustodyAction.DELETED], True, None),
        ([CustodyAction.FOUND_MISSING], False, CustodyAction.FOUND_MISSING),
        ([CustodyAction.FOUND_CHANGED, CustodyAction.RESTORED], False, None),
        ([CustodyAction.FOUND_MISSING, CustodyAction.FOUND_CHANGED], False, CustodyAction.FOUND_CHANGED),
        ([CustodyAction.FOUND_MISSING, CustodyAction.VIEWED], False, CustodyAction.FOUND_MISSING),
    ],
)
def test_what_became_of_bytes(actions: list[CustodyAction], is_deleted: bool, lost: CustodyAction | None) -> None:
    facts = [_fact(action, sequence, minutes=sequence) for sequence, action in enumerate(actions, 1)]

    assert (custody.delete_time(facts, OWN) is not None) is is_deleted
    assert custody.lost_as(facts, OWN) == lost
    assert custody.delete_time(facts, CITY) is None


@pytest.mark.parametrize(
    ("facts", "holding"),
    [
        ([], {OWN}),
        ([_fact(CustodyAction.DELETED, 2)], set()),
        ([_fact(CustodyAction.FOUND_MISSING, 2), _fact(CustodyAction.RESTORED, 3)], {OWN}),
        # Sealed anew after it was deleted: the manifest says so, in whatever order both come.
        ([_fact(CustodyAction.DELETED, 0)], {OWN}),
        ([_fact(CustodyAction.DELETED, 2), _fact(CustodyAction.RECEIVED, 7, CITY)], {CITY}),
        ([_fact(CustodyAction.RECEIVED, 7, CITY), _fact(CustodyAction.FOUND_CHANGED, 9, CITY)], {OWN}),
        # To have asked for it, or to have held it, is not to have it.
        ([_fact(CustodyAction.REQUESTED, 1, CITY), _fact(CustodyAction.HOLD_PLACED, 2, CITY)], {OWN}),
    ],
)
def test_who_has_bytes_is_the_newest_word_of_each_log(facts: list[CustodyFact], holding: set[str]) -> None:
    assert custody.holders(facts, [(OWN, 1)]) == holding
    assert custody.holders(facts[::-1], [(OWN, 1)]) == holding


def test_retention_moves_ahead_and_at_most_thirty_years() -> None:
    assert custody.extension_violation(NOW + timedelta(days=30 * 365), NOW) == ""
    assert "must lie ahead" in custody.extension_violation(NOW, NOW)
    assert "30 years" in custody.extension_violation(NOW + timedelta(days=31 * 366), NOW)


def test_deadlines_of_requests() -> None:
    assert custody.deadline_violation(NOW + timedelta(days=90), NOW) == ""
    assert "must lie ahead" in custody.deadline_violation(NOW, NOW)
    assert "90 days" in custody.deadline_violation(NOW + timedelta(days=91), NOW)


def test_events_about_evidence_of_another_platform_are_addressed_to_it() -> None:
    assert custody.audience_of(OWN, CITY) == OWN
    assert custody.audience_of(OWN, OWN) == ""


def test_names_that_stand_twice_are_found() -> None:
    assert custody.duplicates([(OWN, "u", "1"), (CITY, "u", "1"), (OWN, "u", "1"), (OWN, "u", "1")]) == [2, 3]
