"""Recording over gRPC: verdict, receipt and proof; what is kept; precise refusals per record, all others recorded."""

import itertools
from datetime import timedelta
from typing import Any

import pytest

from services.journal import merkle
from services.journal.digests import Digester
from services.journal.entries import parse
from services.weighing.preparing import RECORD_BYTES_MAX
from tests.registry import examples
from tests.registry.calls import create
from tests.registry.harness import START, TIMEOUT_SECONDS, RunningRegistry
from tests.weighing.harness import RunningWeighing, reason_of, register_site
from tests.weighing.records import UNIT, moment, record, records, tagged
from zhichao.journal.v1 import journal_pb2 as journal
from zhichao.weighing.v1 import record_pb2, weighing_pb2
from zhichao.weighing.v1 import service_pb2 as pb
from zhichao.weighing.v1.record_pb2 import WeighingRecord

ids = itertools.count()


def new_id(prefix: str = "a") -> str:
    return f"{prefix}-{next(ids)}"


def held(weighing: RunningWeighing, recorded: pb.Recorded) -> weighing_pb2.Weighing:
    request = pb.GetWeighingRequest(receipt=recorded.receipt)
    answer: pb.GetWeighingResponse = weighing.call("GetWeighing", request)
    return answer.held_weighing.weighing


# Verdict and receipt


def test_a_truck_within_its_limit_is_compliant(shared: RunningWeighing) -> None:
    recorded = shared.record(record(new_id(), gross_weight_kg=25_000))
    assert recorded.judgement == weighing_pb2.Judgement(
        verdict=weighing_pb2.VERDICT_COMPLIANT,
        rule_set_id="order-62-2016",
        rule_set_version=1,
        conservative_limit_kg=25_000,
        lenient_limit_kg=25_000,
        tolerance_kg=50,
        excess_kg=0,
        overload_rate_permille=0,
        reasons=["rigid-3"],
        certificate_number="检字第2025-0001号",
    )
    assert recorded.receipt.origin == "141025"
    assert not recorded.is_duplicate


def test_a_truck_above_its_limit_is_suspected(shared: RunningWeighing) -> None:
    judgement = shared.record(record(new_id(), gross_weight_kg=38_000)).judgement
    found = (judgement.verdict, judgement.severity, judgement.excess_kg, judgement.overload_rate_permille)
    assert found == (weighing_pb2.VERDICT_SUSPECTED, weighing_pb2.SEVERITY_SERIOUS, 13_000, 520)


def test_the_receipt_is_the_leaf_of_the_entry_and_proves_its_place(shared: RunningWeighing) -> None:
    shared.record_all(records(300, new_id()))
    recorded = shared.record(record(new_id()))
    receipt, digester = recorded.receipt, Digester("sha256")
    batch = shared.batches(receipt.sequence, 1)[0]
    assert batch.first_sequence == receipt.sequence
    assert digester.leaf(batch.entries[0]) == receipt.leaf_digest
    request = journal.GetInclusionProofRequest(origin=receipt.origin, sequence=receipt.sequence)
    proof = shared.journal.GetInclusionProof(request, timeout=TIMEOUT_SECONDS)
    assert proof.entry == batch.entries[0]
    assert merkle.verify_inclusion(
        digester, receipt.leaf_digest, receipt.sequence - 1, proof.size, list(proof.path), proof.root
    )


def test_the_entry_keeps_the_record_as_sent_with_fields_unknown_here(shared: RunningWeighing) -> None:
    sent = tagged(record(new_id(), gross_weight_kg=26_000), 999, b"later")
    recorded = shared.record(sent)
    entry = parse(shared.entries(recorded.receipt.sequence)[0])
    assert entry is not None
    kept = weighing_pb2.Weighing.FromString(entry.payload)
    assert kept.record.SerializeToString() == sent.SerializeToString()
    assert b"later" in entry.payload
    assert kept.judgement == recorded.judgement
    assert kept.division_code == "141025"
    assert kept.plate_number == "晋L00001"
    assert (entry.kind, entry.schema, entry.actor) == ("zhichao.weighing.v1.Weighing", 1, "person/tester")
    assert held(shared, recorded) == kept


def test_raw_plates_are_kept_and_normalised_beside(shared: RunningWeighing) -> None:
    sent = record(new_id(), front_plate=record_pb2.Plate(number=" 晋l·0a001 "))
    kept = held(shared, shared.record(sent))
    assert (kept.record.front_plate.number, kept.plate_number) == (" 晋l·0a001 ", "晋L0A001")


