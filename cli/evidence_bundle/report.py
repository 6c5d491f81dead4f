"""What a check of a bundle has found, for a person and for a program."""

from datetime import UTC, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from cli.evidence_bundle.check import BundleCheck, LogFacts
from cli.evidence_bundle.contents import UNSHOWN, Contents
from cli.evidence_bundle.index import Index
from zhichao.video.v1 import evidence_pb2
from zhichao.weighing.v1 import weighing_pb2

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_CHINA_TIME: Final = timezone(timedelta(hours=8))

_VERDICTS: Final = {
    weighing_pb2.VERDICT_COMPLIANT: "compliant 合规",
    weighing_pb2.VERDICT_UNDETERMINED: "undetermined 无法判定",
    weighing_pb2.VERDICT_SUSPECTED: "suspected overload 疑似超限",
    weighing_pb2.VERDICT_NOT_JUDGED: "not judged 未判定",
}
_KINDS: Final = {
    evidence_pb2.EVIDENCE_KIND_PHOTO: "photo 照片",
    evidence_pb2.EVIDENCE_KIND_CLIP: "clip 视频",
    evidence_pb2.EVIDENCE_KIND_DOCUMENT: "document 文书",
}
_ACTIONS: Final = {
    "VIEWED": "查看",
    "DOWNLOADED": "下载",
    "EXPORTED": "导出",
    "SHARED": "分享",
    "HOLD_PLACED": "保全",
    "HOLD_RELEASED": "解除保全",
    "RETENTION_EXTENDED": "延长保存",
    "REQUESTED": "调取",
    "RECEIVED": "接收",
    "DELETED": "到期删除",
    "FOUND_MISSING": "发现缺失",
    "FOUND_CHANGED": "发现损坏",
    "RESTORED": "恢复",
}
_PINNED: Final = "the key given 与指定公钥一致"
_NOT_PINNED: Final = "key as in the bundle: compare it with the published one 公钥取自证据包, 请与公布的公钥比对"


def check_document(path: Path, check: BundleCheck) -> dict[str, Any]:
    """Return the result as it is printed in JSON."""
    contents = check.contents
    return {
        "file": str(path),
        "form": "evidence-bundle",
        "is_right": check.is_right,
        "size_bytes": check.size,
        "file_count": check.file_count,
        "proof_count": check.proof_count,
        "bundle_id": check.index.bundle_id if check.index else None,
        "platform": check.index.platform if check.index else None,
        "weighing": _weighing_document(contents),
        "rule_set_is_proven": contents.rule_set_is_proven,
        "evidence": [
            {
                "origin": one.origin,
                "source_unit_id": one.evidence.source_unit_id,
                "evidence_id": one.evidence.evidence_id,
                "sha256": one.evidence.digest.hex(),
                "size_bytes": one.evidence.size_bytes,
                "content_type": one.evidence.content_type,
                "bytes_state": one.bytes_state,
            }
            for one in contents.evidence
        ],
        "evidence_left_out": check.index.evidence_left_out if check.index else 0,
        "custody_count": len(contents.custody),
        "custody_unproven_count": len(contents.custody_unproven),
        "custody_left_out": {one.action: one.count for one in check.index.custody_left_out} if check.index else {},
        "logs": [
            {
                "name": log.name,
                "size": log.size,
                "entry_count": log.entry_count,
                "verifier_key": log.verifier_key,
                "is_key_given": log.is_pinned,
                "cosigners": log.cosigners,
                "cosigners_with_key_given": sorted(log.pinned_cosigners),
                "cosigner_keys": sorted(log.cosigner_keys),
            }
            for log in check.logs
        ],
        "findings": [{"place": one.place, "detail": one.detail} for one in check.findings],
    }


def _weighing_document(contents: Contents) -> dict[str, Any] | None:
    if contents.weighing is None:
        return None
    try:
        said = MessageToDict(contents.weighing, preserving_proto_field_name=True)
    except UNSHOWN:
        # That it has no readable form is among the findings.
        return None
    return {"origin": contents.weighing_origin, "sequence": contents.weighing_sequence, **said}


def show_check(console: "Console", path: Path, check: BundleCheck) -> None:
    """Print the result."""
    from rich.text import Text

    if check.contents.weighing is not None:
        console.print(_facts(check))
    if check.contents.evidence:
        console.print(_evidence_table(check))
    for log in check.logs:
        _show_log(console, log)
    if check.logs:
        _show_keys(console, check)
    for finding in check.findings:
        console.print(Text(f"{finding.place}: {finding.detail}", "red"), soft_wrap=True)
    style = "bold green" if check.is_right else "bold red"
    console.print(Text(_conclusion(path, check), style), soft_wrap=True)


