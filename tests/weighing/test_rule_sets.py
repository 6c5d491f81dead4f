"""Which rule set judges when several platforms have published one under the same id."""

import pickle
from collections.abc import Iterable
from itertools import permutations

import pytest

from services.common.access.divisions import Divisions
from services.weighing.rule_sets import AddressedRuleSet, ChosenRules, RuleSets
from services.weighing.rules import RuleSet

COUNTY, CITY, PROVINCE = "141025", "141000", "140000"
OTHER_CITY, OTHER_COUNTY = "141100", "141121"
ZONE = "140771"
DAY = "2025-03-01"


def version(number: int = 1, since: str = "2020-01-01", until: str = "", rule_set_id: str = "r") -> RuleSet:
    return RuleSet(rule_set_id, number, effective_from=since, effective_until=until)


def above(origin: str, rules: RuleSet, audience: str = "", sequence: int = 2) -> AddressedRuleSet:
    return AddressedRuleSet(origin, sequence, audience or origin, rules)


def known(*objects: RuleSet | AddressedRuleSet, platform: str = COUNTY, divisions: Divisions | None = None) -> RuleSets:
    made = RuleSets(platform)
    made.divisions = divisions or Divisions()
    for one in objects:
        if isinstance(one, RuleSet):
            made.put_own(one)
        else:
            made.put_addressed(one)
    return made


def chosen(sets: RuleSets, day: str = DAY, division: str = COUNTY) -> tuple[str, int, bool] | None:
    """Return owner, version, and whether it was in force."""
    found: ChosenRules | None = sets.choose("r", division, day)
    return None if found is None else (found.owner, found.rules.rule_set.version, found.is_in_force)


def test_nobody_has_published_it() -> None:
    assert chosen(known()) is None
    assert chosen(known(version(rule_set_id="another"))) is None


@pytest.mark.parametrize(
    ("owners", "judges"),
    [
        ([COUNTY, CITY, PROVINCE], COUNTY),
        ([CITY, PROVINCE], CITY),
        ([PROVINCE], PROVINCE),
        ([COUNTY, PROVINCE], COUNTY),
    ],
)
def test_the_nearest_owner_judges_in_whatever_order_they_came(owners: list[str], judges: str) -> None:
    objects = [version() if owner == COUNTY else above(owner, version()) for owner in owners]
    for order in permutations(objects):
        assert chosen(known(*order)) == (judges, 1, True)


def test_versions_of_two_owners_are_never_mixed() -> None:
    """A higher number of the province is not a newer version of the city's."""
    sets = known(above(CITY, version(1)), above(PROVINCE, version(7)))
    assert chosen(sets) == (CITY, 1, True)


def test_the_newest_version_in_force_judges() -> None:
    sets = known(
        above(CITY, version(1), sequence=2),
        above(CITY, version(2), sequence=3),
        above(CITY, version(3, since="2025-06-01"), sequence=4),
    )
    assert chosen(sets) == (CITY, 2, True)
    assert chosen(sets, "2025-06-01") == (CITY, 3, True)


def test_the_next_owner_judges_until_the_nearer_one_s_rules_begin_and_after_they_end() -> None:
    sets = known(version(1, "2025-06-01", "2025-09-01"), above(PROVINCE, version(4)))
    assert chosen(sets, "2025-05-31") == (PROVINCE, 4, True)
    assert chosen(sets, "2025-06-01") == (COUNTY, 1, True)
    assert chosen(sets, "2025-08-31") == (COUNTY, 1, True)
    assert chosen(sets, "2025-09-01") == (PROVINCE, 4, True)


def test_no_clock_escapes_judgement() -> None:
    """Where no owner has a version in force, the nearest owner's nearest one judges and says so."""
    sets = known(
        above(CITY, version(1, "2021-01-01", "2022-01-01")), above(PROVINCE, version(1, "2020-01-01", "2021-01-01"))
    )
    assert chosen(sets, "2012-01-01") == (CITY, 1, False)
    assert chosen(sets, "2024-01-01") == (CITY, 1, False)
    assert chosen(sets, "2020-05-01") == (PROVINCE, 1, True)


def test_who_is_above_is_what_this_platform_has_recorded() -> None:
    sets = known(above(ZONE, version()), above(PROVINCE, version(2)))
    assert chosen(sets) == (PROVINCE, 2, True)
    sets.divisions = Divisions({COUNTY: ZONE, ZONE: PROVINCE})
    assert chosen(sets) == (ZONE, 1, True)


def test_a_platform_that_is_not_above_any_more_judges_nothing() -> None:
    """A county moved to another city: what the former one had published stays where it is, and is not used."""
    sets = known(above(CITY, version()))
    sets.divisions = Divisions({COUNTY: OTHER_CITY})
    assert chosen(sets) is None
    sets.put_addressed(above(OTHER_CITY, version(3)))
    assert chosen(sets) == (OTHER_CITY, 3, True)


def test_divisions_in_a_circle_end() -> None:
    sets = known(above(PROVINCE, version()), divisions=Divisions({COUNTY: CITY, CITY: COUNTY}))
    assert chosen(sets) is None


def test_what_a_city_only_passes_on_judges_none_of_its_units() -> None:
    for_county = above(PROVINCE, version(), COUNTY)
    sets = known(for_county, platform=CITY)
    assert chosen(sets, division=CITY) is None
    assert chosen(sets, division=OTHER_COUNTY) is None
    # But a unit of the city's that lies in that county, which has no platform.
    assert chosen(sets, division=COUNTY) == (PROVINCE, 1, True)
    assert chosen(known(for_county), division=COUNTY) == (PROVINCE, 1, True)


def test_a_version_for_others_does_not_replace_the_one_for_all() -> None:
    sets = known(above(PROVINCE, version(1), sequence=2), above(PROVINCE, version(2), OTHER_COUNTY, sequence=3))
    assert chosen(sets) == (PROVINCE, 1, True)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_entries_about_one_version_the_later_one_counts(order: Iterable[int]) -> None:
    entries = [
        above(CITY, version(1, until="2024-01-01"), sequence=2),
        above(CITY, version(1), sequence=9),
    ]
    sets = known(*(entries[index] for index in order))
    assert chosen(sets) == (CITY, 1, True)


def test_how_many_are_known_is_counted_by_whose_they_are() -> None:
    sets = known(version(1), version(2), above(CITY, version(1)), above(PROVINCE, version(1)), above(CITY, version(1)))
    assert sets.counts() == {PROVINCE: 1, CITY: 1, COUNTY: 2}


def test_everything_a_preparing_process_needs_can_be_sent_to_it() -> None:
    sent = (above(CITY, version()), Divisions({COUNTY: ZONE}))
    received: tuple[AddressedRuleSet, Divisions] = pickle.loads(pickle.dumps(sent))  # noqa: S301 - made here
    assert received[0] == sent[0]
    assert received[1].above(COUNTY) == ZONE
