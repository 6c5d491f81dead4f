"""The audit log is a chain that is exported in order, from any point on, with what proves that nothing is left out."""

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from cli.verifier.notes import Note, PublicKey
from cli.verifier.tree import Hashes, root_of_path
from services.common.errors import ServiceError
from services.common.rpc_client import service_error
from services.journal import access_export
from tests.conftest import Databases
from tests.registry import examples
from tests.registry.access_examples import person
from tests.registry.calls import create
from tests.registry.harness import START, TIMEOUT_SECONDS, RunningRegistry
from zhichao.access.v1 import service_pb2 as access
from zhichao.common.v1 import refusal_pb2
from zhichao.journal.v1 import access_record_pb2 as pb
from zhichao.journal.v1 import entry_pb2
from zhichao.journal.v1.access_record_pb2_grpc import AccessRecordServiceStub
from zhichao.registry.v1 import service_pb2

EXPORT = "zhichao.journal.v1.AccessRecordService/ExportAccessRecords"
HASHES = Hashes("sha256")


@pytest.fixture
def auditor(registry: RunningRegistry) -> AccessRecordServiceStub:
    return auditor_of(registry)


def auditor_of(registry: RunningRegistry) -> AccessRecordServiceStub:
    return AccessRecordServiceStub(registry.channel(registry._issue(registry.access, "auditor", "AUDITOR")))


def look(registry: RunningRegistry, count: int) -> None:
    """Leave so many access records."""
    for _ in range(count):
        registry.access.ListCredentials(access.ListCredentialsRequest(), timeout=TIMEOUT_SECONDS)


class Exported:
    """What one call has answered."""

    def __init__(self, auditor: AccessRecordServiceStub, **wanted: Any) -> None:
        times = {name: wanted.pop(name) for name in ("start_time", "end_time") if name in wanted}
        request = pb.ExportAccessRecordsRequest(**wanted)
        for name, moment in times.items():
            getattr(request, name).FromDatetime(moment)
        try:
            self.answers = list(auditor.ExportAccessRecords(request, timeout=TIMEOUT_SECONDS))
        except grpc.RpcError as error:
            raise service_error(error) from None
        self.head = self.answers[0].export if self.answers else pb.AccessRecordExport()
        self.entries = [one for answer in self.answers for one in answer.entries.entries]
        self.records = [record_in(one.entry) for one in self.entries]

    @property
    def numbers(self) -> list[int]:
        return [one.number for one in self.records]

    @property
    def size(self) -> int:
        return Note.read(self.head.checkpoint).size


def record_in(entry: bytes) -> pb.AccessRecord:
    parsed = entry_pb2.Entry.FromString(entry)
    assert parsed.kind == "zhichao.journal.v1.AccessRecord"
    return pb.AccessRecord.FromString(parsed.payload)


def test_records_are_numbered_and_each_names_the_one_before_it(
    registry: RunningRegistry, auditor: AccessRecordServiceStub
) -> None:
    look(registry, 3)
    found = Exported(auditor)
    assert found.numbers == list(range(1, len(found.records) + 1))
    leaves = [b"", *(HASHES.leaf(one.entry) for one in found.entries)]
    assert [one.previous_leaf_digest for one in found.records] == leaves[:-1]
    # The export itself closes the chain.
    closing = record_in(found.head.after.entry)
    assert (closing.method, closing.principal, closing.number) == (EXPORT, "person/auditor", len(found.records) + 1)
    assert closing.previous_leaf_digest == leaves[-1]


def test_the_newest_record_and_entry_1_lie_in_the_signed_log(
    registry: RunningRegistry, auditor: AccessRecordServiceStub
) -> None:
    look(registry, 2)
    head = Exported(auditor).head
    note = Note.read(head.checkpoint)
    start = entry_pb2.LogStart.FromString(entry_pb2.Entry.FromString(head.log_start).payload)
    assert note.is_signed_by(PublicKey.read(start.verifier_key))
    assert root_of_path(HASHES, HASHES.leaf(head.log_start), 0, note.size, head.log_start_path) == note.root
    assert head.proven_sequence == head.after.sequence == note.size
    leaf = HASHES.leaf(head.after.entry)
    assert root_of_path(HASHES, leaf, head.proven_sequence - 1, note.size, head.proven_path) == note.root


