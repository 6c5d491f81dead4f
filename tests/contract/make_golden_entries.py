"""Writes golden_entries.json: run it once for a new kind of entry, never to make a failing test pass.

python -m tests.contract.make_golden_entries
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from services.journal.digests import Digester
from services.journal.entries import LOG_START_KIND, EntryBuilder, timestamp
from services.journal.merkle import Frontier
from services.journal.notes import Checkpoint, Signer, log_name, signer_name
from zhichao.access.v1 import credential_pb2
from zhichao.common.v1 import refusal_pb2
from zhichao.enforcement.v1 import directive_pb2, duty_check_pb2, notice_pb2
from zhichao.journal.v1 import access_record_pb2, addressed_pb2, entry_pb2
from zhichao.registry.v1 import resources_pb2
from zhichao.video.v1 import camera_pb2, custody_pb2, evidence_pb2
from zhichao.weighing.v1 import record_pb2, weighing_pb2

FILE = Path(__file__).with_name("golden_entries.json")

ORIGIN, UPPER = "141025", "141000"
# A zone that acts below the county.
BELOW = "141071"
BEGIN = datetime(2026, 1, 15, 8, 30, tzinfo=UTC)


def _signer(platform: str, seed: int) -> Signer:
    # A key that anybody can make again: for these bytes only.
    return Signer(signer_name(platform), Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def _weighing() -> weighing_pb2.Weighing:
    record = record_pb2.WeighingRecord(
        record_id="0194-golden-1",
        source_unit_id="141025-0001",
        weighing_point_id="gate-1",
        scale_id="scale-1",
        weigh_time=timestamp(BEGIN),
        event=record_pb2.WEIGHING_EVENT_GROSS,
        gross_weight_kg=55_600,
        tare_weight_kg=15_100,
        front_plate=record_pb2.Plate(
            number="晋L·00001", color=record_pb2.PLATE_COLOR_YELLOW, raw_color_code="1", confidence_permille=987
        ),
        vehicle=record_pb2.Vehicle(
            vehicle_class=record_pb2.VEHICLE_CLASS_ARTICULATED,
            axle_count=2,
            axles=[record_pb2.Axle(weight_kg=7_000, spacing_mm=3_600), record_pb2.Axle(weight_kg=48_600)],
        ),
        goods="原煤",
    )
    # Field 4095 of a newer terminal: unknown fields travel and hash like all others.
    record.MergeFromString(bytes.fromhex("faff010568656c6c6f"))
    return weighing_pb2.Weighing(
        record=record,
        judgement=weighing_pb2.Judgement(
            verdict=weighing_pb2.VERDICT_SUSPECTED,
            rule_set_id="order-62-2016",
            rule_set_version=1,
            conservative_limit_kg=46_000,
            lenient_limit_kg=49_000,
            tolerance_kg=98,
            excess_kg=6_600,
            overload_rate_permille=134,
            severity=weighing_pb2.SEVERITY_ORDINARY,
            reasons=["combination-6-single-drive", "combination-6", "drive-axles-unknown"],
        ),
        receive_time=timestamp(BEGIN + timedelta(seconds=2)),
        division_code=ORIGIN,
        plate_number="晋L00001",
        quality_flags=[weighing_pb2.QUALITY_FLAG_NO_CERTIFICATE],
    )


def _payloads(signer: Signer) -> list[tuple[str, Message, str]]:
    """Return kind, payload and audience of each entry."""
    start = entry_pb2.LogStart(
        origin=ORIGIN, stream="weighing", digest_algorithm="sha256", verifier_key=signer.verifier_key.format()
    )
    conflicting = _weighing().record
    conflicting.gross_weight_kg = 48_000
    conflict = weighing_pb2.WeighingConflict(
        record=conflicting, first_sequence=2, receive_time=timestamp(BEGIN + timedelta(minutes=1))
    )
    unit = resources_pb2.SourceUnit(
        source_unit_id="141025-0001",
        name="示例煤矿",
        kind=resources_pb2.SOURCE_UNIT_KIND_COAL_MINE,
        division_code=ORIGIN,
        location=resources_pb2.GeoPoint(latitude_degrees=36.25, longitude_degrees=111.875),
        state=resources_pb2.SOURCE_UNIT_STATE_OPERATING,
        info=resources_pb2.ResourceInfo(
            origin=ORIGIN, etag="141025-4", create_time=timestamp(BEGIN), update_time=timestamp(BEGIN)
        ),
    )
    rule_set = resources_pb2.RuleSet(
        rule_set_id="example",
        version=1,
        title="Example",
        title_zh="示例",
        source_document="示例〔2026〕1 号",
        jurisdiction=ORIGIN,
        effective_from="2026-01-01",
        info=resources_pb2.ResourceInfo(
            origin=UPPER, etag="141000-5", create_time=timestamp(BEGIN), update_time=timestamp(BEGIN)
        ),
    )
    receipt = addressed_pb2.AddressedReceipt(
        origin=UPPER, through_sequence=5, sequences=[3, 5], receive_time=timestamp(BEGIN + timedelta(minutes=5))
    )
    credential = credential_pb2.Credential(
        credential_id="141025-0001-t1",
        kind=credential_pb2.PRINCIPAL_KIND_TERMINAL,
        display_name="示例终端",
        source_unit_ids=["141025-0001"],
        limits=credential_pb2.CallLimits(calls_per_second=5, burst_calls=50, bytes_per_second=1_048_576),
        secrets=[
            credential_pb2.Secret(
                digest=bytes(range(32)),
                create_time=timestamp(BEGIN),
                expire_time=timestamp(BEGIN + timedelta(days=365)),
            )
        ],
        create_time=timestamp(BEGIN),
        expire_time=timestamp(BEGIN + timedelta(days=365)),
        revoke_time=timestamp(BEGIN + timedelta(days=2)),
        revoke_reason="遗失",
    )
    return [
        (LOG_START_KIND, start, ""),
        ("zhichao.weighing.v1.Weighing", _weighing(), ""),
        ("zhichao.weighing.v1.WeighingConflict", conflict, ""),
        # Not of this stream in earnest; it stands here so that one file holds every kind of entry.
        ("zhichao.registry.v1.SourceUnit", unit, ""),
        ("zhichao.registry.v1.RuleSet", rule_set, ORIGIN),
        ("zhichao.journal.v1.AddressedReceipt", receipt, ""),
        ("zhichao.access.v1.Credential", credential, ""),
        *_directives(),
        *_access_records(),
        *_evidence(),
    ]


def _evidence() -> list[tuple[str, Message, str]]:
    """Return a manifest, what was done with evidence here and below, and what a site says of a camera."""
    clip = evidence_pb2.Evidence(
        source_unit_id="141025-0001",
        evidence_id="0194-golden-1.clip",
        kind=evidence_pb2.EVIDENCE_KIND_CLIP,
        division_code=ORIGIN,
        digest=bytes(range(32)),
        size_bytes=8_388_608,
        content_type="video/mp4",
        media=evidence_pb2.MediaFacts(
            width_px=1920,
            height_px=1080,
            duration_milliseconds=30_040,
            video_codec="h264",
            device_time=timestamp(BEGIN),
        ),
        view=evidence_pb2.CAMERA_VIEW_SIDE,
        camera_id="34020000001320000001",
        capture_start_time=timestamp(BEGIN - timedelta(seconds=15)),
        capture_end_time=timestamp(BEGIN + timedelta(seconds=15)),
        subjects=[
            evidence_pb2.Subject(record_id="0194-golden-1"),
            evidence_pb2.Subject(acceptance_id="2026-acceptance-1"),
        ],
        retention_class="case",
        retain_until_time=timestamp(BEGIN + timedelta(days=1_095)),
        seal_time=timestamp(BEGIN + timedelta(minutes=12)),
        actor="terminal/example",
        flags=[evidence_pb2.EVIDENCE_FLAG_LATE],
    )
    # Field 4095 of a newer release: unknown fields travel and hash like all others.
    clip.MergeFromString(bytes.fromhex("faff010568656c6c6f"))
    viewed = custody_pb2.CustodyEvent(
        evidence_origin=ORIGIN,
        source_unit_id="141025-0001",
        evidence_id="0194-golden-1.clip",
        digest=bytes(range(32)),
        action=custody_pb2.CUSTODY_ACTION_VIEWED,
        purpose="示例复核",
        actor="person/example",
        event_time=timestamp(BEGIN + timedelta(hours=1)),
    )
    held = custody_pb2.CustodyEvent(
        evidence_origin=BELOW,
        source_unit_id="141071-0001",
        evidence_id="photo-1",
        digest=bytes(range(32, 64)),
        action=custody_pb2.CUSTODY_ACTION_HOLD_PLACED,
        purpose="示例立案",
        actor="person/example",
        event_time=timestamp(BEGIN + timedelta(hours=2)),
        reference_id="case-2026-1",
    )
    camera = camera_pb2.CameraReport(
        source_unit_id="141025-0001",
        camera_id="34020000001320000001",
        view=evidence_pb2.CAMERA_VIEW_SIDE,
        state=camera_pb2.RECORDING_STATE_RECORDING,
        state_time=timestamp(BEGIN),
        oldest_recording_time=timestamp(BEGIN - timedelta(days=30)),
        receive_time=timestamp(BEGIN + timedelta(seconds=2)),
        actor="terminal/example",
    )
    return [
        ("zhichao.video.v1.Evidence", clip, ""),
        ("zhichao.video.v1.CustodyEvent", viewed, ""),
        ("zhichao.video.v1.CustodyEvent", held, BELOW),
        ("zhichao.video.v1.CameraReport", camera, ""),
    ]


def _access_records() -> list[tuple[str, Message, str]]:
    """Return who was shown something, and who was refused."""
    answered = access_record_pb2.AccessRecord(
        principal="person/example",
        method="zhichao.weighing.v1.WeighingService/GetWeighing",
        subjects=["record_name.source_unit_id=141025-0001"],
        purpose="示例",
        personal_data_count=2,
        access_time=timestamp(BEGIN),
        number=1,
        peer_address="ipv4:192.0.2.1",
    )
    refused = access_record_pb2.AccessRecord(
        method="zhichao.weighing.v1.WeighingService/GetWeighing",
        subjects=["credential_id=141025-0001-t1"],
        access_time=timestamp(BEGIN + timedelta(minutes=1)),
        number=2,
        previous_leaf_digest=bytes(range(32)),
        peer_address="ipv6:2001:db8::/64",
        refusal_reason=refusal_pb2.ERROR_REASON_INVALID_CREDENTIALS,
        attempt_count=12,
        first_attempt_time=timestamp(BEGIN),
    )
    return [("zhichao.journal.v1.AccessRecord", one, "") for one in (answered, refused)]


def _directives() -> list[tuple[str, Message, str]]:
    """Return a notice and a duty check to platforms below, and what is said to them."""
    officer = directive_pb2.Officer(name="示例", phone_number="+8635100000000")
    notice = notice_pb2.Notice(
        notice_id="2026-007",
        kind=notice_pb2.NOTICE_KIND_INSTRUCTION,
        title="示例督办",
        body="第一行\n第二行",
        deadline_time=timestamp(BEGIN + timedelta(days=3)),
        audiences=[BELOW],
        recipient_scope=directive_pb2.RECIPIENT_SCOPE_SUBTREE,
        officer=officer,
        recipients=[BELOW],
        actor="person/example",
        issue_time=timestamp(BEGIN),
    )
    withdrawal = notice_pb2.NoticeWithdrawal(
        notice_id="2026-007", reason="示例", actor="person/example", withdraw_time=timestamp(BEGIN + timedelta(days=1))
    )
    acknowledgement = notice_pb2.NoticeAcknowledgement(
        issuer=UPPER,
        notice_id="2026-008",
        text="已传达",
        officer=officer,
        actor="person/example",
        acknowledge_time=timestamp(BEGIN + timedelta(hours=1)),
    )
    duty_check = duty_check_pb2.DutyCheck(
        duty_check_id="dc-1",
        question="1 加 1 等于几",
        answer_kind=duty_check_pb2.ANSWER_KIND_NUMBER,
        answer_minutes=10,
        audiences=[BELOW],
        recipient_scope=directive_pb2.RECIPIENT_SCOPE_DIVISION,
        recipients=[BELOW],
        actor="person/example",
        issue_time=timestamp(BEGIN),
        deadline_time=timestamp(BEGIN + timedelta(minutes=10)),
    )
    answer = duty_check_pb2.DutyCheckAnswer(
        issuer=UPPER,
        duty_check_id="dc-2",
        answer="2",
        officer=officer,
        actor="person/example",
        answer_time=timestamp(BEGIN + timedelta(minutes=5)),
    )
    return [
        ("zhichao.enforcement.v1.Notice", notice, BELOW),
        ("zhichao.enforcement.v1.NoticeWithdrawal", withdrawal, BELOW),
        ("zhichao.enforcement.v1.NoticeAcknowledgement", acknowledgement, ""),
        ("zhichao.enforcement.v1.DutyCheck", duty_check, BELOW),
        ("zhichao.enforcement.v1.DutyCheckAnswer", answer, ""),
    ]


def main() -> None:
    """Write the file. Raises SystemExit when an entry that it holds would change."""
    signer, cosigner = _signer(ORIGIN, 1), _signer(UPPER, 2)
    digesters = {name: Digester(name) for name in ("sha256", "sm3")}
    rows, entries = [], []
    for number, (kind, payload, audience) in enumerate(_payloads(signer)):
        builder = EntryBuilder(
            kind, 1, BEGIN + timedelta(minutes=number), "terminal/example", f"golden-{number + 1}", audience
        )
        entry = builder.build_bytes(payload.SerializeToString(deterministic=True))
        entries.append(entry)
        rows.append(
            {
                "kind": kind,
                "entry": entry.hex(),
                "leaf": {name: digester.leaf(entry).hex() for name, digester in digesters.items()},
                "payload": MessageToDict(payload, preserving_proto_field_name=True),
            }
        )
    held = json.loads(FILE.read_text(encoding="utf-8"))["entries"] if FILE.exists() else []
    if rows[: len(held)] != held:
        raise SystemExit(f"{FILE.name} holds other entries; add new ones after them")
    roots = {}
    for name, digester in digesters.items():
        frontier, _ = Frontier.from_bytes(0, b"").extend(digester, digester.leaves(entries))
        roots[name] = frontier.root(digester)
    signed = signer.sign(Checkpoint(log_name("weighing", ORIGIN), len(entries), roots["sha256"]))
    cosigned = cosigner.cosign(signed, int(BEGIN.timestamp()))
    golden = {
        "entries": rows,
        "root": {name: root.hex() for name, root in roots.items()},
        "checkpoint": cosigned.format(),
        "verifier_keys": {"origin": signer.verifier_key.format(), "upper": cosigner.verifier_key.format()},
        "cosign_time_seconds": int(BEGIN.timestamp()),
    }
    FILE.write_text(json.dumps(golden, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
