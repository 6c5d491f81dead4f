"""The figures of completeness, of what is lacking and of cameras, as Prometheus reads them."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from prometheus_client import generate_latest

from services.common.database import Engine
from services.common.metrics import Metrics
from services.video import completeness_metrics
from services.video.completeness_metrics import CompletenessMetrics
from services.video.store import completeness as store
from services.video.store.completeness import PlatformCompleteness
from services.video.weighing_follower import WeighingFollower
from tests.video.completeness.examples import (
    COUNTY,
    DAY,
    IN_TIME,
    KEEP,
    MINUTE,
    NEIGHBOUR,
    NOON,
    PHOTO,
    camera,
    evidence,
    keep,
    seal,
    suspected,
)

Connection = psycopg.Connection[Any]
Scrape = Callable[[datetime], dict[str, float]]


def never() -> Any:
    raise AssertionError("nobody is followed here")


@pytest.fixture
def scrape(engine: Engine) -> Scrape:
    """Return what reads the figures of completeness at some time, by name with labels."""

    def read(now: datetime) -> dict[str, float]:
        metrics = Metrics("video", COUNTY)
        CompletenessMetrics(engine, COUNTY, IN_TIME, KEEP, lambda: now).add_to(metrics, WeighingFollower(engine, never))
        lines = generate_latest(metrics.registry).decode().splitlines()
        return {
            name.removeprefix("zhichao_evidence_"): float(value)
            for name, value in (line.rsplit(" ", 1) for line in lines if line.startswith("zhichao_evidence_"))
        }

    return read


def test_shares_are_of_those_that_had_their_time(connection: Connection, scrape: Scrape) -> None:
    keep(
        connection,
        suspected("yesterday", 1, NOON - DAY - IN_TIME),
        suspected("clip", 2, NOON - DAY),
        suspected("late", 3, NOON - DAY),
        suspected("photo", 4, NOON - DAY),
        suspected("nothing", 5, NOON - IN_TIME),
        suspected("on-its-way", 6, NOON - MINUTE),
    )
    keep(connection, suspected("r-1", 1, NOON - DAY), origin=NEIGHBOUR)
    seal(
        connection,
        evidence("c-1", "clip", seal_time=NOON - DAY, start_time=NOON - DAY),
        evidence("c-2", "late", seal_time=NOON, start_time=NOON - DAY),
        evidence("p-1", "photo", kind=PHOTO, start_time=NOON - DAY),
    )

    found = scrape(NOON)

    assert found[f'suspected_weighings{{origin="{COUNTY}"}}'] == 4
    assert [
        found[f'completeness_ratio{{kind="{kind}",origin="{COUNTY}"}}'] for kind in ("clip", "clip_in_time", "photo")
    ] == [
        0.5,
        0.25,
        0.25,
    ]
    assert found[f'completeness_ratio{{kind="clip",origin="{NEIGHBOUR}"}}'] == 0


def test_without_suspected_overloads_there_is_no_share(connection: Connection, scrape: Scrape) -> None:
    assert [name for name in scrape(NOON) if name.startswith(("completeness", "suspected", "lacking"))] == []


def test_what_is_lacking_and_what_of_it_ends(connection: Connection, scrape: Scrape) -> None:
    keep(connection, suspected("ending", 1, NOON - 28 * DAY), suspected("lacking", 2, NOON - DAY))

    found = scrape(NOON)

    assert found[f'lacking_weighings{{origin="{COUNTY}"}}'] == 2
    assert found[f'lacking_ending_weighings{{origin="{COUNTY}"}}'] == 1


def test_cameras_are_counted_by_state(connection: Connection, scrape: Scrape) -> None:
    for number, state in enumerate([1, 1, 3, 77]):
        camera(connection, f"c-{number}", DAY, state=state)

    found = scrape(NOON)

    assert {name: value for name, value in found.items() if name.startswith("cameras")} == {
        f'cameras{{origin="{COUNTY}",state="recording"}}': 2,
        f'cameras{{origin="{COUNTY}",state="blind"}}': 1,
        f'cameras{{origin="{COUNTY}",state="other"}}': 1,
    }


def test_platforms_beyond_the_bound_are_added_up(
    connection: Connection, scrape: Scrape, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completeness_metrics, "ORIGINS_MAX", 1)
    for number, origin in enumerate(["110000", COUNTY, NEIGHBOUR]):
        keep(connection, suspected("r-1", 1, NOON - DAY), origin=origin)
        camera(connection, "c-1", DAY, origin=origin, state=1 + number // 2)

    found = scrape(NOON)

    assert found[f'suspected_weighings{{origin="{COUNTY}"}}'] == 1
    assert found['suspected_weighings{origin="other"}'] == 2
    assert found['cameras{origin="other",state="recording"}'] == 1
    assert found['cameras{origin="other",state="not_recording"}'] == 1


def test_sums_are_made_once_a_minute(connection: Connection, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(connection, suspected("r-1", 1, NOON - DAY))
    reads: list[datetime] = []
    summed = store.sum_completeness

    def counted(connection: Connection, after: datetime, *others: Any) -> list[PlatformCompleteness]:
        reads.append(after)
        return summed(connection, after, *others)

    monkeypatch.setattr(store, "sum_completeness", counted)
    monkeypatch.setattr("services.common.metrics.READ_KEPT_SECONDS", 0.0)
    metrics = Metrics("video", COUNTY)
    CompletenessMetrics(engine, COUNTY, IN_TIME, timedelta(days=1), lambda: NOON).add_to(
        metrics, WeighingFollower(engine, never)
    )

    for _ in range(3):
        generate_latest(metrics.registry)

    assert reads == [NOON - IN_TIME - DAY]