def test_changes_of_permissions_are_in_it(registry: RunningRegistry, auditor: AccessRecordServiceStub) -> None:
    before = len(Exported(auditor).records)
    create(registry, examples.division(division_code="141099", parent_code="141000"))
    registry.access.CreateCredential(
        access.CreateCredentialRequest(credential=person(registry.platform, "VIEWER", credential_id="")),
        timeout=TIMEOUT_SECONDS,
    )
    registry.access.RotateCredential(access.RotateCredentialRequest(credential_id="operator"), timeout=TIMEOUT_SECONDS)
    registry.access.RevokeCredential(
        access.RevokeCredentialRequest(credential_id="operator", reason="lost"), timeout=TIMEOUT_SECONDS
    )
    # Behind the record of the first export.
    found = [(one.method.rpartition("/")[2], list(one.subjects)) for one in Exported(auditor).records[before + 1 :]]
    (created, made) = found.pop(1)
    assert created == "CreateCredential"
    assert any(one.startswith("credential.credential_id=") for one in made)
    assert found == [
        ("CreateDivision", ["division.division_code=141099", "division.parent_code=141000"]),
        ("RotateCredential", ["credential_id=operator"]),
        ("RevokeCredential", ["credential_id=operator"]),
    ]


def test_a_window_holds_what_lies_in_it_and_is_framed_by_what_does_not(
    registry: RunningRegistry, auditor: AccessRecordServiceStub
) -> None:
    look(registry, 6)
    everything = Exported(auditor)
    times = [one.access_time.ToDatetime(UTC) for one in everything.records]
    found = Exported(auditor, start_time=times[2], end_time=times[5])
    assert found.numbers == [3, 4, 5]
    assert found.head.record_count == 3
    assert record_in(found.head.before.entry).number == 2
    assert record_in(found.head.after.entry).number == 6
    assert found.head.proven_sequence == found.head.after.sequence


def test_a_window_without_records_is_framed_too(registry: RunningRegistry, auditor: AccessRecordServiceStub) -> None:
    look(registry, 2)
    everything = Exported(auditor)
    first, second = (one.access_time.ToDatetime(UTC) for one in everything.records[-2:])
    gap = Exported(auditor, start_time=first + timedelta(microseconds=1), end_time=second)
    last = everything.records[-1].number
    assert (gap.head.record_count, gap.entries) == (0, [])
    assert record_in(gap.head.before.entry).number == last - 1
    assert record_in(gap.head.after.entry).number == last
    early = Exported(auditor, end_time=START - timedelta(days=1))
    assert (early.head.record_count, early.head.HasField("before")) == (0, False)
    assert record_in(early.head.after.entry).number == 1
    late = Exported(
        auditor, start_time=registry.clock.moment + timedelta(seconds=1), end_time=datetime(2030, 1, 1, tzinfo=UTC)
    )
    assert late.head.record_count == 0
    assert record_in(late.head.after.entry).method == EXPORT
    assert record_in(late.head.before.entry).number == record_in(late.head.after.entry).number - 1


def test_an_export_is_taken_up_again_where_it_broke_off(
    registry: RunningRegistry, auditor: AccessRecordServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_export, "PAGE_RECORDS", 2)
    look(registry, 7)
    whole = Exported(auditor)
    assert [len(answer.entries.entries) for answer in whole.answers[1:3]] == [2, 2]
    # More is written meanwhile, which is not part of it.
    look(registry, 3)
    rest = Exported(auditor, size=whole.size, after_sequence=whole.entries[3].sequence)
    assert rest.entries == whole.entries[4:]
    assert not rest.answers[0].HasField("export")
    assert Exported(auditor, size=whole.size, after_sequence=whole.entries[-1].sequence).entries == []


