"""A weighing and its evidence find each other in whatever order, however often, and at once."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.video.domain import EvidenceKind
from services.video.store import weighings
from services.video.store.projected import ArrivedEvidence, put_evidence
from services.video.store.weighings import CAPTURE_TOLERANCE, LINK_LOCK_KEY, ReadLog, SuspectedRow
from tests.video.completeness.examples import (
    CLIP,
    COUNTY,
    DAY,
    DOCUMENT,
    MINUTE,
    NEIGHBOUR,
    NOON,
    OTHER_UNIT,
    PHOTO,
    UNIT,
    evidence,
    expected_seals,
    keep,
    seal,
    seals,
    suspected,
)
from tests.waiting import wait_until

Connection = psycopg.Connection[Any]

RECORD = (COUNTY, UNIT, "r-1")


def test_a_weighing_finds_what_was_sealed_before(connection: Connection) -> None:
    seal(connection, evidence("c-1", "r-1"), evidence("p-1", "r-1", kind=PHOTO, seal_time=NOON + MINUTE, sequence=2))
    keep(connection, suspected("r-1", 1))

    assert seals(connection) == {RECORD: (NOON, NOON + MINUTE)}


def test_evidence_finds_a_weighing_that_was_there_before(connection: Connection) -> None:
    keep(connection, suspected("r-1", 1))
    seal(connection, evidence("c-1", "r-1"), evidence("p-1", "r-1", kind=PHOTO, seal_time=NOON + MINUTE, sequence=2))

    assert seals(connection) == {RECORD: (NOON, NOON + MINUTE)}


def test_the_first_seal_counts_in_whatever_order_manifests_come(connection: Connection) -> None:
    keep(connection, suspected("r-1", 1))
    seal(connection, evidence("c-2", "r-1", seal_time=NOON + DAY, sequence=2), evidence("c-1", "r-1"))

    assert seals(connection) == {RECORD: (NOON, None)}


def test_evidence_of_another_platform_or_unit_or_kind_proves_nothing(connection: Connection) -> None:
    keep(connection, suspected("r-1", 1))
    seal(
        connection,
        evidence("c-1", "r-1", origin=NEIGHBOUR),
        evidence("c-2", "r-1", unit=OTHER_UNIT),
        evidence("c-3", "r-1", kind=DOCUMENT),
        evidence("c-4", "r-2"),
    )

    assert seals(connection) == {RECORD: (None, None)}


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("is_weighing_first", [True, False])
@pytest.mark.parametrize(
    ("start_time", "end_time", "counts"),
    [
        (NOON - DAY, NOON - DAY + MINUTE, False),
        (NOON - DAY, NOON + DAY, True),
        (NOON - CAPTURE_TOLERANCE - MINUTE, NOON - CAPTURE_TOLERANCE, True),
        (NOON - CAPTURE_TOLERANCE - MINUTE, NOON - CAPTURE_TOLERANCE - SECOND, False),
        (NOON + CAPTURE_TOLERANCE, NOON + DAY, True),
        (NOON + CAPTURE_TOLERANCE + SECOND, NOON + DAY, False),
        (NOON - CAPTURE_TOLERANCE, None, True),
        (NOON - CAPTURE_TOLERANCE - SECOND, None, False),
    ],
)
@pytest.mark.parametrize("kind", [CLIP, PHOTO])
def test_what_shows_another_time_proves_nothing(
    connection: Connection,
    kind: EvidenceKind,
    start_time: datetime,
    end_time: datetime | None,
    *,
    counts: bool,
    is_weighing_first: bool,
) -> None:
    if is_weighing_first:
        keep(connection, suspected("r-1", 1))
    seal(connection, evidence("e-1", "r-1", kind=kind, start_time=start_time, end_time=end_time))
    if not is_weighing_first:
        keep(connection, suspected("r-1", 1))

    sealed = NOON if counts else None
    assert seals(connection) == {RECORD: (sealed, None) if kind == CLIP else (None, sealed)}


def test_a_weighing_that_turns_out_to_be_of_another_time_loses_its_clip(connection: Connection) -> None:
    keep(connection, suspected("r-1", 3))
    seal(connection, evidence("c-1", "r-1"))
    again = weighings.read_again(connection, COUNTY, weighings.read_logs(connection)[COUNTY], 1)
    weighings.keep_batch(connection, COUNTY, again, ReadLog(10, b"root"), [suspected("r-1", 4, NOON + DAY)])

    assert seals(connection) == {RECORD: (None, None)}


def test_one_clip_may_prove_several_weighings(connection: Connection) -> None:
    keep(connection, suspected("r-1", 1), suspected("r-2", 2))
    seal(connection, evidence("c-1", "r-1", "r-2"))

    assert seals(connection) == {RECORD: (NOON, None), (COUNTY, UNIT, "r-2"): (NOON, None)}


def test_a_manifest_that_turns_out_to_be_a_later_one_is_taken_back(connection: Connection) -> None:
    keep(connection, suspected("r-1", 1))
    seal(connection, evidence("e-1", "r-1", seal_time=NOON + DAY, sequence=7))
    seal(connection, evidence("e-1", "r-1", kind=PHOTO, sequence=5))

    assert seals(connection) == {RECORD: (None, NOON)}


def test_a_log_read_again_replaces_what_was_kept_of_it(connection: Connection) -> None:
    seal(connection, evidence("c-1", "r-2"))
    keep(connection, suspected("r-1", 3), suspected("r-2", 5))
    standing = weighings.read_logs(connection)[COUNTY]
    again = weighings.read_again(connection, COUNTY, standing, 1)
    weighings.keep_batch(connection, COUNTY, again, ReadLog(10, b"root"), [suspected("r-2", 4)])

    assert seals(connection) == {(COUNTY, UNIT, "r-2"): (NOON, None)}


def test_a_record_moves_to_its_place_in_the_new_history(connection: Connection) -> None:
    keep(connection, suspected("r-1", 3), suspected("r-2", 900))
    again = weighings.begin_again(connection, COUNTY, weighings.read_logs(connection)[COUNTY], 500)
    weighings.keep_batch(connection, COUNTY, again, ReadLog(500, b"root"), [suspected("r-2", 4, NOON + DAY)])

    rows = connection.execute("SELECT record_id, sequence, weigh_time FROM suspected_weighings").fetchall()
    assert rows == [("r-2", 4, NOON + DAY)]


def test_beginning_again_forgets_what_lies_beyond_the_end(connection: Connection) -> None:
    keep(connection, suspected("r-1", 3), suspected("r-2", 900))
    weighings.begin_again(connection, COUNTY, weighings.read_logs(connection)[COUNTY], 500)

    assert list(seals(connection)) == [RECORD]


def test_whoever_was_second_to_begin_again_changes_nothing(connection: Connection) -> None:
    keep(connection, suspected("r-1", 3))
    standing = weighings.read_logs(connection)[COUNTY]
    weighings.begin_again(connection, COUNTY, standing, 500)
    weighings.keep_batch(connection, COUNTY, weighings.UNREAD, ReadLog(700, b"root"), [suspected("r-9", 600)])

    assert weighings.begin_again(connection, COUNTY, standing, 500) == ReadLog(700, b"root")
    assert list(seals(connection)) == [(COUNTY, UNIT, "r-9")]


def test_a_batch_that_another_replica_has_kept_is_left_out(connection: Connection) -> None:
    keep(connection, suspected("r-1", 3))

    held = weighings.keep_batch(connection, COUNTY, weighings.UNREAD, ReadLog(9, b"other"), [suspected("r-2", 8)])

    assert held == ReadLog(3, b"root")
    assert list(seals(connection)) == [RECORD]


def test_the_first_weighing_of_a_newer_schema_is_remembered(connection: Connection) -> None:
    first = weighings.keep_batch(connection, COUNTY, weighings.UNREAD, ReadLog(9, b"a", 4, 3), [])
    second = weighings.keep_batch(connection, COUNTY, first, ReadLog(19, b"b", 12, 2), [])
    third = weighings.keep_batch(connection, COUNTY, second, ReadLog(29, b"c"), [])

    assert third == ReadLog(29, b"c", 4, 2)
    assert weighings.read_again(connection, COUNTY, third, 4) == ReadLog(3, b"")


@pytest.mark.parametrize("is_weighing_first", [True, False])
def test_two_transactions_at_once_do_not_miss_each_other(video_url: str, *, is_weighing_first: bool) -> None:
    """One has written and not committed when the other one writes."""
    with psycopg.connect(video_url) as first, psycopg.connect(video_url) as second:

        def write_weighing(connection: Connection) -> None:
            keep(connection, suspected("r-1", 1))

        def write_evidence(connection: Connection) -> None:
            seal(connection, evidence("c-1", "r-1"))

        early, late = (write_weighing, write_evidence) if is_weighing_first else (write_evidence, write_weighing)
        early(first)
        other = threading.Thread(target=late, args=(second,))
        other.start()
        wait_until(lambda: _waits_for_link(video_url), "the second one waits for the first")
        first.commit()
        other.join()
        second.commit()

    with psycopg.connect(video_url) as reader:
        assert seals(reader) == {RECORD: (NOON, None)}


def _waits_for_link(url: str) -> bool:
    with psycopg.connect(url) as watcher:
        row = watcher.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND (classid::bigint << 32 | objid::bigint) = %s",
            (LINK_LOCK_KEY,),
        ).fetchone()
        return row is not None and row[0] == 1


def test_writers_of_evidence_do_not_wait_for_each_other(video_url: str) -> None:
    with psycopg.connect(video_url) as first, psycopg.connect(video_url) as second:
        second.execute("SET lock_timeout = '5s'")
        seal(first, evidence("c-1", "r-1"))
        seal(second, evidence("c-2", "r-1", origin=NEIGHBOUR))


def test_logs_that_are_written_and_read_at_once_miss_nothing(video_url: str) -> None:
    """One writer of evidence and one follower for each of two platforms, as fast as they can."""
    count = 120
    rows = [(origin, suspected(f"r-{place}", place)) for origin in (COUNTY, NEIGHBOUR) for place in range(1, count + 1)]
    clips = [
        evidence(f"c-{place}", f"r-{place}", f"r-{place % 7 + 1}", origin=origin, sequence=place)
        for origin in (COUNTY, NEIGHBOUR)
        for place in range(count, 0, -1)
    ]

    def write(origin: str) -> None:
        with psycopg.connect(video_url) as connection:
            for clip in clips:
                if clip.name.origin == origin:
                    put_evidence(connection, [clip])
                    connection.commit()

    def follow(origin: str) -> None:
        with psycopg.connect(video_url) as connection:
            for place, row in rows:
                if place == origin:
                    keep(connection, row, origin=origin)
                    connection.commit()

    with ThreadPoolExecutor(4) as workers:
        for done in [workers.submit(work, origin) for origin in (COUNTY, NEIGHBOUR) for work in (write, follow)]:
            done.result()

    with psycopg.connect(video_url, options="-c TimeZone=UTC") as reader:
        assert seals(reader) == expected_seals(rows, clips)


# Any order

ORIGINS = (COUNTY, NEIGHBOUR)
UNITS = (UNIT, OTHER_UNIT)
RECORDS = ("r-1", "r-2", "r-3")

manifests = st.lists(
    st.builds(
        evidence,
        st.sampled_from(["e-1", "e-2", "e-3", "e-4", "e-5", "e-6"]),
        st.sampled_from(RECORDS),
        st.sampled_from(RECORDS),
        kind=st.sampled_from([PHOTO, CLIP, DOCUMENT]),
        seal_time=st.integers(0, 300).map(lambda minutes: NOON + timedelta(minutes=minutes)),
        unit=st.sampled_from(UNITS),
        origin=st.sampled_from(ORIGINS),
        start_time=st.sampled_from([NOON, NOON - DAY, NOON + MINUTE, NOON + DAY]),
        end_time=st.sampled_from([None, NOON, NOON + DAY]),
    ),
    max_size=12,
    unique_by=lambda one: one.name,
)
rows = st.lists(
    st.tuples(st.sampled_from(ORIGINS), st.sampled_from(UNITS), st.sampled_from(RECORDS)), unique=True, max_size=8
)


@pytest.fixture
def emptied(connection: Connection) -> Iterator[Connection]:
    """Return a connection; a test empties what it writes by rolling back."""
    connection.autocommit = False
    yield connection
    connection.rollback()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows, manifests=manifests, random=st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same(
    emptied: Connection,
    rows: list[tuple[str, str, str]],
    manifests: list[ArrivedEvidence],
    random: Any,
) -> None:
    # What a failed example has left, when it is tried again smaller.
    emptied.rollback()
    placed = [
        (origin, suspected(record, sequence, unit=unit)) for sequence, (origin, unit, record) in enumerate(rows, 1)
    ]
    arrivals: list[tuple[str, SuspectedRow] | ArrivedEvidence] = [*placed, *manifests]
    random.shuffle(arrivals)

    for arrival in arrivals:
        if isinstance(arrival, ArrivedEvidence):
            # Some come again, as after a replay.
            for _ in range(random.choice([1, 1, 2])):
                put_evidence(emptied, [arrival])
        else:
            origin, row = arrival
            again = weighings.read_logs(emptied).get(origin, weighings.UNREAD)
            before = weighings.read_again(emptied, origin, again, row.sequence)
            weighings.keep_batch(emptied, origin, before, ReadLog(row.sequence, b""), [row])

    assert seals(emptied) == expected_seals(placed, manifests)
