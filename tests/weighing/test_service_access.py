"""Who may record and see what: terminals and integrators their units, persons their division, drivers masked."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from services.common.access.permissions import Role
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry
from tests.waiting import wait_until
from tests.weighing.harness import PLATFORM, RunningWeighing, reason_of, register_site
from tests.weighing.records import UNIT, record, records
from zhichao.journal.v1 import access_record_pb2
from zhichao.weighing.v1 import record_pb2
from zhichao.weighing.v1 import service_pb2 as pb
from zhichao.weighing.v1.record_pb2 import WeighingRecord
from zhichao.weighing.v1.service_pb2_grpc import WeighingServiceStub

OTHER = "141025-002"

DRIVER = record_pb2.Driver(name="示例甲", phone_number="13800000000", license_number="140000190001010000")
MASKED = record_pb2.Driver(name="示**", phone_number="138******00", license_number="****************00")


@pytest.fixture(scope="module", autouse=True)
def _sites(registry: RunningRegistry) -> None:
    register_site(registry, OTHER)


@contextmanager
def calling(weighing: RunningWeighing, token: str) -> Iterator[WeighingServiceStub]:
    """Call as somebody."""
    with weighing.connect(token) as channel:
        yield WeighingServiceStub(channel)


def refused(call: Any) -> ServiceError:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return service_error(raised.value)


def send(stub: WeighingServiceStub, batch: list[WeighingRecord]) -> list[str]:
    answer = stub.RecordWeighings(pb.RecordWeighingsRequest(records=batch), timeout=TIMEOUT_SECONDS)
    return [reason_of(result) for result in answer.results]


# Recording


def test_a_terminal_records_for_its_unit_only(shared: RunningWeighing) -> None:
    with calling(shared, shared.access.terminal(UNIT)) as stub:
        good = pb.RecordWeighingRequest(record=record("ta-1"))
        bad = pb.RecordWeighingRequest(record=record("ta-2", source_unit_id=OTHER))
        assert stub.RecordWeighing(good, timeout=TIMEOUT_SECONDS).recorded.receipt.sequence > 0
        refusal = refused(lambda: stub.RecordWeighing(bad, timeout=TIMEOUT_SECONDS))

    assert (refusal.reason, refusal.status) == (Reason.OUTSIDE_SCOPE, "PERMISSION_DENIED")
    assert dict(refusal.metadata) == {"field": "record.source_unit_id"}
    assert OTHER in refusal.message


@pytest.mark.parametrize("count", [4, 400])
def test_items_of_other_units_are_refused_one_by_one(shared: RunningWeighing, count: int) -> None:
    """A small batch is checked in the service, a large one in the process beside it."""
    batch = [
        record(f"tb-{count}-{number}", source_unit_id=UNIT if number % 2 else "141025-003") for number in range(count)
    ]
    with calling(shared, shared.access.terminal(UNIT, OTHER, name="integrator-1")) as stub:
        first, again = send(stub, batch), send(stub, batch)

    assert first == ["OUTSIDE_SCOPE", "recorded"] * (count // 2)
    assert again == ["OUTSIDE_SCOPE", "duplicate"] * (count // 2)


def test_items_of_a_stream_are_refused_one_by_one(shared: RunningWeighing) -> None:
    requests = [pb.StreamWeighingsRequest(records=[record("tc-1"), record("tc-2", source_unit_id=OTHER)])]
    with calling(shared, shared.access.terminal(UNIT)) as stub:
        (answer,) = stub.StreamWeighings(iter(requests), timeout=TIMEOUT_SECONDS)

    assert [reason_of(result) for result in answer.results] == ["recorded", "OUTSIDE_SCOPE"]


def test_an_integrator_records_for_all_its_units(shared: RunningWeighing) -> None:
    with calling(shared, shared.access.terminal(UNIT, OTHER, name="integrator-1")) as stub:
        assert send(stub, [record("td-1"), record("td-2", source_unit_id=OTHER)]) == ["recorded"] * 2


@pytest.mark.parametrize(
    ("division", "reason"), [(PLATFORM, "recorded"), ("140000", "recorded"), ("141099", "OUTSIDE_SCOPE")]
)
def test_a_data_steward_records_within_the_division(shared: RunningWeighing, division: str, reason: str) -> None:
    steward = shared.access.person(Role.DATA_STEWARD, name=f"steward-{division}", division=division)
    with calling(shared, steward) as stub:
        assert send(stub, [record(f"te-{division}")]) == [reason]


def test_nobody_else_records(shared: RunningWeighing) -> None:
    with calling(shared, shared.access.person(Role.OFFICER)) as stub:
        refusal = refused(lambda: send(stub, [record("tf-1")]))

    assert (refusal.reason, refusal.metadata["permission"]) == (Reason.PERMISSION_MISSING, "WEIGHING_RECORD")


# Reading


def test_a_terminal_reads_its_unit_only(shared: RunningWeighing) -> None:
    shared.record_all([record("tg-1", driver=DRIVER), record("tg-2", source_unit_id=OTHER)])

    def named(unit: str, record_id: str) -> pb.GetWeighingRequest:
        return pb.GetWeighingRequest(record_name=pb.RecordName(source_unit_id=unit, record_id=record_id))

    with calling(shared, shared.access.terminal(UNIT)) as stub:
        own = stub.GetWeighing(named(UNIT, "tg-1"), timeout=TIMEOUT_SECONDS).held_weighing
        refusals = [
            refused(lambda: stub.GetWeighing(named(OTHER, "tg-2"), timeout=TIMEOUT_SECONDS)),
            # The place of a weighing says nothing of its unit.
            refused(lambda: stub.GetWeighing(pb.GetWeighingRequest(receipt=own.receipt), timeout=TIMEOUT_SECONDS)),
            refused(lambda: stub.ListWeighings(pb.ListWeighingsRequest(), timeout=TIMEOUT_SECONDS)),
            refused(lambda: list(stub.WatchWeighings(pb.WatchWeighingsRequest(), timeout=TIMEOUT_SECONDS))),
            refused(lambda: stub.ListDayTotals(pb.ListDayTotalsRequest(), timeout=TIMEOUT_SECONDS)),
        ]

    # It has sent it itself.
    assert own.weighing.record.driver == DRIVER
    assert {refusal.reason for refusal in refusals} == {Reason.OUTSIDE_SCOPE}
    assert [refusal.metadata["field"] for refusal in refusals[:3]] == [
        "record_name.source_unit_id",
        "record_name.source_unit_id",
        "filter.source_unit_id",
    ]


def test_the_same_unit_id_at_another_platform_is_another_unit(weighing: RunningWeighing, city: RunningWeighing) -> None:
    """Who is bound to unit 141025-001 of the city sees nothing of the county's unit of that id."""
    weighing.record_all([record("tm-1", driver=DRIVER), record("tm-2")])
    weighing.record_all([record("tm-1", driver=DRIVER, gross_weight_kg=9_000)])
    city.receive(weighing.batches())
    assert len(city.list_all()) == 2
    name = pb.RecordName(source_unit_id=UNIT, record_id="tm-1")
    narrow = pb.WeighingFilter(source_unit_id=UNIT)
    elsewhere = pb.WeighingFilter(source_unit_id=UNIT, origin=PLATFORM)
    watch = pb.WatchWeighingsRequest(source_unit_id=UNIT, origin=PLATFORM, first_sequence=1)

    with calling(city, city.access.terminal(UNIT)) as stub:
        listed = stub.ListWeighings(pb.ListWeighingsRequest(filter=narrow), timeout=TIMEOUT_SECONDS)
        totals = stub.ListDayTotals(pb.ListDayTotalsRequest(source_unit_id=UNIT), timeout=TIMEOUT_SECONDS)
        conflicts = stub.ListWeighingConflicts(
            pb.ListWeighingConflictsRequest(source_unit_id=UNIT), timeout=TIMEOUT_SECONDS
        )
        refusals = [
            refused(lambda: stub.GetWeighing(pb.GetWeighingRequest(record_name=name), timeout=TIMEOUT_SECONDS)),
            refused(lambda: stub.ListWeighings(pb.ListWeighingsRequest(filter=elsewhere), timeout=TIMEOUT_SECONDS)),
            refused(lambda: next(stub.WatchWeighings(watch, timeout=TIMEOUT_SECONDS))),
            refused(
                lambda: stub.ListDayTotals(
                    pb.ListDayTotalsRequest(source_unit_id=UNIT, origin=PLATFORM), timeout=TIMEOUT_SECONDS
                )
            ),
        ]

    assert (list(listed.held_weighings), list(totals.day_totals), list(conflicts.held_conflicts)) == ([], [], [])
    assert [refusal.reason for refusal in refusals] == [Reason.NOT_FOUND, *[Reason.OUTSIDE_SCOPE] * 3]
    assert [refusal.metadata["field"] for refusal in refusals[1:]] == ["filter.origin", "origin", "origin"]


