"""Divisions that move, platforms that lag, and platforms that were restored from a backup."""

from collections.abc import Callable

import pytest

from services.common.database import raw_connection
from services.common.reasons import Reason
from services.journal import addressed_reader
from tests.journal.addressed import OTHER_CITY, OTHER_COUNTY, Platform
from tests.journal.conftest import MakeJournal
from tests.journal.journals import Journal, incoming
from tests.journal.paper_log import CITY, COUNTY, NOW, PROVINCE

DISTRICT = "140602"
"""A district that gets a platform of its own between a county and its city."""

MakePlatform = Callable[[str], Platform]


@pytest.fixture
def make(journal: MakeJournal) -> MakePlatform:
    """Make platforms, begun."""
    return lambda code: Platform(journal(code).begin())


def test_a_county_that_moves_goes_on_where_it_stood(make: MakePlatform) -> None:
    province, city, other, county = map(make, (PROVINCE, CITY, OTHER_CITY, COUNTY))
    one = province.address(COUNTY, b"through the first city")
    for reader, upper in ((city, province), (other, province), (county, city)):
        reader.follow(upper)
    lost = city.address(COUNTY, b"from the first city, not received any more")
    for platform in (province, city, other, county):
        platform.move({COUNTY: OTHER_CITY})
    two = province.address(COUNTY, b"through the second city")
    three = other.address(COUNTY, b"from the second city")
    other.follow(province)
    received = county.follow(other)
    assert county.held(PROVINCE) == {one: b"through the first city", two: b"through the second city"}
    assert county.held(OTHER_CITY) == {three: b"from the second city"}
    assert [(one.log.origin, one.duplicate_count) for one in received] == [(PROVINCE, 0), (OTHER_CITY, 0)]
    assert lost not in county.held(CITY)
    assert county.journal.size(COUNTY) == 1 + 3, "three receipts"


@pytest.mark.parametrize("steps_max", [2, 256])
def test_a_city_gets_what_was_addressed_to_a_county_before_it_came_below(
    make: MakePlatform, monkeypatch: pytest.MonkeyPatch, steps_max: int
) -> None:
    monkeypatch.setattr(addressed_reader, "ADDRESSED_BATCH_STEPS_MAX", steps_max)
    province, city, other, county = map(make, (PROVINCE, CITY, OTHER_CITY, COUNTY))
    for number in range(5):
        province.address(COUNTY, f"{number}".encode())
        province.address(OTHER_COUNTY, b"elsewhere")
    city.follow(province)
    other.follow(province)
    for platform in (province, city, other, county):
        platform.move({COUNTY: OTHER_CITY})
    county.follow(other)
    assert county.held(PROVINCE) == {}, "the second city does not have it yet, and does not say that there is nothing"
    assert county.position(PROVINCE).through_sequence == 11
    other.follow(province)
    county.follow(other)
    expected = {2 + 2 * number: f"{number}".encode() for number in range(5)}
    assert {sequence: payload for sequence, payload in other.held(PROVINCE).items() if sequence in expected} == expected
    assert county.held(PROVINCE) == expected
    assert province.batches_for(other) == []
    assert other.batches_for(county) == []
    assert city.held(PROVINCE) == expected, "what the first city has it keeps"


def test_a_follow_that_stands_brings_what_a_move_made_missing(make: MakePlatform) -> None:
    province, other = make(PROVINCE), make(OTHER_CITY)
    place = province.address(COUNTY, b"before")
    other.follow(province)
    answers = province.handlers.read(other.code, [], follow=True)
    batch = next(answers).batch
    assert [[one.sequence for one in step.entries] for step in batch.steps] == [[1]]
    assert next(answers).WhichOneof("content") == "ends"
    province.move({COUNTY: OTHER_CITY})
    batch = next(answers).batch
    assert [[one.sequence for one in step.entries] for step in batch.steps] == [[place]]


