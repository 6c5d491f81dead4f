"""What may be deleted: the rule by itself, and the tables from which it is fed, in whatever order logs arrive."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.video.custody import CustodyAction, CustodyFact, retained_until, standing_holds
from services.video.domain import Name
from services.video.keeping_rules import HELD_LOOK_AGAIN, Keeper, Pace, Presence, may_delete, next_look
from services.video.store import keeping as store
from services.video.store.projected import ArrivedCustodyEvent, ArrivedEvidence, put_custody_events, put_evidence
from tests.video.harness import COUNTY, UNIT
from tests.video.keeping.harness import Kept

NOW = datetime(2026, 7, 1, tzinfo=UTC)
DIGEST = b"d" * 32

MOMENTS = st.integers(-5, 5).map(lambda days: NOW + timedelta(days=days))
KEEPERS = st.lists(st.builds(Keeper, MOMENTS, st.booleans(), st.none() | MOMENTS), max_size=4)


GRACES = st.integers(0, 3).map(lambda days: timedelta(days=days))


@given(KEEPERS, GRACES)
def test_bytes_may_be_deleted_exactly_when_somebody_did_and_nobody_does_keep_them(
    keepers: list[Keeper], grace: timedelta
) -> None:
    expected = len(keepers) > 0 and all(
        not one.is_held
        and one.retain_until_time + grace <= NOW
        and (one.requested_until_time is None or one.requested_until_time <= NOW)
        for one in keepers
    )

    assert may_delete(keepers, NOW, grace) == expected


@given(KEEPERS, MOMENTS, GRACES)
def test_one_more_that_keeps_never_makes_it_deletable(keepers: list[Keeper], until: datetime, grace: timedelta) -> None:
    if not may_delete(keepers, NOW, grace) and keepers:
        assert not may_delete([*keepers, Keeper(until, is_held=False)], NOW, grace)


@given(KEEPERS, GRACES)
def test_nobody_looks_again_later_than_it_may_be_deleted(keepers: list[Keeper], grace: timedelta) -> None:
    look = next_look(keepers, NOW, grace)

    assert look > NOW
    # Without any further event: the last of all ends, or a hold is looked at daily.
    ends = [one.retain_until_time + grace for one in keepers]
    ends += [one.requested_until_time for one in keepers if one.requested_until_time]
    assert look <= max([*ends, NOW + HELD_LOOK_AGAIN])


def test_what_is_kept_to_the_end_of_the_calendar_is_kept() -> None:
    """A platform below may send any time that there is."""
    keepers = [Keeper(datetime.max.replace(tzinfo=UTC), is_held=False)]

    assert not may_delete(keepers, NOW, GRACE)
    assert next_look(keepers, NOW, GRACE) == datetime.max.replace(tzinfo=UTC)


# After a time away

GRACE = timedelta(days=14)


def waits(away: timedelta | None, *, before: timedelta = timedelta(0)) -> timedelta:
    """Return for how long nothing is deleted after a time away; `before` it was to wait so long from now on."""
    present = None if away is None else NOW - away
    noted = Presence(present, NOW + before).noted(NOW, GRACE)
    assert noted.delete_after_time is not None
    return noted.delete_after_time - NOW


def test_after_a_time_away_nothing_is_deleted_for_as_long_as_that_was() -> None:
    hours, weeks = timedelta(hours=60), timedelta(weeks=5)

    assert (waits(hours), waits(weeks), waits(None)) == (hours, GRACE, GRACE)


def test_a_restart_is_no_time_away_and_does_not_end_a_wait() -> None:
    minute, days = timedelta(minutes=1), timedelta(days=2)

    assert (waits(minute), waits(minute, before=days)) == (timedelta(0), days)


def test_a_clock_that_was_wrong_makes_nobody_wait_longer_than_a_grace() -> None:
    ahead = timedelta(days=4_000)

    assert (waits(-ahead), waits(timedelta(minutes=1), before=ahead)) == (GRACE, GRACE)


def test_reading_is_spread_over_time() -> None:
    pace = Pace(100)

    assert [pace.took(50, 10.0), pace.took(50, 10.5), pace.took(50, 10.75)] == [0.5, 0.5, 0.75]
    # What was not read during a pause is not made up for.
    assert pace.took(100, 60.0) == 1.0


# The tables

PLATFORMS = (COUNTY, "141000", "140000")
NAMES = tuple(Name(COUNTY, UNIT, f"e-{number}") for number in range(3))


@st.composite
def logs(draw: st.DrawFn) -> list[list[ArrivedCustodyEvent]]:
    """Make the logs of several platforms: holds, releases, extensions and requests about the same bytes."""
    made = []
    for platform in PLATFORMS:
        log = []
        for sequence in range(1, draw(st.integers(0, 6)) + 1):
            action = draw(
                st.sampled_from(
                    [
                        CustodyAction.HOLD_PLACED,
                        CustodyAction.HOLD_RELEASED,
                        CustodyAction.RETENTION_EXTENDED,
                        CustodyAction.REQUESTED,
                        CustodyAction.VIEWED,
                    ]
                )
            )
            has_end = action in (CustodyAction.RETENTION_EXTENDED, CustodyAction.REQUESTED)
            log.append(
                ArrivedCustodyEvent(
                    platform,
                    sequence,
                    draw(st.sampled_from(NAMES)),
                    DIGEST,
                    action,
                    NOW,
                    draw(st.sampled_from(["case-1", "case-2"])),
                    draw(MOMENTS) if has_end else None,
                    b"",
                )
            )
        made.append(log)
    return made


def manifest(name: Name, until: datetime) -> ArrivedEvidence:
    """Return a manifest of the bytes."""
    return ArrivedEvidence(name, 1, b"leaf", 3, DIGEST, 9, "", NOW, None, NOW, until, (), b"")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrived=logs(), untils=st.lists(MOMENTS, min_size=1, max_size=3), order=st.randoms(use_true_random=False))
def test_the_tables_say_what_the_events_say_in_whatever_order_they_come(
    kept: Kept,
    arrived: list[list[ArrivedCustodyEvent]],
    untils: list[datetime],
    order: random.Random,
) -> None:
    events = [event for log in arrived for event in log]
    order.shuffle(events)
    named = list(zip(NAMES, untils, strict=False))
    with psycopg.connect(kept.url, options="-c TimeZone=UTC") as connection:
        begins = order.randint(0, len(events))
        for event in events[:begins]:
            put_custody_events(connection, [event])
        put_evidence(connection, [manifest(name, until) for name, until in named])
        for event in events[begins:]:
            put_custody_events(connection, [event])
        keepers = [Keeper(*row) for row in store.read_keepers(connection, DIGEST)]
        connection.rollback()

    assert may_delete(keepers, NOW, timedelta(0)) == expected(named, events)


def expected(named: Sequence[tuple[Name, datetime]], events: Sequence[ArrivedCustodyEvent]) -> bool:
    """Say from the events alone whether the bytes may be deleted."""
    for name, until in named:
        facts = [
            CustodyFact(
                one.origin, one.sequence, one.action, one.event_time, reference_id=one.reference_id,
                until_time=one.until_time,
            )
            for one in events
            if one.name == name
        ]  # fmt: skip
        requests = [one.until_time for one in facts if one.action == CustodyAction.REQUESTED and one.until_time]
        if standing_holds(facts) or retained_until(until, facts) > NOW or any(end > NOW for end in requests):
            return False
    return True