def test_drivers_are_masked_for_who_may_not_see_them(shared: RunningWeighing) -> None:
    shared.record_all([record("th-1", driver=DRIVER)])
    request = pb.ListWeighingsRequest(filter=pb.WeighingFilter(source_unit_id=UNIT), page_size=1_000)

    def seen(*roles: Role) -> record_pb2.Driver:
        with calling(shared, shared.access.person(*roles, name=f"reader-{len(roles)}")) as stub:
            held = stub.ListWeighings(request, timeout=TIMEOUT_SECONDS).held_weighings
        return next(one.weighing.record.driver for one in held if one.weighing.record.record_id == "th-1")

    assert seen(Role.VIEWER) == MASKED
    assert seen(Role.VIEWER, Role.OFFICER) == DRIVER


def access_records(weighing: RunningWeighing) -> list[access_record_pb2.AccessRecord]:
    return [
        access_record_pb2.AccessRecord.FromString(entry.payload)
        for _, entry in weighing.own_entries()
        if entry.kind == "zhichao.journal.v1.AccessRecord"
    ]


def test_whoever_is_shown_a_driver_is_written_down(weighing: RunningWeighing) -> None:
    weighing.record_all([record("ti-1", driver=DRIVER), record("ti-2")])
    request = pb.GetWeighingRequest(record_name=pb.RecordName(source_unit_id=UNIT, record_id="ti-1"))
    without = pb.GetWeighingRequest(record_name=pb.RecordName(source_unit_id=UNIT, record_id="ti-2"))
    officer = weighing.access.person(Role.OFFICER, name="officer-1")
    for token in (weighing.access.person(Role.VIEWER), weighing.access.terminal(UNIT)):
        with calling(weighing, token) as stub:
            stub.GetWeighing(request, timeout=TIMEOUT_SECONDS)
    with calling(weighing, officer) as stub:
        stub.GetWeighing(without, timeout=TIMEOUT_SECONDS)
        assert access_records(weighing) == []
        stub.GetWeighing(request, timeout=TIMEOUT_SECONDS, metadata=(("x-purpose", "case 2026-17"),))

    (written,) = access_records(weighing)
    assert (written.principal, written.purpose, written.personal_data_count) == ("person/officer-1", "case 2026-17", 3)
    assert written.method == "zhichao.weighing.v1.WeighingService/GetWeighing"
    assert "140000" not in str(written)