def test_a_county_that_is_ahead_of_its_new_city_waits(make: MakePlatform) -> None:
    province, city, other, county = map(make, (PROVINCE, CITY, OTHER_CITY, COUNTY))
    province.address(PROVINCE, b"one")
    other.follow(province)
    two = province.address(PROVINCE, b"two")
    city.follow(province)
    county.follow(city)
    county.move({COUNTY: OTHER_CITY})
    other.move({COUNTY: OTHER_CITY})
    province.move({COUNTY: OTHER_CITY})
    assert county.follow(other) == []
    assert other.refusals_for(county) == {}
    three = province.address(COUNTY, b"three")
    other.follow(province)
    county.follow(other)
    assert list(county.held(PROVINCE)) == [two - 1, two, three]


def test_a_district_is_put_between_a_county_and_its_city(make: MakePlatform) -> None:
    county, district, city = make("140621"), make(DISTRICT), make("140600")
    city.address("140621", b"straight")
    county.follow(city)
    for platform in (county, district, city):
        platform.move({"140621": DISTRICT, DISTRICT: "140600"})
    second = city.address("140621", b"through the district")
    third = district.address("140621", b"from the district")
    district.follow(city)
    county.follow(district)
    assert county.held("140600") == {2: b"straight", second: b"through the district"}
    assert county.held(DISTRICT) == {third: b"from the district"}
    assert district.held("140600") == county.held("140600")


def restored(platform: Platform, journal: MakeJournal, until: Callable[[Platform], None]) -> Platform:
    """Return the platform as it was after `until`: the same key, and nothing of what came later."""
    made = Platform(journal(platform.code).begin())
    until(made)
    return made


def test_an_upper_platform_that_lost_what_it_had_sent_is_refused(province: Journal, journal: MakeJournal) -> None:
    def first(platform: Platform) -> None:
        platform.address(CITY, b"kept")

    upper, middle = Platform(province), Platform(journal(CITY).begin())
    first(upper)
    upper.address(CITY, b"lost with the database")
    middle.follow(upper)
    old = restored(upper, journal, first)
    assert old.refusals_for(middle) == {PROVINCE: "ERROR_REASON_BEYOND_LOG"}
    old.journal.write_many(10)
    assert old.refusals_for(middle) == {PROVINCE: "ERROR_REASON_HISTORY_MISMATCH"}
    old.address(CITY, b"another one at the same place")
    assert old.refusals_for(middle) == {PROVINCE: "ERROR_REASON_HISTORY_MISMATCH"}
    assert middle.held(PROVINCE) == {2: b"kept", 3: b"lost with the database"}


def test_an_upper_platform_that_was_restored_empty_is_refused(province: Journal, journal: MakeJournal) -> None:
    upper, middle = Platform(province), Platform(journal(CITY).begin())
    upper.address(CITY, b"one")
    middle.follow(upper)
    assert restored(upper, journal, lambda platform: None).refusals_for(middle) == {PROVINCE: "ERROR_REASON_BEYOND_LOG"}


def test_an_upper_platform_that_lost_nothing_addressed_goes_on(province: Journal, journal: MakeJournal) -> None:
    def first(platform: Platform) -> None:
        platform.address(CITY, b"kept")

    upper, middle = Platform(province), Platform(journal(CITY).begin())
    first(upper)
    middle.follow(upper)
    upper.journal.write(b"lost, and nobody below knows")
    old = restored(upper, journal, first)
    again = old.address(CITY, b"at the place of what was lost")
    middle.follow(old)
    assert middle.held(PROVINCE) == {2: b"kept", again: b"at the place of what was lost"}


