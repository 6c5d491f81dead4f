"""The tables of holds and extensions against the plain rules, in whatever order the logs of three platforms arrive."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.instants import timestamp
from services.video import custody, kinds
from services.video.custody import CustodyAction, CustodyFact
from services.video.domain import Name
from services.video.projection import VideoProjection
from services.video.store import custody as custody_store
from services.video.store import reading as reading_store
from tests.conftest import Databases
from tests.video.harness import CITY, COUNTY, PROVINCE, SCHEMA, UNIT, migrate
from zhichao.video.v1 import custody_pb2, evidence_pb2

NOW = datetime(2025, 3, 1, 4, 0, tzinfo=UTC)
NAME = Name(COUNTY, UNIT, "photo-1")
DIGEST = bytes(range(32))
LEAF = bytes(32)
MANIFEST = evidence_pb2.Evidence(
    source_unit_id=UNIT,
    evidence_id="photo-1",
    digest=DIGEST,
    size_bytes=7,
    seal_time=timestamp(NOW),
    retain_until_time=timestamp(NOW),
)
DERIVING = (CustodyAction.HOLD_PLACED, CustodyAction.HOLD_RELEASED, CustodyAction.RETENTION_EXTENDED)

Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def connection(databases: Databases) -> Iterator[Connection]:
    """Open a database of the video service."""
    url = databases.borrow(SCHEMA, migrate)
    with psycopg.connect(url, options="-c TimeZone=UTC") as opened:
        yield opened
    databases.give_back(SCHEMA, url)


@st.composite
def _logs(draw: st.DrawFn) -> list[CustodyFact]:
    return [
        CustodyFact(
            platform,
            sequence,
            draw(st.sampled_from(DERIVING)),
            NOW,
            reference_id=draw(st.sampled_from(["case-1", "case-2"])),
            until_time=NOW + timedelta(days=draw(st.integers(-400, 400))),
        )
        for platform in (COUNTY, CITY, PROVINCE)
        for sequence in range(2, draw(st.integers(1, 6)) + 1)
    ]


def _payload(fact: CustodyFact) -> bytes:
    assert fact.until_time is not None
    return custody_pb2.CustodyEvent(
        evidence_origin=NAME.origin,
        source_unit_id=NAME.source_unit_id,
        evidence_id=NAME.evidence_id,
        digest=DIGEST,
        action=custody_pb2.CustodyAction.ValueType(fact.action),
        purpose="案件核查",
        event_time=timestamp(fact.event_time),
        reference_id=fact.reference_id,
        until_time=timestamp(fact.until_time),
    ).SerializeToString()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(_logs(), st.data())
def test_tables_say_what_the_rules_say(connection: Connection, facts: list[CustodyFact], data: st.DataObject) -> None:
    projection = VideoProjection()
    # The manifest comes anywhere among them, and what was parked is replayed in any order.
    arrivals: list[CustodyFact | None] = data.draw(st.permutations([None, *facts]))
    for arrived in arrivals:
        if arrived is None:
            prepared = projection.prepare(COUNTY, kinds.EVIDENCE_KIND, MANIFEST.SerializeToString(), LEAF)
            projection.project(connection, COUNTY, [(1, prepared)])
        else:
            prepared = projection.prepare(arrived.platform, kinds.CUSTODY_KIND, _payload(arrived), LEAF)
            projection.project(connection, arrived.platform, [(arrived.sequence, prepared)])

    row = reading_store.read_evidence(connection, NAME)
    holds = custody_store.read_holds(connection, [NAME]).get(NAME, [])
    connection.rollback()

    assert row is not None
    assert row.retain_until_time == custody.retained_until(NOW, facts)
    standing = custody.standing_holds(facts)
    assert {(hold.platform, hold.hold_id) for hold in holds} == {(one.platform, one.reference_id) for one in standing}
