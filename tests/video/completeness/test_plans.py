"""Which indexes statements use: a province holds a million suspected overloads and five million pieces of evidence."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import psycopg
import pytest
from psycopg import sql

from services.common.database import RawConnection
from services.video.store import completeness, weighings
from services.video.store.completeness import DayFilter, MissingFilter
from services.video.store.weighings import ReadLog
from tests.video.completeness.examples import (
    COUNTY,
    DAY,
    KEEP,
    MINUTE,
    NEIGHBOUR,
    NOON,
    OTHER_UNIT,
    UNIT,
    camera,
    evidence,
    keep,
    seal,
    suspected,
)

Connection = psycopg.Connection[Any]

OF_EVIDENCE = re.compile(r"Index (Only )?Scan using \w+ on evidence e\b")
TODAY = NOON.date()


class Explaining:
    """A connection that says how it would execute statements of one table, and executes all others."""

    def __init__(self, connection: Connection, needle: str) -> None:
        self._connection = connection
        self._needle = needle
        self.plans: list[str] = []

    def execute(self, query: Any, values: Any = None) -> Any:
        """Explain a statement, or execute it."""
        text = query.as_string(self._connection) if isinstance(query, sql.Composable) else query
        text = text.decode() if isinstance(text, bytes) else text
        if self._needle not in text:
            return self._connection.execute(query, values)
        explained = self._connection.execute(f"EXPLAIN {text}".encode(), values).fetchall()
        self.plans.append("\n".join(line for (line,) in explained))
        return self._connection.execute("SELECT 1 WHERE FALSE")


@pytest.fixture
def plan_of(connection: Connection) -> Callable[[str, Callable[[RawConnection], object]], str]:
    """Return the plan of the statement of a call that holds some words."""
    keep(connection, *(suspected(f"r-{number}", number, NOON - number * MINUTE) for number in range(1, 60)))
    keep(connection, suspected("r-1", 1, unit=OTHER_UNIT), origin=NEIGHBOUR)
    seal(connection, *(evidence(f"c-{number}", f"r-{number}") for number in range(1, 60)))
    camera(connection, "c-1", DAY)
    for table in ("suspected_weighings", "evidence", "evidence_subjects", "cameras"):
        connection.execute(f"ANALYZE {table}".encode())
    # Tables of a few rows are read whole, whatever indexes there are.
    connection.execute("SET enable_seqscan = off")
    connection.execute("SET enable_bitmapscan = off")
    connection.execute("SET enable_hashjoin = off")
    connection.execute("SET enable_mergejoin = off")

    def explain(needle: str, call: Callable[[RawConnection], object]) -> str:
        explaining = Explaining(connection, needle)
        call(cast("RawConnection", explaining))
        (plan,) = explaining.plans
        return plan

    return explain


PlanOf = Callable[[str, Callable[[RawConnection], object]], str]


@pytest.mark.parametrize(
    ("narrow", "after", "index"),
    [
        (DayFilter(), None, "suspected_weighings_by_day"),
        (DayFilter(), (TODAY, COUNTY, UNIT), "suspected_weighings_by_day"),
        (DayFilter(first_day=TODAY - DAY, last_day=TODAY), None, "suspected_weighings_by_day"),
        (DayFilter(source_unit_id=UNIT), None, "suspected_weighings_by_unit"),
    ],
)
def test_completeness_is_summed_up_in_the_order_of_an_index(
    plan_of: PlanOf, narrow: DayFilter, after: Any, index: str
) -> None:
    plan = plan_of(
        "GROUP BY day", lambda one: completeness.list_completeness(one, narrow, timedelta(minutes=30), after, 101)
    )

    assert index in plan
    # It ends with the page: nothing is sorted, nothing is summed up that is not shown.
    assert "Sort" not in plan
    assert "HashAggregate" not in plan


def test_what_is_missing_is_found_among_what_is_missing(plan_of: PlanOf) -> None:
    plan = plan_of("ORDER BY", lambda one: completeness.list_missing_held(one, MissingFilter(NOON, KEEP), None, 101))

    assert "suspected_weighings_missing" in plan
    assert "Index Cond: (weigh_time >" in plan


def test_what_is_lost_is_read_in_the_order_of_an_index(plan_of: PlanOf) -> None:
    plan = plan_of(
        "ORDER BY",
        lambda one: completeness.list_missing_lost(one, MissingFilter(NOON, KEEP), (NOON - DAY, COUNTY, 7), 101),
    )

    assert "Index Scan Backward using suspected_weighings_missing" in plan
    assert "Sort" not in plan.split("CTE reaches")[0]


def test_a_weighing_finds_its_evidence_by_keys(plan_of: PlanOf) -> None:
    plan = plan_of(
        "INSERT INTO suspected_weighings",
        lambda one: weighings.keep_batch(
            one, COUNTY, ReadLog(59, b"root"), ReadLog(60, b"root"), [suspected("r-60", 60)]
        ),
    )

    assert "evidence_subjects_pkey" in plan
    # Of so few rows any of its indexes is as good as its key.
    assert OF_EVIDENCE.search(plan)
    assert "Seq Scan" not in plan


def test_evidence_finds_its_weighing_by_keys(plan_of: PlanOf) -> None:
    plan = plan_of("UPDATE suspected_weighings", lambda one: weighings.link_evidence(one, COUNTY, [(UNIT, "r-1")]))

    assert "suspected_weighings_pkey" in plan
    assert "evidence_subjects_pkey" in plan
    assert OF_EVIDENCE.search(plan)
    assert "Seq Scan" not in plan


def test_what_is_read_again_is_found_by_its_place(plan_of: PlanOf) -> None:
    plan = plan_of(
        "DELETE FROM suspected_weighings",
        lambda one: weighings.keep_batch(one, COUNTY, ReadLog(59, b"root"), ReadLog(60, b"root"), []),
    )

    assert "suspected_weighings_by_place" in plan
