"""Requests that a platform takes, by RPC: where the fuzzer starts from. An RPC that is not here starts from what the
descriptors and the answers of others give.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf.message import Message

from services.journal.addressed_convert import batch_message
from services.registry.kinds import BY_NAME
from tests.enforcement import examples as enforcement_examples
from tests.journal.paper_chain import PaperChain
from tests.journal.paper_log import PaperLog
from tests.registry import access_examples, examples
from tests.video.harness import draft_of
from tests.weighing import records
from zhichao.access.v1 import service_pb2 as access_pb2
from zhichao.enforcement.v1 import service_pb2 as enforcement_pb2
from zhichao.journal.v1 import journal_pb2
from zhichao.registry.v1 import service_pb2 as registry_pb2
from zhichao.relay.v1 import relay_pb2
from zhichao.video.v1 import camera_pb2, evidence_pb2, transfer_pb2
from zhichao.video.v1 import service_pb2 as video_pb2
from zhichao.weighing.v1 import service_pb2 as weighing_pb2

CITY, COUNTY, OTHER_COUNTY = "141000", "141025", "141026"

OWN_UNIT: Final = "141025-001"
"""What the terminal is bound to."""

VICTIM: Final = "141025-002"
"""A unit that fuzzed calls may change; the integrator has it too."""

OTHER_UNIT: Final = "141026-001"
"""What nobody with bounds may see."""


def _resources() -> list[Any]:
    at_victim = {"source_unit_id": VICTIM}
    return [
        examples.division(division_code="141030", name="示例县"),
        examples.platform(platform_code="141030", upstream_code=CITY),
        examples.attended_unit(**at_victim),
        examples.weighing_point(**at_victim),
        examples.scale(**at_victim),
        examples.verification_certificate(**at_victim),
        examples.rule_set(rule_set_id="fuzzed"),
    ]


def registry_requests() -> dict[str, Message]:
    """Return what creates, changes and reads one resource of each kind; in the order in which they refer to others."""
    made: dict[str, Message] = {}
    for resource in _resources():
        noun, kind = resource.DESCRIPTOR.name, BY_NAME[resource.DESCRIPTOR.full_name]
        as_field = {kind.resource_type: resource}
        made[f"Create{noun}"] = getattr(registry_pb2, f"Create{noun}Request")(**as_field)
        keys = {name: getattr(resource, name) for name in kind.key}
        made[f"Get{noun}"] = getattr(registry_pb2, f"Get{noun}Request")(**keys)
        if hasattr(registry_pb2, f"Update{noun}Request"):
            made[f"Update{noun}"] = getattr(registry_pb2, f"Update{noun}Request")(**as_field)
    return {f"zhichao.registry.v1.RegistryService/{name}": request for name, request in made.items()}


def _record(record_id: str = "fuzzed-1", **fields: Any) -> Any:
    fields = {"source_unit_id": OWN_UNIT, "weigh_time": records.moment(datetime.now(UTC))} | fields
    return records.record(record_id, **fields)


def _access_requests() -> dict[str, Message]:
    person = access_examples.person(COUNTY, "VIEWER", credential_id="victim-1")
    return {
        "CreateCredential": access_pb2.CreateCredentialRequest(credential=person),
        "GetCredential": access_pb2.GetCredentialRequest(credential_id="victim-1"),
        "UpdateCredential": access_pb2.UpdateCredentialRequest(credential=person),
        "RotateCredential": access_pb2.RotateCredentialRequest(credential_id="victim-1"),
        "RevokeCredential": access_pb2.RevokeCredentialRequest(credential_id="victim-2", reason="遗失"),
        "ReportUse": access_pb2.ReportUseRequest(uses=[access_pb2.CredentialUse(credential_id="victim-1")]),
    }


def _weighing_requests() -> dict[str, Message]:
    several = [_record(f"fuzzed-{number}") for number in range(3)]
    named = weighing_pb2.RecordName(source_unit_id=OWN_UNIT, record_id="fuzzed-1")
    return {
        "RecordWeighing": weighing_pb2.RecordWeighingRequest(record=several[0]),
        "RecordWeighings": weighing_pb2.RecordWeighingsRequest(records=several),
        "StreamWeighings": weighing_pb2.StreamWeighingsRequest(records=several),
        "GetWeighing": weighing_pb2.GetWeighingRequest(record_name=named),
        "ListWeighings": weighing_pb2.ListWeighingsRequest(
            filter=weighing_pb2.WeighingFilter(source_unit_id=OWN_UNIT), page_size=3
        ),
        "WatchWeighings": weighing_pb2.WatchWeighingsRequest(origin=CITY, first_sequence=1, source_unit_id=OWN_UNIT),
    }


def _enforcement_requests() -> dict[str, Message]:
    officer = enforcement_examples.OFFICER
    return {
        "IssueNotice": enforcement_pb2.IssueNoticeRequest(notice=enforcement_examples.notice("n-1", COUNTY)),
        "WithdrawNotice": enforcement_pb2.WithdrawNoticeRequest(notice_id="n-2", reason="有误"),
        "AcknowledgeNotice": enforcement_pb2.AcknowledgeNoticeRequest(issuer=CITY, notice_id="n-1", officer=officer),
        "IssueDutyCheck": enforcement_pb2.IssueDutyCheckRequest(
            duty_check=enforcement_examples.duty_check("dc-1", COUNTY)
        ),
        "AnswerDutyCheck": enforcement_pb2.AnswerDutyCheckRequest(
            issuer=CITY, duty_check_id="dc-1", answer="在岗", officer=officer
        ),
        "GetNotice": enforcement_pb2.GetNoticeRequest(notice_id="n-1"),
        "GetDutyCheck": enforcement_pb2.GetDutyCheckRequest(duty_check_id="dc-1"),
    }


def _video_requests() -> dict[str, Message]:
    name = evidence_pb2.EvidenceName(source_unit_id=OWN_UNIT, evidence_id="p-1")
    content = b"a photo that is none"
    now = datetime.now(UTC)
    draft = draft_of(content, now, source_unit_id=OWN_UNIT, evidence_id="fuzzed-1")
    camera = camera_pb2.CameraReport(
        source_unit_id=OWN_UNIT,
        camera_id="camera-1",
        state=camera_pb2.RECORDING_STATE_RECORDING,
        state_time=records.moment(now),
    )
    in_five_years = records.moment(now + timedelta(days=5 * 365))
    return {
        "UploadEvidence": video_pb2.UploadEvidenceRequest(draft=draft, chunk=content),
        "GetUpload": video_pb2.GetUploadRequest(name=name),
        "PrepareUpload": video_pb2.PrepareUploadRequest(draft=draft),
        "CompleteUpload": video_pb2.CompleteUploadRequest(name=name),
        "GetEvidence": video_pb2.GetEvidenceRequest(name=name),
        "ListEvidence": video_pb2.ListEvidenceRequest(filter=video_pb2.EvidenceFilter(source_unit_id=OWN_UNIT)),
        "ReadEvidence": video_pb2.ReadEvidenceRequest(name=name, purpose="示例复核"),
        "GetPlaybackUrl": video_pb2.GetPlaybackUrlRequest(name=name, purpose="示例复核"),
        "RecordExport": video_pb2.RecordExportRequest(names=[name], purpose="示例复核", bundle_id="fuzzed-1"),
        "PlaceLegalHold": video_pb2.PlaceLegalHoldRequest(name=name, hold_id="fuzzed-1", purpose="示例立案"),
        "ReleaseLegalHold": video_pb2.ReleaseLegalHoldRequest(name=name, hold_id="fuzzed-1", purpose="示例结案"),
        "ExtendRetention": video_pb2.ExtendRetentionRequest(
            name=name, retain_until_time=in_five_years, purpose="示例立案"
        ),
        "ListCustody": video_pb2.ListCustodyRequest(name=name),
        "FetchEvidence": video_pb2.FetchEvidenceRequest(name=name, purpose="示例复核"),
        "ReportCameras": video_pb2.ReportCamerasRequest(reports=[camera]),
    }


def _transfer_requests() -> dict[str, Message]:
    wanted = transfer_pb2.TransferObject(digest=bytes(32), size_bytes=10)
    return {
        "WatchWanted": transfer_pb2.WatchWantedRequest(platform=COUNTY),
        "ReceiveObject": transfer_pb2.ReceiveObjectRequest(object=wanted, platform=COUNTY, chunk=b"0123456789"),
        "DeclineObject": transfer_pb2.DeclineObjectRequest(platform=COUNTY, digest=bytes(32)),
        "WantForUpstream": transfer_pb2.WantForUpstreamRequest(digest=bytes(32)),
        "SendObject": transfer_pb2.SendObjectRequest(digest=bytes(32)),
    }


def _relay_requests() -> dict[str, Message]:
    return {
        "Handshake": relay_pb2.HandshakeRequest(
            platform=COUNTY, protocol_versions=[1, 2], software_version="0.2.0", verifier_key=""
        ),
        "FollowAddressed": relay_pb2.FollowAddressedRequest(stream="enforcement"),
        "ReadOwnEntries": relay_pb2.ReadOwnEntriesRequest(stream="weighing", first_sequence=1),
        "PushObject": relay_pb2.PushObjectRequest(
            object=transfer_pb2.TransferObject(digest=bytes(32), size_bytes=10), chunk=b"0123456789"
        ),
        "DeclineObject": relay_pb2.DeclineObjectRequest(digest=bytes(32)),
    }


def _journal_requests() -> dict[str, Message]:
    """Return what asks for the own log, and logs that somebody else has begun and signed, of the weighing service."""
    paper = PaperLog("141031", stream="weighing").add_many(3)
    batch = paper.batch()
    chain = PaperChain(PaperLog("110000", stream="weighing")).address(CITY, b"one", b"two")
    return {
        "ReadEntries": journal_pb2.ReadEntriesRequest(origin=CITY, first_sequence=1),
        "GetCheckpoint": journal_pb2.GetCheckpointRequest(origin=CITY),
        "GetInclusionProof": journal_pb2.GetInclusionProofRequest(origin=CITY, sequence=1),
        "GetConsistencyProof": journal_pb2.GetConsistencyProofRequest(origin=CITY, first_size=1, second_size=2),
        "ReadAddressedEntries": journal_pb2.ReadAddressedEntriesRequest(platform=COUNTY),
        "AppendEntries": journal_pb2.AppendEntriesRequest(
            batch=journal_pb2.EntryBatch(
                origin=paper.origin, first_sequence=1, entries=batch.entries, checkpoint=paper.checkpoint()
            )
        ),
        "AppendAddressedEntries": journal_pb2.AppendAddressedEntriesRequest(batch=batch_message(chain.batch(), 0)),
    }


_SERVICES: Final[Mapping[str, Callable[[], dict[str, Message]]]] = {
    "zhichao.access.v1.AccessService": _access_requests,
    "zhichao.weighing.v1.WeighingService": _weighing_requests,
    "zhichao.enforcement.v1.EnforcementService": _enforcement_requests,
    "zhichao.video.v1.VideoService": _video_requests,
    "zhichao.video.v1.TransferService": _transfer_requests,
    "zhichao.relay.v1.RelayService": _relay_requests,
    "zhichao.journal.v1.JournalService": _journal_requests,
}


def fair_requests() -> dict[str, bytes]:
    """Return one request by the name of its RPC, serialised."""
    made = registry_requests()
    for service, requests in _SERVICES.items():
        made |= {f"{service}/{name}": request for name, request in requests().items()}
    return {name: request.SerializeToString() for name, request in made.items()}
