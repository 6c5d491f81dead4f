"""Finding weighings again: get, list, totals and conflicts, with filters, stable pages and hostile input."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.registry.harness import START, RunningRegistry
from tests.weighing.harness import RunningWeighing, forged, register_site
from tests.weighing.records import BY_VERDICT, COMPLIANT, SUSPECTED, UNDETERMINED, UNIT, moment, record
from zhichao.weighing.v1 import service_pb2 as pb
from zhichao.weighing.v1 import weighing_pb2
from zhichao.weighing.v1.record_pb2 import Plate
from zhichao.weighing.v1.weighing_pb2 import Receipt

OTHER_UNIT = "141025-002"

PLATES = ("晋L00001", "晋L0A001", "")


@pytest.fixture(scope="module")
def found(shared: RunningWeighing, registry: RunningRegistry) -> list[pb.HeldWeighing]:
    """Fill the module's service: every verdict at two units with several plates and times, ties among them."""
    register_site(registry, OTHER_UNIT)
    combinations = itertools.product((UNIT, OTHER_UNIT), BY_VERDICT, PLATES, range(3))
    batch = []
    for number, (unit, verdict, plate, hour) in enumerate(combinations):
        one = record(
            f"f-{number}",
            source_unit_id=unit,
            weigh_time=moment(START - timedelta(hours=hour)),
            front_plate=Plate(number=plate),
            **BY_VERDICT[verdict],
        )
        if not plate:
            one.ClearField("front_plate")
        batch.append(one)
    shared.record_all(batch)
    held = shared.list_all(1_000)
    assert len(held) == len(batch)
    return held


def key(held: pb.HeldWeighing) -> tuple[datetime, str, int]:
    return held.weighing.record.weigh_time.ToDatetime(UTC), held.receipt.origin, held.receipt.sequence


# Get


def test_get_by_place_and_by_name(shared: RunningWeighing, found: list[pb.HeldWeighing]) -> None:
    wanted = found[5]
    name = pb.RecordName(
        source_unit_id=wanted.weighing.record.source_unit_id, record_id=wanted.weighing.record.record_id
    )
    for request in (pb.GetWeighingRequest(receipt=wanted.receipt), pb.GetWeighingRequest(record_name=name)):
        assert shared.call("GetWeighing", request).held_weighing == wanted


@pytest.mark.parametrize(
    "request_",
    [
        pb.GetWeighingRequest(receipt=Receipt(origin="141025", sequence=1)),
        pb.GetWeighingRequest(receipt=Receipt(origin="141025", sequence=2**63 - 1)),
        pb.GetWeighingRequest(receipt=Receipt(origin="141025", sequence=-(2**63))),
        pb.GetWeighingRequest(receipt=Receipt(origin="141000", sequence=2)),
        pb.GetWeighingRequest(receipt=Receipt()),
        pb.GetWeighingRequest(record_name=pb.RecordName(source_unit_id=UNIT, record_id="none")),
        pb.GetWeighingRequest(record_name=pb.RecordName(record_id="f-1")),
    ],
)
def test_what_is_not_held_is_not_found(shared: RunningWeighing, request_: pb.GetWeighingRequest) -> None:
    refusal = shared.refusal("GetWeighing", request_)
    assert (refusal.status, refusal.reason, refusal.metadata["resource_type"]) == ("NOT_FOUND", "NOT_FOUND", "weighing")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.GetWeighingRequest(), "name"),
        (pb.GetWeighingRequest(receipt=Receipt(origin="\x00")), "receipt.origin"),
        (pb.GetWeighingRequest(receipt=Receipt(origin="1" * 60_000)), "receipt.origin"),
        (pb.GetWeighingRequest(record_name=pb.RecordName(source_unit_id="\x00")), "record_name.source_unit_id"),
        (pb.GetWeighingRequest(record_name=pb.RecordName(record_id="a\x00")), "record_name.record_id"),
    ],
)
def test_a_name_that_nothing_can_have_is_refused(
    shared: RunningWeighing, request_: pb.GetWeighingRequest, field: str
) -> None:
    refusal = shared.refusal("GetWeighing", request_)
    assert (refusal.reason, refusal.fields) == ("INVALID_ARGUMENT", [field])


# List


def test_the_list_is_ordered_by_weigh_time_newest_first(found: list[pb.HeldWeighing]) -> None:
    assert found == sorted(found, key=key, reverse=True)
    assert len({key(held)[0] for held in found}) == 3


@pytest.mark.parametrize("page_size", [1, 7, 24, 72, 73])
def test_pages_join_without_gap_or_repeat(
    shared: RunningWeighing, found: list[pb.HeldWeighing], page_size: int
) -> None:
    assert shared.list_all(page_size) == found


VERDICT_SETS = [list(one) for count in range(5) for one in itertools.combinations(BY_VERDICT, count)]


