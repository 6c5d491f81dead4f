"""Day totals and conflicting submissions: counted by the days of China, listed in pages."""

import itertools
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tests.registry.harness import RunningRegistry
from tests.weighing.harness import RunningWeighing, forged, register_site
from tests.weighing.records import BY_VERDICT, UNIT, moment, record
from zhichao.weighing.v1 import service_pb2 as pb

# Day totals


def test_totals_count_by_day_of_china_and_equal_a_recount(weighing: RunningWeighing, registry: RunningRegistry) -> None:
    register_site(registry, "u-totals")
    # Around midnight in China, 16:00 UTC, on two days and at two units.
    midnight = datetime(2025, 2, 25, 16, tzinfo=UTC)
    moments = [midnight + timedelta(days=day, microseconds=us) for day in (0, 1) for us in (-1, 0, 1, 86_399_999_999)]
    batch = [
        record(f"t-{number}", source_unit_id=unit, weigh_time=moment(when), **BY_VERDICT[verdict])
        for number, (unit, when, verdict) in enumerate(itertools.product((UNIT, "u-totals"), moments, BY_VERDICT))
    ]
    batch[3].ClearField("front_plate")
    weighing.record_all(batch[: len(batch) // 2])
    weighing.record_all(batch)
    expected: dict[tuple[str, str], pb.DayTotal] = {}
    verdicts = list(BY_VERDICT)
    for number, one in enumerate(batch):
        day = (one.weigh_time.ToDatetime(UTC) + timedelta(hours=8)).date().isoformat()
        total = expected.setdefault(
            (day, one.source_unit_id), pb.DayTotal(origin="141025", source_unit_id=one.source_unit_id, day=day)
        )
        total.weighing_count += 1
        total.gross_weight_sum_kg += one.gross_weight_kg
        total.no_plate_count += not one.HasField("front_plate")
        name = ("compliant_count", "undetermined_count", "suspected_count", "not_judged_count")[number % len(verdicts)]
        setattr(total, name, getattr(total, name) + 1)
    ordered = sorted(
        expected.values(), key=lambda total: (-date.fromisoformat(total.day).toordinal(), total.source_unit_id)
    )
    assert [total.day for total in ordered[::2]] == ["2025-02-27", "2025-02-26", "2025-02-25"]
    assert weighing.day_totals() == ordered
    for page_size in (1, 2, 5):
        assert weighing.day_totals(page_size) == ordered
    assert weighing.day_totals(1, source_unit_id="u-totals") == [t for t in ordered if t.source_unit_id == "u-totals"]
    assert weighing.day_totals(first_day="2025-02-26", last_day="2025-02-26") == ordered[2:4]
    assert weighing.day_totals(1, first_day="2025-02-26") == ordered[:4]
    assert weighing.day_totals(last_day="2025-02-25", origin="141025") == ordered[4:]
    assert weighing.day_totals(origin="140000") == []


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        ({"first_day": "2025-2-1"}, ["first_day"]),
        ({"first_day": "20250201"}, ["first_day"]),
        ({"first_day": "2025-02-30", "last_day": "x" * 10_000}, ["first_day", "last_day"]),
        ({"first_day": "2025-02-02", "last_day": "2025-02-01"}, ["last_day"]),
        ({"source_unit_id": "\x00", "origin": "\x7f"}, ["origin", "source_unit_id"]),
        ({"page_size": -1}, ["page_size"]),
    ],
)
def test_bad_days_are_refused(shared: RunningWeighing, fields: dict[str, Any], bad: list[str]) -> None:
    assert shared.refusal("ListDayTotals", pb.ListDayTotalsRequest(**fields)).fields == bad


@pytest.mark.parametrize("key_", [[0, "a", "b"], [2**62, "a", "b"], [-5, "a", "b"]])
def test_forged_tokens_of_totals_are_refused(shared: RunningWeighing, key_: list[Any]) -> None:
    token = forged("ListDayTotals", key_, "", "", "None", "None")
    assert shared.refusal("ListDayTotals", pb.ListDayTotalsRequest(page_token=token)).reason == "INVALID_PAGE_TOKEN"


# Conflicts


def test_conflicts_are_listed_newest_first_and_narrowed(weighing: RunningWeighing) -> None:
    for name in ("a", "b", "c"):
        weighing.record(record(name))
        weighing.record_all([record(name, gross_weight_kg=10_000 + number) for number in range(4)])
    everything = weighing.conflicts()
    assert len(everything) == 12
    # Those of one batch share the time of reception; the place decides then.
    order = [(held.conflict.receive_time.ToNanoseconds(), held.receipt.sequence) for held in everything]
    assert order == sorted(order, reverse=True)
    for page_size in (1, 3, 5):
        assert weighing.conflicts(page_size) == everything
    of_b = [held for held in everything if held.conflict.record.record_id == "b"]
    assert weighing.conflicts(2, source_unit_id=UNIT, record_id="b") == of_b
    assert weighing.conflicts(source_unit_id="other") == []
    refusal = weighing.refusal("ListWeighingConflicts", pb.ListWeighingConflictsRequest(record_id="b"))
    assert refusal.fields == ["source_unit_id"]
    refusal = weighing.refusal(
        "ListWeighingConflicts", pb.ListWeighingConflictsRequest(source_unit_id="\x00", record_id="\x00")
    )
    assert refusal.fields == ["source_unit_id", "record_id"]