def test_an_export_is_written_down_before_it_is_answered(
    registry: RunningRegistry, auditor: AccessRecordServiceStub
) -> None:
    size = registry.size()
    request = pb.ExportAccessRecordsRequest()
    list(auditor.ExportAccessRecords(request, timeout=TIMEOUT_SECONDS, metadata=(("x-purpose", "%E5%AE%A1%E8%AE%A1"),)))
    assert registry.size() == size + 1
    (entry,) = registry.entries(size + 1)[:1]
    assert record_in(entry).purpose == "审计"


def test_only_auditors_export(registry: RunningRegistry) -> None:
    for token in (registry.operator_token, registry.admin_token, registry.service_token):
        with pytest.raises(ServiceError) as caught:
            Exported(AccessRecordServiceStub(registry.channel(token)))
        assert caught.value.reason == "PERMISSION_MISSING"


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"origin": "14"}, "origin"),
        ({"size": -1}, "size"),
        ({"after_sequence": -1}, "after_sequence"),
        ({"start_time": START, "end_time": START}, "end_time"),
    ],
)
def test_a_bad_export_is_refused(auditor: AccessRecordServiceStub, wanted: dict[str, Any], field: str) -> None:
    with pytest.raises(ServiceError) as caught:
        Exported(auditor, **wanted)
    assert [one.field for one in caught.value.field_violations] == [field]


@pytest.mark.parametrize(
    ("wanted", "reason"), [({"origin": "141026"}, "UNKNOWN_LOG"), ({"size": 99_999}, "BEYOND_LOG")]
)
def test_what_is_not_held_is_not_exported(
    auditor: AccessRecordServiceStub, wanted: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ServiceError) as caught:
        Exported(auditor, **wanted)
    assert caught.value.reason == reason


def test_a_platform_above_exports_the_records_of_one_below(registry: RunningRegistry, city: RunningRegistry) -> None:
    look(registry, 3)
    city.receive(registry.batches())
    found = Exported(auditor_of(city), origin=registry.platform)
    assert found.numbers[:1] == [1]
    assert found.numbers == list(range(1, len(found.numbers) + 1))
    assert not found.head.HasField("after")
    note = Note.read(found.head.checkpoint)
    last = found.entries[-1]
    assert found.head.proven_sequence == last.sequence
    assert (
        root_of_path(HASHES, HASHES.leaf(last.entry), last.sequence - 1, note.size, found.head.proven_path) == note.root
    )


def test_an_export_from_above_is_taken_up_again_though_more_has_come_up(
    registry: RunningRegistry, city: RunningRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_export, "PAGE_RECORDS", 2)
    look(registry, 5)
    city.receive(registry.batches())
    above = auditor_of(city)
    whole = Exported(above, origin=registry.platform)
    look(registry, 2)
    # The checkpoint of the next batch replaces the one that the export began with.
    city.receive(registry.batches(whole.size + 1))
    rest = Exported(above, origin=registry.platform, size=whole.size, after_sequence=whole.entries[1].sequence)
    assert rest.entries == whole.entries[2:]
    assert not rest.answers[0].HasField("export")
    with pytest.raises(ServiceError) as caught:
        Exported(above, origin=registry.platform, size=registry.size() + 1)
    assert caught.value.reason == "BEYOND_LOG"


