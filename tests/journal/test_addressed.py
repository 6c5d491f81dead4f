"""Entries addressed to platforms below: in order, each once, proven, acknowledged, over any number of hops."""

import pytest

from services.common.errors import ServiceError
from services.common.reasons import Reason
from tests.journal.addressed import OTHER_CITY, OTHER_COUNTY, Platform
from tests.journal.conftest import MakeJournal
from tests.journal.paper_log import CITY, COUNTY, NOW, PROVINCE, STREAM


def test_an_entry_goes_to_its_audience_and_to_nobody_else(
    upper: Platform, middle: Platform, journal: MakeJournal
) -> None:
    other = Platform(journal(OTHER_CITY).begin())
    upper.journal.write(b"for nobody below")
    mine = upper.address(CITY, b"for the city")
    below = upper.address(COUNTY, b"for its county")
    everybody = upper.address(PROVINCE, b"for everybody")
    middle.follow(upper)
    other.follow(upper)
    assert middle.held(PROVINCE) == {mine: b"for the city", below: b"for its county", everybody: b"for everybody"}
    assert other.held(PROVINCE) == {everybody: b"for everybody"}


def test_a_county_gets_what_the_province_addresses_to_it_through_its_city(
    upper: Platform, middle: Platform, lower: Platform
) -> None:
    upper.address(OTHER_COUNTY, b"elsewhere")
    first = upper.address(COUNTY, b"first")
    upper.address(OTHER_CITY, b"for another city and all below it")
    second = upper.address(PROVINCE, b"second")
    third = middle.address(COUNTY, b"from the city")
    middle.follow(upper)
    lower.follow(middle)
    assert lower.held(PROVINCE) == {first: b"first", second: b"second"}
    assert lower.held(CITY) == {third: b"from the city"}


def test_what_was_received_is_not_sent_again(upper: Platform, middle: Platform) -> None:
    upper.address(CITY, b"one")
    assert [received.log.through_sequence for received in middle.follow(upper)] == [2]
    assert middle.follow(upper) == []
    upper.address(CITY, b"two", b"three")
    (received,) = middle.follow(upper)
    assert (received.log.through_sequence, received.duplicate_count) == (4, 0)
    assert middle.held(PROVINCE) == {2: b"one", 3: b"two", 4: b"three"}


def test_a_batch_that_comes_twice_is_recognised(upper: Platform, middle: Platform) -> None:
    upper.address(CITY, b"one", b"two")
    (batch,) = upper.batches_for(middle)
    middle.receive(batch)
    before = middle.journal.content()
    received = middle.receive(batch)
    assert (received.log.through_sequence, received.duplicate_count, received.parked_count) == (3, 2, 0)
    assert middle.journal.content() == before


def test_weighings_in_between_move_nothing(upper: Platform, middle: Platform) -> None:
    upper.address(CITY, b"one")
    middle.follow(upper)
    upper.journal.write_many(1_000)
    assert upper.batches_for(middle) == []
    upper.address(CITY, b"two")
    middle.follow(upper)
    assert middle.held(PROVINCE) == {2: b"one", 1_003: b"two"}


def test_a_step_of_which_nothing_is_for_the_reader_moves_its_position(upper: Platform, middle: Platform) -> None:
    upper.address(OTHER_CITY, b"elsewhere")
    (received,) = middle.follow(upper)
    assert received.log.through_sequence == 2
    assert middle.held(PROVINCE) == {}
    assert middle.journal.size(CITY) == 1, "nothing was received, so nothing is acknowledged"


def test_receipts_stand_in_the_receivers_own_log_and_go_up_with_it(
    upper: Platform, middle: Platform, lower: Platform
) -> None:
    upper.address(COUNTY, b"one", b"two")
    middle.follow(upper)
    lower.follow(middle)
    upper.address(CITY, b"three")
    middle.follow(upper)
    middle.journal.pull(lower.journal, COUNTY)
    upper.journal.pull(middle.journal, COUNTY)
    upper.journal.pull(middle.journal, CITY)
    assert upper.receipts() == [(2, CITY), (2, COUNTY), (3, CITY), (3, COUNTY), (4, CITY)]
    assert middle.receipts(PROVINCE) == upper.receipts()
    assert lower.receipts(PROVINCE) == [(2, COUNTY), (3, COUNTY)]
    assert upper.journal.parked() == []


def test_positions_say_what_is_held(upper: Platform, middle: Platform) -> None:
    upper.address(CITY, b"one", b"unprojectable")
    upper.address(COUNTY, b"three")
    upper.address(OTHER_CITY, b"elsewhere")
    middle.follow(upper)
    position = middle.position(PROVINCE)
    assert (position.origin, position.stream, position.through_sequence) == (PROVINCE, STREAM, 5)
    assert [(one.audience, one.count) for one in position.audiences] == [(CITY, 2), (COUNTY, 1)]
    assert (position.parked_count, position.is_own) == (1, False)
    assert position.last_receive_time.ToDatetime(tzinfo=NOW.tzinfo) == NOW
    own = upper.position(PROVINCE)
    assert (own.through_sequence, own.root, own.is_own) == (5, position.root, True)
    assert [(one.audience, one.count) for one in own.audiences] == [(CITY, 2), (COUNTY, 1), (OTHER_CITY, 1)]


def test_a_platform_reads_what_came_from_above_for_itself(upper: Platform, middle: Platform, lower: Platform) -> None:
    first = upper.address(COUNTY, b"from the province")
    second = middle.address(COUNTY, b"from the city")
    lower.address(COUNTY, b"our own")
    middle.follow(upper)
    lower.follow(middle)
    answers = lower.answers_for(COUNTY, [])
    batches = [answer.batch for answer in answers if answer.WhichOneof("content") == "batch"]
    assert {batch.origin: [one.sequence for step in batch.steps for one in step.entries] for batch in batches} == {
        PROVINCE: [1, first],
        CITY: [1, second],
    }


def test_a_gap_names_what_is_expected(upper: Platform, middle: Platform) -> None:
    upper.address(CITY, b"one")
    (first,) = upper.batches_for(middle)
    middle.receive(first)
    upper.address(CITY, b"two")
    middle.follow(upper)
    upper.address(CITY, b"three")
    (third,) = upper.batches_for(middle)
    fresh = Platform(middle.journal)
    middle.journal.empty()
    middle.journal.begin()
    with pytest.raises(ServiceError) as refusal:
        fresh.receive(third)
    assert refusal.value.reason is Reason.SEQUENCE_GAP
    assert refusal.value.metadata == {"origin": PROVINCE, "expected_sequence": "0"}