def test_a_missing_plate_is_a_fact_and_the_rear_plate_stands_in(shared: RunningWeighing) -> None:
    sent = record(new_id())
    sent.ClearField("front_plate")
    kept = held(shared, shared.record(sent))
    assert (kept.plate_number, list(kept.quality_flags)) == ("", [weighing_pb2.QUALITY_FLAG_NO_PLATE])
    sent = record(new_id(), rear_plate=record_pb2.Plate(number="晋L0001挂"))
    sent.ClearField("front_plate")
    assert held(shared, shared.record(sent)).plate_number == "晋L0001挂"


def test_a_tare_is_kept_and_not_judged(shared: RunningWeighing) -> None:
    recorded = shared.record(record(new_id(), event=record_pb2.WEIGHING_EVENT_TARE, gross_weight_kg=9_000))
    assert recorded.judgement.verdict == weighing_pb2.VERDICT_NOT_JUDGED
    assert not recorded.judgement.HasField("lenient_limit_kg")


# Which rules judge


def test_the_version_in_force_on_the_weigh_day_judges(shared: RunningWeighing, registry: RunningRegistry) -> None:
    first = examples.rule_set(rule_set_id="two-versions", effective_from="2024-01-01")
    second = examples.rule_set(rule_set_id="two-versions", version=2, effective_from="2025-01-01")
    for row in second.gross_limits:
        if row.code == "rigid-3":
            row.limit_kg = 24_000
    create(registry, first)
    create(registry, second)
    register_site(registry, "u-two-versions", rule_set_id="two-versions")
    site = {"source_unit_id": "u-two-versions", "gross_weight_kg": 25_000}
    # Midnight in China on 2025-01-01, and the second before.
    midnight = START.replace(year=2024, month=12, day=31, hour=16)

    def judged(**fields: Any) -> tuple[str, int, int, list[str]]:
        judgement = shared.record(record(new_id(), **site, **fields)).judgement
        return (
            judgement.rule_set_id,
            judgement.rule_set_version,
            judgement.lenient_limit_kg,
            [reason for reason in judgement.reasons if reason == "rule-set-not-in-force"],
        )

    assert judged(weigh_time=moment(midnight)) == ("two-versions", 2, 24_000, [])
    assert judged(weigh_time=moment(midnight - timedelta(seconds=1))) == ("two-versions", 1, 25_000, [])
    assert judged(weigh_time=moment(midnight - timedelta(days=400))) == (
        "two-versions",
        1,
        25_000,
        ["rule-set-not-in-force"],
    )


def test_no_certificate_on_the_weigh_day_is_a_flag_not_a_refusal(shared: RunningWeighing) -> None:
    recorded = shared.record(record(new_id(), weigh_time=moment(START - timedelta(days=200))))
    assert recorded.judgement.certificate_number == ""
    assert weighing_pb2.QUALITY_FLAG_NO_CERTIFICATE in held(shared, recorded).quality_flags


# Refusals


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"source_unit_id": "nobody"}, "UNKNOWN_SOURCE_UNIT"),
        ({"weighing_point_id": "gate-9"}, "UNKNOWN_WEIGHING_POINT"),
        ({"scale_id": "scale-9"}, "UNKNOWN_SCALE"),
    ],
)
def test_an_unknown_place_is_refused(shared: RunningWeighing, fields: dict[str, str], reason: str) -> None:
    refusal = shared.refused_record(record(new_id(), **fields))
    assert (refusal.status, refusal.reason) == ("FAILED_PRECONDITION", reason)
    assert refusal.metadata == fields


def test_a_rule_set_that_is_not_published_is_refused(shared: RunningWeighing, registry: RunningRegistry) -> None:
    elsewhere = {**shared.environment, "ZHICHAO_WEIGHING_RULE_SET_ID": "of-another-province"}
    running = shared.replica("other-rules")
    try:
        running.stop()
        running.environment = elsewhere | {"ZHICHAO_WEIGHING_LISTEN": running.address}
        running.start()
        refusal = running.refused_record(record(new_id()))
    finally:
        running.close()
    assert (refusal.status, refusal.reason) == ("FAILED_PRECONDITION", "NO_RULE_SET")