@pytest.mark.parametrize("verdicts", VERDICT_SETS)
@pytest.mark.parametrize("more", [{}, {"source_unit_id": OTHER_UNIT}, {"plate_number": "晋L00001"}])
def test_filters_by_verdicts(
    shared: RunningWeighing, found: list[pb.HeldWeighing], verdicts: list[int], more: dict[str, str]
) -> None:
    expected = [
        held
        for held in found
        if (not verdicts or held.weighing.judgement.verdict in verdicts)
        and more.get("source_unit_id", held.weighing.record.source_unit_id) == held.weighing.record.source_unit_id
        and more.get("plate_number", held.weighing.plate_number) == held.weighing.plate_number
    ]
    assert shared.list_all(5, verdicts=verdicts, **more) == expected


@pytest.mark.parametrize("plate", ["晋L0A001", " 晋l·0a001", "晋L　0A001", "晋Ｌ０Ａ００１", "晋L\u00a00A001"])
def test_a_plate_is_found_however_it_is_written(
    shared: RunningWeighing, found: list[pb.HeldWeighing], plate: str
) -> None:
    expected = [held for held in found if held.weighing.plate_number == "晋L0A001"]
    assert len(expected) == 24
    assert shared.list_all(plate_number=plate) == expected


@pytest.mark.parametrize("plate", ["无牌", " · ", "null"])
def test_a_plate_that_says_that_there_is_none_is_refused_and_does_not_list_all(
    shared: RunningWeighing, found: list[pb.HeldWeighing], plate: str
) -> None:
    request = pb.ListWeighingsRequest(filter=pb.WeighingFilter(plate_number=plate))
    assert shared.refusal("ListWeighings", request).fields == ["filter.plate_number"]


def test_filters_by_time_from_and_before(shared: RunningWeighing, found: list[pb.HeldWeighing]) -> None:
    hour = timedelta(hours=1)
    for start, end in itertools.product((None, START - 2 * hour, START - hour, START), (None, START - hour, START)):
        narrow: dict[str, Any] = {}
        if start is not None:
            narrow["start_time"] = moment(start)
        if end is not None:
            narrow["end_time"] = moment(end)
        if start is not None and end is not None and end <= start:
            request = pb.ListWeighingsRequest(filter=pb.WeighingFilter(**narrow))
            assert shared.refusal("ListWeighings", request).fields == ["filter.end_time"]
            continue
        expected = [h for h in found if (start is None or key(h)[0] >= start) and (end is None or key(h)[0] < end)]
        assert shared.list_all(10, **narrow) == expected


def test_filters_by_origin(shared: RunningWeighing, found: list[pb.HeldWeighing]) -> None:
    assert shared.list_all(origin="141025") == found
    assert shared.list_all(origin="140000") == []


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        ({"source_unit_id": "\x00"}, ["filter.source_unit_id"]),
        ({"source_unit_id": "x" * 65, "origin": "\n"}, ["filter.source_unit_id", "filter.origin"]),
        ({"plate_number": "\x00"}, ["filter.plate_number"]),
        ({"plate_number": "晋" * 65}, ["filter.plate_number"]),
        ({"verdicts": [1, 0, 99, -1]}, ["filter.verdicts[1]", "filter.verdicts[2]", "filter.verdicts[3]"]),
        ({"start_time": Timestamp(seconds=2**62)}, ["filter.start_time"]),
        ({"end_time": Timestamp(seconds=-(2**62))}, ["filter.end_time"]),
        ({"start_time": Timestamp(nanos=-1)}, ["filter.start_time"]),
    ],
)
def test_bad_filters_are_refused_with_every_field(
    shared: RunningWeighing, fields: dict[str, Any], bad: list[str]
) -> None:
    request = pb.ListWeighingsRequest(filter=pb.WeighingFilter(**fields))
    assert sorted(shared.refusal("ListWeighings", request).fields) == sorted(bad)


def test_far_too_many_verdicts_are_refused_in_one_line(shared: RunningWeighing) -> None:
    verdicts: list[Any] = [0] * 60_000
    request = pb.ListWeighingsRequest(filter=pb.WeighingFilter(verdicts=verdicts))
    assert shared.refusal("ListWeighings", request).fields == ["filter.verdicts"]


def test_the_ends_of_time_are_no_fault(shared: RunningWeighing, found: list[pb.HeldWeighing]) -> None:
    start, end = Timestamp(seconds=-62_135_596_800), Timestamp(seconds=253_402_300_799, nanos=999_999_999)
    assert shared.list_all(1_000, start_time=start, end_time=end) == found


def test_page_sizes(shared: RunningWeighing, found: list[pb.HeldWeighing]) -> None:
    assert len(shared.call("ListWeighings", pb.ListWeighingsRequest()).held_weighings) == 50
    assert len(shared.call("ListWeighings", pb.ListWeighingsRequest(page_size=2**31 - 1)).held_weighings) == 72
    assert shared.refusal("ListWeighings", pb.ListWeighingsRequest(page_size=-1)).fields == ["page_size"]