def test_one_log_that_is_refused_leaves_the_others_alone(make: MakePlatform, journal: MakeJournal) -> None:
    province, city, county = make(PROVINCE), make(CITY), make(COUNTY)
    province.address(COUNTY, b"from the province")
    city.address(COUNTY, b"from the city, lost")
    city.follow(province)
    county.follow(city)
    old = make(CITY)
    second = province.address(COUNTY, b"goes on")
    old.follow(province)
    answers = old.answers_for(COUNTY, county.positions())
    assert [answer.WhichOneof("content") for answer in answers] == ["batch", "refusal", "ends"]
    assert [(one.origin, one.end_sequence) for one in answers[-1].ends.ends] == [(PROVINCE, second)]


def test_a_new_history_cannot_be_passed_on_to_who_holds_the_old_one(make: MakePlatform) -> None:
    """The province was restored, and a city that knew nothing took its new history: the county notices."""
    province, city, other, county = map(make, (PROVINCE, CITY, OTHER_CITY, COUNTY))
    province.address(COUNTY, b"old")
    city.follow(province)
    county.follow(city)
    new = make(PROVINCE)
    new.journal.write(b"something else first")
    new.address(COUNTY, b"new")
    other.follow(new)
    county.move({COUNTY: OTHER_CITY})
    other.move({COUNTY: OTHER_CITY})
    new.move({COUNTY: OTHER_CITY})
    assert other.refusals_for(county) == {PROVINCE: "ERROR_REASON_HISTORY_MISMATCH"}


def test_a_receiver_restored_from_a_backup_asks_from_where_it_stands(make: MakePlatform, journal: MakeJournal) -> None:
    upper, middle = make(PROVINCE), make(CITY)
    upper.address(CITY, b"one")
    upper.address(CITY, b"two")
    middle.follow(upper)
    old = make(CITY)
    (received,) = old.follow(upper)
    assert (received.log.through_sequence, received.duplicate_count) == (3, 0)
    assert old.held(PROVINCE) == middle.held(PROVINCE)


def test_the_chain_is_the_same_after_the_own_log_came_back_from_above(make: MakePlatform) -> None:
    """The city lost its database; the province holds its log, and the county what it addressed."""
    province, city, county, old = make(PROVINCE), make(CITY), make(COUNTY), make(CITY)
    city.address(COUNTY, b"one", b"two")
    city.journal.write(b"for nobody")
    city.address(COUNTY, b"three")
    county.follow(city)
    province.journal.pull(city.journal, CITY)
    for batch in province.journal.batches(CITY, 2, 2):
        old.journal.handlers.restore(incoming(batch))
    head = province.journal.head(CITY)
    assert head is not None
    old.journal.handlers.confirm_own_log(head.size, head.root)
    last = old.address(COUNTY, b"four")
    county.follow(old)
    assert county.held(CITY) == {2: b"one", 3: b"two", 5: b"three", last: b"four"}


def test_a_log_that_is_not_written_to_acknowledges_nothing(make: MakePlatform) -> None:
    """While the own log is compared with the platform above, what comes from there waits."""
    upper, middle = make(PROVINCE), make(CITY)
    upper.address(CITY, b"one")
    with middle.journal.engine.begin() as pooled:
        middle.journal.writer.begin(raw_connection(pooled), NOW, is_recovering=True)
    (batch,) = upper.batches_for(middle)
    assert middle.refusal(batch).reason is Reason.RECOVERING
    head = middle.journal.head(CITY)
    assert head is not None
    middle.journal.handlers.confirm_own_log(head.size, head.root)
    assert middle.receive(batch).log.through_sequence == 2


def test_a_log_that_is_held_in_full_addresses_nothing_to_us(make: MakePlatform) -> None:
    """A platform that was below us cannot address entries to us: they would stand beside its log."""
    upper, lower = make(CITY), make(COUNTY)
    upper.journal.pull(lower.journal, COUNTY)
    lower.address(CITY, b"upside down")
    lower.move({CITY: COUNTY, COUNTY: PROVINCE})
    (batch,) = lower.batches_for(upper)
    refusal = upper.refusal(batch)
    assert refusal.reason is Reason.ORIGIN_NOT_ALLOWED