def test_every_bad_field_is_named_at_once(shared: RunningWeighing) -> None:
    refusal = shared.refused_record(
        WeighingRecord(
            record_id="no spaces",
            source_unit_id=UNIT,
            weighing_point_id="gate-1",
            event=77,  # type: ignore[arg-type]  # wrong or untyped on purpose
            gross_weight_kg=200_001,
            front_plate=record_pb2.Plate(number="x" * 17),
            goods="\x00",
            vehicle=record_pb2.Vehicle(axle_count=1, axles=[record_pb2.Axle(weight_kg=-1), record_pb2.Axle()]),
        )
    )
    assert (refusal.status, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    assert sorted(refusal.fields) == [
        "record.event",
        "record.front_plate.number",
        "record.goods",
        "record.gross_weight_kg",
        "record.record_id",
        "record.scale_id",
        "record.vehicle.axle_count",
        "record.vehicle.axles",
        "record.vehicle.axles[0].weight_kg",
        "record.weigh_time",
    ]


def test_a_request_without_a_record_is_refused(shared: RunningWeighing) -> None:
    assert shared.refusal("RecordWeighing", pb.RecordWeighingRequest()).reason == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    "fields",
    [
        {"weigh_time": moment(START.replace(year=2009))},
        {"weigh_time": moment(START + timedelta(days=30))},
        {"gross_weight_kg": -(2**31)},
        {"lane": 2**31 - 1},
        {"event": 4},
        {"vehicle": record_pb2.Vehicle(vehicle_class=2**31 - 1)},  # type: ignore[arg-type]  # wrong or untyped on purpose
        {"front_plate": record_pb2.Plate(number="晋L00001", color=-1)},  # type: ignore[arg-type]  # wrong or untyped on purpose
        {"goods": "x" * 65},
        {"record_id": "x" * 65},
        {"record_id": "r'; DROP TABLE weighings"},
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_left(shared: RunningWeighing, fields: dict[str, Any]) -> None:
    size = shared.position().size
    refusal = shared.refused_record(record(**{"record_id": new_id(), **fields}))
    assert refusal.reason == "INVALID_ARGUMENT"
    assert len(refusal.fields) == 1
    assert shared.position().size == size


# A registration made a moment ago


def test_a_unit_registered_a_moment_ago_is_known(shared: RunningWeighing, registry: RunningRegistry) -> None:
    for number in range(5):
        unit = f"fresh-{number}"
        register_site(registry, unit)
        assert shared.record(record(new_id(), source_unit_id=unit)).receipt.sequence > 0


def test_nonsense_of_others_does_not_delay_a_registration(shared: RunningWeighing, registry: RunningRegistry) -> None:
    for number in range(5):
        unit = f"fresh-beside-nonsense-{number}"
        shared.refused_record(record(new_id(), source_unit_id="nobody"))
        register_site(registry, unit)
        assert shared.record(record(new_id(), source_unit_id=unit)).receipt.sequence > 0


# Batches


def test_a_batch_answers_every_record_in_order_and_records_the_good_ones(shared: RunningWeighing) -> None:
    first = record(new_id())
    shared.record(first)
    changed = WeighingRecord()
    changed.CopyFrom(first)
    changed.gross_weight_kg += 20
    good, twice = record(new_id()), record(new_id())
    batch = [
        good,
        record(new_id(), gross_weight_kg=1),
        first,
        record(new_id(), source_unit_id="nobody"),
        changed,
        record(new_id(), weighing_point_id="gate-9"),
        twice,
        record(new_id(), scale_id="scale-9"),
        twice,
        record("bad id"),
        record(new_id(), gross_weight_kg=2),
    ]
    results = shared.record_all(batch)
    assert [result.record_id for result in results] == [one.record_id for one in batch]
    assert [reason_of(result) for result in results] == [
        "recorded",
        "INVALID_ARGUMENT",
        "duplicate",
        "UNKNOWN_SOURCE_UNIT",
        "RECORD_CONFLICT",
        "UNKNOWN_WEIGHING_POINT",
        "recorded",
        "UNKNOWN_SCALE",
        "duplicate",
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
    ]
    refusal = results[1].refusal
    assert [violation.field for violation in refusal.field_violations] == ["record.gross_weight_kg"]
    assert (refusal.code, bool(refusal.message), bool(refusal.message_zh)) == (3, True, True)
    assert results[8].recorded.receipt == results[6].recorded.receipt
    assert results[8].recorded.judgement == results[6].recorded.judgement


def test_a_batch_of_only_refused_records_is_answered(shared: RunningWeighing) -> None:
    results = shared.record_all([record(new_id(), gross_weight_kg=1) for _ in range(3)])
    assert [reason_of(result) for result in results] == ["INVALID_ARGUMENT"] * 3


def test_the_largest_batch_is_recorded_and_a_larger_one_refused(shared: RunningWeighing) -> None:
    results = shared.record_all(records(1_000, new_id()))
    sequences = [result.recorded.receipt.sequence for result in results]
    assert sequences == list(range(sequences[0], sequences[0] + 1_000))
    refusal = shared.refusal("RecordWeighings", pb.RecordWeighingsRequest(records=records(1_001, new_id())))
    assert (refusal.status, refusal.reason) == ("INVALID_ARGUMENT", "BATCH_TOO_LARGE")
    assert refusal.metadata == {"limit": "1000", "actual": "1001"}
    assert shared.position().size == sequences[-1]


def test_an_empty_batch_is_refused(shared: RunningWeighing) -> None:
    refusal = shared.refusal("RecordWeighings", pb.RecordWeighingsRequest())
    assert (refusal.reason, refusal.fields) == ("INVALID_ARGUMENT", ["records"])


# Sizes


def test_a_record_too_large_for_an_entry_is_refused_alone(shared: RunningWeighing) -> None:
    largest = record(new_id())
    content = RECORD_BYTES_MAX - largest.ByteSize()
    while tagged(largest, 999, b"x" * content).ByteSize() > RECORD_BYTES_MAX:
        content -= 1
    batch = [
        record(new_id()),
        tagged(record(new_id()), 999, b"x" * 100_000),
        tagged(largest, 999, b"x" * content),
        tagged(record(new_id()), 999, b"x" * RECORD_BYTES_MAX),
    ]
    results = shared.record_all(batch)
    assert [reason_of(result) for result in results] == ["recorded", "ENTRY_TOO_LARGE", "recorded", "ENTRY_TOO_LARGE"]
    assert dict(results[1].refusal.metadata)["limit"] == str(RECORD_BYTES_MAX)


def test_the_answer_to_the_worst_batch_fits_into_a_message(shared: RunningWeighing) -> None:
    axle = record_pb2.Axle(weight_kg=-1, spacing_mm=-1, tires=99)  # type: ignore[arg-type]  # wrong or untyped on purpose
    worst = WeighingRecord(
        record_id="é" * 100,
        source_unit_id="\n" * 100,
        weighing_point_id="\n" * 100,
        scale_id="\n" * 100,
        event=99,  # type: ignore[arg-type]  # wrong or untyped on purpose
        parent_record_id="\n" * 100,
        visit_id="\n" * 100,
        goods="\n" * 100,
        loading_slip_number="\n" * 100,
        lane=-1,
        speed_kmh=-1,
        vehicle=record_pb2.Vehicle(
            vehicle_class=99,  # type: ignore[arg-type]  # wrong or untyped on purpose
            axle_count=21,
            axles=[axle] * 20,
            axle_group_codes="\n" * 100,
            drive_axle_count=9,
            registered_mass_kg=1,
            length_mm=1,
            width_mm=1,
            height_mm=1,
        ),
        front_plate=record_pb2.Plate(number="\n" * 100, color=99, raw_color_code="\n" * 100),  # type: ignore[arg-type]  # wrong or untyped on purpose
        rear_plate=record_pb2.Plate(number="\n" * 100, color=99, raw_color_code="\n" * 100),  # type: ignore[arg-type]  # wrong or untyped on purpose
        transport_permit=record_pb2.TransportPermit(number="\n" * 100),
    )
    results = shared.record_all([worst] * 1_000)
    assert {reason_of(result) for result in results} == {"INVALID_ARGUMENT"}
    fields = [violation.field for violation in results[0].refusal.field_violations]
    assert len(fields) == len(set(fields)) or "record.vehicle.axles" in fields
    assert "record.transport_permit.number" in fields


def test_an_endless_record_id_is_not_sent_back(shared: RunningWeighing) -> None:
    (result,) = shared.record_all([record("x" * 9_000_000)])
    assert reason_of(result) in ("INVALID_ARGUMENT", "ENTRY_TOO_LARGE")
    assert len(result.record_id) < 1_000
