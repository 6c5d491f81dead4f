"""The tables as a function of the journal: whatever order logs and replayed entries come in, and whatever they hold."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from services.common.database import RawConnection
from services.common.instants import timestamp
from services.journal.projection import Unprojectable
from services.video import kinds
from services.video.domain import Name
from services.video.projection import VideoProjection
from services.video.store import custody as custody_store
from services.video.store import reading as reading_store
from tests.conftest import Databases
from tests.video.harness import SCHEMA, migrate
from zhichao.video.v1 import camera_pb2, custody_pb2, evidence_pb2

PROVINCE, CITY, COUNTY = "140000", "141000", "141025"
NOW = datetime(2026, 1, 15, 8, 30, tzinfo=UTC)
LEAF = bytes(32)

Written = tuple[str, int, str, bytes]
"""Origin, sequence, kind and payload of an entry."""

TABLES = (
    "evidence",
    "evidence_subjects",
    "custody_events",
    "legal_holds",
    "retention_extensions",
    "cameras",
    "objects",
)


@pytest.fixture
def connection(databases: Databases) -> Iterator[RawConnection]:
    url = databases.borrow(SCHEMA, migrate)
    with psycopg.connect(url, options="-c TimeZone=UTC") as opened:
        yield opened
    databases.give_back(SCHEMA, url)


def manifest(**fields: Any) -> bytes:
    values: dict[str, Any] = {
        "source_unit_id": "u",
        "evidence_id": "e",
        "kind": evidence_pb2.EVIDENCE_KIND_PHOTO,
        "digest": b"\x01" * 32,
        "size_bytes": 10,
        "capture_start_time": timestamp(NOW),
        "subjects": [evidence_pb2.Subject(record_id="r"), evidence_pb2.Subject(acceptance_id="a")],
        "retain_until_time": timestamp(NOW + timedelta(days=30)),
        "seal_time": timestamp(NOW + timedelta(minutes=1)),
    }
    return evidence_pb2.Evidence(**(values | fields)).SerializeToString()


def event(action: int, **fields: Any) -> bytes:
    values: dict[str, Any] = {
        "evidence_origin": COUNTY,
        "source_unit_id": "u",
        "evidence_id": "e",
        "digest": b"\x01" * 32,
        "action": action,
        "purpose": "示例",
        "event_time": timestamp(NOW),
    }
    return custody_pb2.CustodyEvent(**(values | fields)).SerializeToString()


def camera(state: int, **fields: Any) -> bytes:
    values: dict[str, Any] = {
        "source_unit_id": "u",
        "camera_id": "c",
        "state": state,
        "state_time": timestamp(NOW),
        "receive_time": timestamp(NOW),
    }
    return camera_pb2.CameraReport(**(values | fields)).SerializeToString()


HOLD, RELEASE = custody_pb2.CUSTODY_ACTION_HOLD_PLACED, custody_pb2.CUSTODY_ACTION_HOLD_RELEASED
EXTEND = custody_pb2.CUSTODY_ACTION_RETENTION_EXTENDED

HISTORY: list[Written] = [
    (COUNTY, 2, kinds.EVIDENCE_KIND, manifest()),
    # The same name once more is a fault of its origin: the first one counts.
    (COUNTY, 3, kinds.EVIDENCE_KIND, manifest(size_bytes=11)),
    (COUNTY, 4, kinds.CUSTODY_KIND, event(custody_pb2.CUSTODY_ACTION_VIEWED)),
    (CITY, 2, kinds.CUSTODY_KIND, event(HOLD, reference_id="case-1", actor="person/a")),
    (CITY, 3, kinds.CUSTODY_KIND, event(RELEASE, reference_id="case-1")),
    (CITY, 4, kinds.CUSTODY_KIND, event(HOLD, reference_id="case-1", actor="person/b")),
    (CITY, 5, kinds.CUSTODY_KIND, event(HOLD, reference_id="case-2")),
    (CITY, 6, kinds.CUSTODY_KIND, event(RELEASE, reference_id="case-2")),
    # Another platform releases what it never placed.
    (PROVINCE, 2, kinds.CUSTODY_KIND, event(RELEASE, reference_id="case-1")),
    (PROVINCE, 3, kinds.CUSTODY_KIND, event(EXTEND, until_time=timestamp(NOW + timedelta(days=90)))),
    (CITY, 7, kinds.CUSTODY_KIND, event(EXTEND, until_time=timestamp(NOW + timedelta(days=60)))),
    (COUNTY, 5, kinds.CAMERA_KIND, camera(camera_pb2.RECORDING_STATE_RECORDING)),
    (COUNTY, 6, kinds.CAMERA_KIND, camera(camera_pb2.RECORDING_STATE_BLIND)),
]


def write(connection: RawConnection, written: list[Written]) -> None:
    """Project entries one after another."""
    projection = VideoProjection()
    for origin, sequence, kind, payload in written:
        projection.project(connection, origin, [(sequence, projection.prepare(origin, kind, payload, LEAF))])


def rows(connection: RawConnection) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table, in some order that is always the same."""
    return {table: sorted(connection.execute(f"SELECT * FROM {table}".encode()), key=repr) for table in TABLES}  # noqa: S608 - our own names