def _facts(check: BundleCheck) -> "Table":
    from rich.table import Table

    contents = check.contents
    weighing = contents.weighing
    assert weighing is not None  # noqa: S101 - asked by the only caller
    record, judgement = weighing.record, weighing.judgement
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, value: str) -> None:
        table.add_row(name, value)

    row("Weighing 称重", f"{record.source_unit_id} {record.record_id}")
    row("Place 位置", f"{contents.weighing_origin}:{contents.weighing_sequence}")
    row("Weighed 称重时间", _local(record.weigh_time))
    row("Plate 号牌", weighing.plate_number or "none 无牌")
    row("Gross 毛重", f"{record.gross_weight_kg:,} kg")
    excess = f", excess 超限 {judgement.excess_kg:,} kg" if judgement.excess_kg else ""
    row("Verdict 判定", f"{_VERDICTS.get(judgement.verdict, str(judgement.verdict))}{excess}")
    if judgement.rule_set_id:
        how = (
            "proven 已证明" if contents.rule_set_is_proven else "as the platform gave it, not proven 平台提供, 未附证明"
        )
        row("Rule set 规则集", f"{judgement.rule_set_id} v{judgement.rule_set_version} ({how})")
    row("Certificate 检定证书", judgement.certificate_number or "none 无")
    if contents.export is not None:
        export = contents.export
        row("Exported 导出", f"{_local(export.event_time)} {export.actor}: {export.purpose}")
    unproven = len(contents.custody_unproven)
    told = (
        f", and {unproven:,} of platforms above, not proven 另有上级记录 {unproven:,} 条, 未附证明" if unproven else ""
    )
    row("Custody 保管记录", f"{len(contents.custody):,} events 条{told}")
    if check.index is not None and (left_out := left_out_words(check.index)):
        row("Left out 未收录", left_out)
    return table


def left_out_words(index: Index) -> str:
    """Return what the exporter says that the bundle does not hold; empty for nothing."""
    told = []
    if index.evidence_left_out:
        told.append(f"{index.evidence_left_out:,} other pieces of evidence 另有证据 {index.evidence_left_out:,} 件")
    told += [
        f"{one.count:,} × {one.action.lower().replace('_', '-')} {_ACTIONS.get(one.action, '')}".rstrip()
        for one in index.custody_left_out
    ]
    return ", ".join(told)


def _evidence_table(check: BundleCheck) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("Evidence\n证据", "Kind\n类型", "Taken\n拍摄时间", "Bytes\n字节", "SHA-256"):
        table.add_column(name, overflow="fold")
    for one in check.contents.evidence:
        evidence = one.evidence
        held = f"{evidence.size_bytes:,}" if one.bytes_state == "HELD" else f"not here 不在包内 ({one.bytes_state})"
        table.add_row(
            evidence.evidence_id,
            _KINDS.get(evidence.kind, str(evidence.kind)),
            _local(evidence.capture_start_time) if evidence.HasField("capture_start_time") else "-",
            held,
            evidence.digest.hex(),
        )
    return table


def _show_log(console: "Console", log: LogFacts) -> None:
    from rich.text import Text

    console.print(
        Text(f"{log.name}: {log.entry_count:,} entries proven 条已证明, log of 日志长度 {log.size:,}"), soft_wrap=True
    )
    told = {True: "valid 有效", False: "INVALID 无效", None: "key not known 公钥未知"}
    cosigned = ", ".join(f"{name} {told[is_valid]}" for name, is_valid in log.cosigners.items())
    console.print(Text(f"  cosigned 联署: {cosigned or 'by nobody 无'}"), soft_wrap=True)


def _show_keys(console: "Console", check: BundleCheck) -> None:
    """Print each key that signed or cosigned once, and whether it is one that was given."""
    from rich.text import Text

    console.print(Text("Keys that signed and cosigned 签名与联署公钥:"))
    keys = {log.verifier_key: log.is_pinned for log in check.logs if log.verifier_key}
    for log in check.logs:
        keys |= {key: key.partition("+")[0] in log.pinned_cosigners for key in log.cosigner_keys}
    for key, is_pinned in sorted(keys.items()):
        console.print(Text(f"  {key} ({_PINNED if is_pinned else _NOT_PINNED})"), soft_wrap=True)
    unknown = sorted({name for log in check.logs for name, is_valid in log.cosigners.items() if is_valid is None})
    if unknown:
        console.print(Text(f"  {', '.join(unknown)}: give the key with --key 请用 --key 指定公钥"), soft_wrap=True)


def _conclusion(path: Path, check: BundleCheck) -> str:
    if not check.is_right:
        return f"{path}: is not what was exported 与导出内容不符"
    missing = sum(one.bytes_state != "HELD" for one in check.contents.evidence)
    told = (
        f"{path}: as exported; {check.file_count:,} files, {check.proof_count:,} proofs and all signatures are right"
        f" 内容一致, {check.file_count:,} 个文件、{check.proof_count:,} 条证明及全部签名有效"
    )
    if missing:
        told += f"; the bytes of {missing} are not in it 其中 {missing} 件证据不含原始字节"
    return told


def _local(moment: Timestamp) -> str:
    try:
        return moment.ToDatetime(tzinfo=UTC).astimezone(_CHINA_TIME).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError):
        return "-"