NO_FILTER = ("", "", "None", "None", "")


@pytest.mark.parametrize(
    "token",
    [
        "nonsense",
        "é",
        "x" * 5_000,
        forged("ListWeighings", [0, "141025", 1], "other", "", "None", "None", ""),
        forged("ListWeighings", [2**63 - 1, "141025", 1], *NO_FILTER),
        forged("ListWeighings", [-(2**63) + 1, "141025", 1], *NO_FILTER),
        forged("ListWeighings", ["0", "141025", 1], *NO_FILTER),
        forged("ListWeighings", [0, "141025"], *NO_FILTER),
        forged("ListWeighings", [0, "\x00", 1], *NO_FILTER),
        forged("ListWeighings", [0, "\ud800", 1], *NO_FILTER),
    ],
)
def test_page_tokens_of_other_lists_or_made_up_are_refused(shared: RunningWeighing, token: str) -> None:
    refusal = shared.refusal("ListWeighings", pb.ListWeighingsRequest(page_token=token))
    assert (refusal.status, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN")


def test_a_token_serves_only_its_own_filter(shared: RunningWeighing, found: list[pb.HeldWeighing]) -> None:
    token = shared.call("ListWeighings", pb.ListWeighingsRequest(page_size=3)).next_page_token
    narrowed = pb.WeighingFilter(source_unit_id=UNIT)
    for method, request in (
        ("ListWeighings", pb.ListWeighingsRequest(filter=narrowed, page_token=token)),
        ("ListDayTotals", pb.ListDayTotalsRequest(page_token=token)),
        ("ListWeighingConflicts", pb.ListWeighingConflictsRequest(page_token=token)),
    ):
        assert shared.refusal(method, request).reason == "INVALID_PAGE_TOKEN"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    page_size=st.integers(1, 6),
    steps=st.lists(st.lists(st.integers(-30, 5), max_size=4), min_size=1, max_size=6),
    verdicts=st.sampled_from([[], [COMPLIANT], [SUSPECTED, UNDETERMINED]]),
)
def test_paging_is_stable_under_inserts(
    shared: RunningWeighing,
    found: list[pb.HeldWeighing],
    page_size: int,
    steps: list[list[int]],
    verdicts: list[int],
) -> None:
    """Whatever is recorded between pages, before or behind them: what was held at first comes exactly once."""
    unit = {"source_unit_id": OTHER_UNIT}
    narrow = pb.WeighingFilter(verdicts=verdicts, **unit)  # type: ignore[arg-type]  # wrong or untyped on purpose
    at_first = [held.receipt.sequence for held in shared.list_all(1_000, verdicts=verdicts, **unit)]
    listed: list[pb.HeldWeighing] = []
    token, inserts = "", iter(steps)
    while True:
        answer = shared.call(
            "ListWeighings", pb.ListWeighingsRequest(filter=narrow, page_size=page_size, page_token=token)
        )
        listed += answer.held_weighings
        token = answer.next_page_token
        if not token:
            break
        for minutes in next(inserts, []):
            size = shared.position().size
            one = record(f"i-{size}", weigh_time=moment(START + timedelta(minutes=minutes)), gross_weight_kg=30_000)
            one.source_unit_id = OTHER_UNIT
            shared.record(one)
    keys = [key(held) for held in listed]
    assert keys == sorted(set(keys), reverse=True)
    sequences = [held.receipt.sequence for held in listed]
    assert [sequence for sequence in sequences if sequence in set(at_first)] == at_first


def test_a_page_of_large_records_stays_below_the_message_limit(weighing: RunningWeighing) -> None:
    """Entries of other platforms may be larger than records that are accepted here; a page then holds fewer."""
    payload = weighing_pb2.Weighing(
        judgement=weighing_pb2.Judgement(verdict=COMPLIANT),
        receive_time=moment(START),
        record=record("x", goods="x" * 60_000),
    )
    lower = RunningWeighing(weighing._databases, weighing.directory, weighing.registry_address, "141026")
    try:
        payloads = []
        for number in range(500):
            payload.record.record_id = f"x-{number}"
            payloads.append(payload.SerializeToString())
        lower.append_raw("zhichao.weighing.v1.Weighing", payloads)
        weighing.receive(lower.batches())
    finally:
        lower.close()
    assert len({held.receipt.sequence for held in weighing.list_all(1_000)}) == 500
    watch = weighing.stub.WatchWeighings(pb.WatchWeighingsRequest(origin="141026", first_sequence=1), timeout=20)
    seen = 0
    while seen < 500:
        seen += len(next(watch).held_weighings)
    watch.cancel()