def test_what_follows_from_the_journal(connection: RawConnection) -> None:
    write(connection, HISTORY)
    name = Name(COUNTY, "u", "e")

    row = reading_store.read_evidence(connection, name)
    assert row is not None
    assert (row.sequence, row.size_bytes, row.state) == (2, 10, 2)
    assert row.retain_until_time == NOW + timedelta(days=90)
    (hold,) = custody_store.read_holds(connection, [name])[name]
    placed = custody_pb2.CustodyEvent.FromString(hold.content)
    assert (hold.platform, hold.hold_id, placed.actor) == (CITY, "case-1", "person/b")
    assert connection.execute("SELECT sequence, state FROM cameras").fetchall() == [(6, 3)]
    assert connection.execute("SELECT subject_kind, subject_id FROM evidence_subjects ORDER BY 1").fetchall() == [
        (1, "r"),
        (2, "a"),
    ]


@pytest.mark.parametrize("seed", range(12))
def test_any_order_gives_the_same_tables(connection: RawConnection, seed: int) -> None:
    write(connection, HISTORY)
    expected = rows(connection)
    connection.rollback()
    shuffled = [*HISTORY, *HISTORY[::2]]
    random.Random(seed).shuffle(shuffled)
    # An object is known by whichever manifest comes first: both name the same bytes here, with sizes that differ.
    write(connection, shuffled)
    found = rows(connection)

    del expected["objects"], found["objects"]
    assert found == expected


def test_an_extension_never_shortens(connection: RawConnection) -> None:
    earlier = event(EXTEND, until_time=timestamp(NOW + timedelta(days=1)))
    write(connection, [*HISTORY[:1], (CITY, 9, kinds.CUSTODY_KIND, earlier)])

    row = reading_store.read_evidence(connection, Name(COUNTY, "u", "e"))
    assert row is not None
    assert row.retain_until_time == NOW + timedelta(days=30)


def test_evidence_without_a_time_of_capture_is_listed_by_its_seal(connection: RawConnection) -> None:
    write(connection, [(COUNTY, 2, kinds.EVIDENCE_KIND, manifest(capture_start_time=None))])

    assert connection.execute("SELECT list_time FROM evidence").fetchone() == (NOW + timedelta(minutes=1),)


def test_what_a_newer_release_writes_is_kept_as_far_as_it_is_understood(connection: RawConnection) -> None:
    newer = manifest(kind=77, subjects=[evidence_pb2.Subject()])
    unknown_action = event(99, reference_id="x")
    write(connection, [(COUNTY, 2, kinds.EVIDENCE_KIND, newer), (COUNTY, 3, kinds.CUSTODY_KIND, unknown_action)])

    assert connection.execute("SELECT kind FROM evidence").fetchone() == (77,)
    assert connection.execute("SELECT count(*) FROM evidence_subjects").fetchone() == (0,)
    assert connection.execute("SELECT action FROM custody_events").fetchone() == (99,)


@pytest.mark.parametrize(
    ("kind", "payload", "what"),
    [
        (kinds.EVIDENCE_KIND, b"\xff", "is not a zhichao.video.v1.Evidence"),
        (kinds.EVIDENCE_KIND, manifest(source_unit_id="a b"), "source_unit_id"),
        (kinds.EVIDENCE_KIND, manifest(evidence_id="a/b"), "evidence_id"),
        (kinds.EVIDENCE_KIND, manifest(digest=b"x"), "digest"),
        (kinds.EVIDENCE_KIND, manifest(size_bytes=0), "size_bytes"),
        (kinds.EVIDENCE_KIND, manifest(seal_time=None), "seal_time is missing"),
        (kinds.EVIDENCE_KIND, manifest(retain_until_time=None), "retain_until_time is missing"),
        (kinds.EVIDENCE_KIND, manifest(kind=40_000), "kind is 40000"),
        (kinds.EVIDENCE_KIND, manifest(camera_id="a\nb"), "camera_id"),
        (kinds.EVIDENCE_KIND, manifest(subjects=[evidence_pb2.Subject(record_id="a b")]), "subjects"),
        (kinds.EVIDENCE_KIND, manifest(subjects=[evidence_pb2.Subject(record_id="r")] * 17), "subjects has 17"),
        (kinds.CUSTODY_KIND, event(HOLD), "reference_id"),
        (kinds.CUSTODY_KIND, event(EXTEND), "until_time is missing"),
        (kinds.CUSTODY_KIND, event(1, evidence_origin="14"), "evidence_origin"),
        (kinds.CUSTODY_KIND, event(1, event_time=None), "event_time is missing"),
        (kinds.CUSTODY_KIND, event(-1), "action is -1"),
        (kinds.CAMERA_KIND, camera(1, camera_id=""), "camera_id"),
    ],
)
def test_what_cannot_be_a_row_is_parked(kind: str, payload: bytes, what: str) -> None:
    with pytest.raises(Unprojectable, match=what):
        VideoProjection().prepare(COUNTY, kind, payload, LEAF)