def test_refused_attempts_are_written_down_summed_up(
    databases: Databases, registry: RunningRegistry, auditor: AccessRecordServiceStub
) -> None:
    del databases
    request = service_pb2.GetSourceUnitRequest(source_unit_id="u")
    calls = (
        registry.channel("zhichao.operator." + "A" * 43),
        registry.channel("zhichao.nobody." + "A" * 43),
        registry.channel(""),
    )
    for channel in calls:
        for _ in range(3):
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(
                    "/zhichao.registry.v1.RegistryService/GetSourceUnit",
                    request_serializer=service_pb2.GetSourceUnitRequest.SerializeToString,
                )(request, timeout=TIMEOUT_SECONDS)
    with pytest.raises(ServiceError):
        Exported(AccessRecordServiceStub(registry.channel(registry.operator_token)))
    # A stop tells what was refused and not yet told.
    registry.stop()
    registry.start()
    again = AccessRecordServiceStub(registry.channel(registry._issue(registry.access, "auditor-2", "AUDITOR")))
    reasons = {
        (
            refusal_pb2.ErrorReason.Name(one.refusal_reason).removeprefix("ERROR_REASON_"),
            one.principal,
            tuple(one.subjects),
            one.attempt_count,
            one.peer_address,
        )
        for one in Exported(again).records
        if one.refusal_reason
    }
    assert reasons == {
        ("INVALID_CREDENTIALS", "", ("credential_id=operator",), 3, "unix"),
        ("INVALID_CREDENTIALS", "", (), 3, "unix"),
        ("NO_CREDENTIALS", "", (), 3, "unix"),
        ("PERMISSION_MISSING", "person/operator", (), 1, "unix"),
    }


def attempt(**other: Any) -> pb.AccessRecord:
    record = pb.AccessRecord(
        principal="platform/141025",
        method="zhichao.relay.v1.RelayService/Handshake",
        peer_address="ipv4:192.0.2.1",
        refusal_reason=refusal_pb2.ERROR_REASON_PLATFORM_NOT_REGISTERED,
        attempt_count=4,
    )
    record.access_time.FromDatetime(START)
    record.first_attempt_time.FromDatetime(START)
    record.MergeFrom(pb.AccessRecord(**other))
    return record


def report(registry: RunningRegistry, *records: pb.AccessRecord) -> None:
    stub = AccessRecordServiceStub(registry.channel(registry.service_token))
    stub.ReportRefusedAttempts(pb.ReportRefusedAttemptsRequest(refused_attempts=records), timeout=TIMEOUT_SECONDS)


def test_a_service_without_a_journal_reports_what_it_refused(
    registry: RunningRegistry, auditor: AccessRecordServiceStub
) -> None:
    report(registry, attempt(number=77, personal_data_count=3, purpose="forged"))
    report(registry)
    kept = Exported(auditor).records[-1]
    assert (kept.principal, kept.peer_address, kept.attempt_count) == ("platform/141025", "ipv4:192.0.2.1", 4)
    assert (kept.personal_data_count, kept.purpose) == (0, "")
    assert kept.number != 77


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"principal": "\x00"}, "principal"),
        ({"method": "m" * 300}, "method"),
        ({"subjects": ["a=1", "b=2"]}, "subjects"),
        ({"refusal_reason": 9999}, "refusal_reason"),
    ],
)
def test_a_bad_report_is_refused(registry: RunningRegistry, other: dict[str, Any], field: str) -> None:
    size = registry.size()
    with pytest.raises(grpc.RpcError) as caught:
        report(registry, attempt(), attempt(**other))
    (violation,) = service_error(caught.value).field_violations
    assert violation.field == f"refused_attempts[1].{field}"
    assert registry.size() == size


def test_a_report_without_reason_count_or_time_is_refused(registry: RunningRegistry) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        report(registry, pb.AccessRecord())
    fields = [one.field.partition(".")[2] for one in service_error(caught.value).field_violations]
    assert fields == ["refusal_reason", "attempt_count", "access_time", "first_attempt_time"]


def test_only_services_report(registry: RunningRegistry) -> None:
    stub = AccessRecordServiceStub(registry.channel(registry.admin_token))
    with pytest.raises(grpc.RpcError) as caught:
        stub.ReportRefusedAttempts(
            pb.ReportRefusedAttemptsRequest(refused_attempts=[attempt()]), timeout=TIMEOUT_SECONDS
        )
    assert service_error(caught.value).reason == "PERMISSION_MISSING"