def test_a_watch_is_written_down_before_its_first_driver_and_at_its_end(weighing: RunningWeighing) -> None:
    weighing.record_all([record("tj-1", driver=DRIVER)])
    officer = weighing.access.person(Role.OFFICER, name="officer-1")
    with calling(weighing, officer) as stub:
        watch = stub.WatchWeighings(pb.WatchWeighingsRequest(first_sequence=1), timeout=TIMEOUT_SECONDS)
        while not next(watch).held_weighings:
            pass
        assert [one.personal_data_count for one in access_records(weighing)] == [3]
        weighing.record_all([record(f"tj-{number}", driver=DRIVER) for number in range(2, 6)])
        seen = 0
        while seen < 4:
            seen += len(next(watch).held_weighings)
        watch.cancel()

        wait_until(lambda: len(access_records(weighing)) == 2, "the rest is written down")
    assert [one.personal_data_count for one in access_records(weighing)] == [3, 12]


# Streams that are open


def test_a_revoked_terminal_s_stream_ends(weighing: RunningWeighing) -> None:
    token = weighing.access.terminal(UNIT)
    sent: queue.Queue[pb.StreamWeighingsRequest | None] = queue.Queue()
    sent.put(pb.StreamWeighingsRequest(records=records(2, "tk")))
    with calling(weighing, token) as stub:
        stream = stub.StreamWeighings(iter(sent.get, None), timeout=TIMEOUT_SECONDS)
        assert [reason_of(result) for result in next(stream).results] == ["recorded"] * 2
        principal = weighing.access.knowledge.credential("terminal-1")
        assert principal is not None
        weighing.access.issue(principal.principal, is_revoked=True)
        refusal = refused(lambda: next(stream))
        sent.put(None)

    assert (refusal.reason, refusal.status) == (Reason.CREDENTIAL_REVOKED, "UNAUTHENTICATED")
