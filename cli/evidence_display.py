"""What `zhichao evidence` shows: tables in English and Chinese, times in China Standard Time."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich import box
from rich.table import Table
from rich.text import Text

from cli.directive_display import CAPTION, local_time
from cli.enum_words import word, words
from cli.evidence_options import BYTES_STATES, KINDS, VIEWS, full_name
from zhichao.video.v1 import camera_pb2, custody_pb2, evidence_pb2
from zhichao.video.v1 import service_pb2 as pb

_ACTIONS: Final = {
    "viewed": "查看",
    "downloaded": "下载",
    "exported": "导出",
    "shared": "分享",
    "hold-placed": "保全",
    "hold-released": "解除保全",
    "retention-extended": "延长保存",
    "requested": "调取",
    "received": "接收",
    "deleted": "到期删除",
    "found-missing": "发现缺失",
    "found-changed": "发现损坏",
    "restored": "恢复",
}
_FLAGS: Final = {
    "clock-ahead": "时钟超前",
    "late": "迟报",
    "duration-differs": "时长不符",
    "device-time-differs": "设备时间不符",
    "small-picture": "像素不足",
}
_RECORDING: Final = {
    "recording": ("录像中", "green"),
    "not-recording": ("未录像", "bold red"),
    "blind": ("画面异常", "bold red"),
    "unreachable": ("离线", "red"),
    "declared-outage": ("报停", "yellow"),
}
_STATE_STYLES: Final = {
    pb.BYTES_STATE_HELD: "green",
    pb.BYTES_STATE_WANTED: "yellow",
    pb.BYTES_STATE_DAMAGED: "bold red",
}


def as_document(held: pb.HeldEvidence) -> dict[str, Any]:
    """Return evidence as JSON shows it: digests in hexadecimal, with the name that commands take."""
    document = _plain(held)
    evidence = held.evidence
    document["name"] = full_name(held.origin, evidence.source_unit_id, evidence.evidence_id)
    document["leaf_digest"] = held.leaf_digest.hex()
    if "evidence" in document:
        document["evidence"]["digest"] = evidence.digest.hex()
    return document


def custody_document(held: pb.HeldCustodyEvent) -> dict[str, Any]:
    """Return a custody event as JSON shows it."""
    document = _plain(held)
    if "event" in document:
        document["event"]["digest"] = held.event.digest.hex()
    return document


def plain_document(message: Message) -> dict[str, Any]:
    """Return a message without digests as JSON shows it."""
    return _plain(message)


def evidence_table(held: Sequence[pb.HeldEvidence]) -> Table:
    """Make the table of evidence."""
    table = _table(
        "Name\n名称", "Kind, view\n类型、视角", "Taken\n拍摄时间", "Size\n大小", "Bytes\n原始字节", "Proves\n证明对象"
    )
    for one in held:
        evidence = one.evidence
        table.add_row(
            full_name(one.origin, evidence.source_unit_id, evidence.evidence_id),
            _lines(kind(evidence.kind), view(evidence.view)),
            local_time(evidence, "capture_start_time"),
            size_text(evidence.size_bytes),
            bytes_state(one),
            _lines(*(_subject(subject) for subject in evidence.subjects)),
        )
    return table


def evidence_facts(held: pb.HeldEvidence) -> Table:
    """Make the description of one piece of evidence."""
    evidence, media = held.evidence, held.evidence.media
    rows: list[tuple[str, str | Text]] = [
        ("Name 名称", full_name(held.origin, evidence.source_unit_id, evidence.evidence_id)),
        ("Kind 类型", f"{kind(evidence.kind)}, {evidence.content_type}"),
        ("Camera 相机", f"{evidence.camera_id or '-'} {view(evidence.view)}".rstrip()),
        ("Taken 拍摄时间", local_time(evidence, "capture_start_time")),
        ("Until 至", local_time(evidence, "capture_end_time")),
        ("Picture 画面", _picture(media)),
        ("Proves 证明对象", _lines(*(_subject(subject) for subject in evidence.subjects))),
        ("Size 大小", f"{evidence.size_bytes:,} bytes"),
        ("SHA-256", evidence.digest.hex()),
        ("Bytes 原始字节", bytes_state(held)),
        ("Sealed 封存时间", f"{local_time(evidence, 'seal_time')} {evidence.actor}".rstrip()),
        ("Entry 日志条目", f"{held.origin}:{held.sequence}, leaf {held.leaf_digest.hex()}"),
        ("Kept until 保存至", f"{local_time(held, 'retain_until_time')} ({evidence.retention_class})"),
    ]
    rows += [
        (
            "Hold 保全",
            f"{hold.hold_id} {hold.platform_code} {local_time(hold, 'place_time')} {hold.actor}: {hold.purpose}",
        )
        for hold in held.holds
    ]
    if evidence.flags:
        doubts = [words(evidence_pb2.EvidenceFlag.DESCRIPTOR, flag, _FLAGS) for flag in evidence.flags]
        rows.append(("Doubtful 存疑", Text(", ".join(doubts), "yellow")))
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def custody_table(held: Iterable[pb.HeldCustodyEvent]) -> Table:
    """Make the table of custody events."""
    table = _table(
        "When\n时间", "Platform\n平台", "Action\n操作", "Who\n操作人", "Why\n目的", "Reference, until\n编号、至"
    )
    for one in held:
        event = one.event
        until = local_time(event, "until_time") if event.HasField("until_time") else ""
        table.add_row(
            local_time(event, "event_time"),
            f"{one.origin}:{one.sequence}",
            words(custody_pb2.CustodyAction.DESCRIPTOR, event.action, _ACTIONS),
            event.actor,
            event.purpose,
            _lines(*(part for part in (event.reference_id, until) if part)),
        )
    return table


def camera_table(held: Sequence[pb.HeldCamera]) -> Table:
    """Make the table of cameras."""
    table = _table(
        "Platform\n平台",
        "Unit\n源头单位",
        "Camera\n相机",
        "State\n状态",
        "Since\n起始",
        "Holds since\n最早录像",
        "Reported\n上报",
    )
    for one in held:
        report = one.report
        state = word(camera_pb2.RecordingState.DESCRIPTOR, report.state)
        chinese, style = _RECORDING.get(state, ("", ""))
        table.add_row(
            one.origin,
            report.source_unit_id,
            _lines(report.camera_id, view(report.view)),
            Text(f"{state or report.state} {chinese}".rstrip(), style),
            local_time(report, "state_time"),
            local_time(report, "oldest_recording_time"),
            local_time(report, "receive_time"),
        )
    return table


def completeness_table(found: Sequence[pb.Completeness], in_time_minutes: int) -> Table:
    """Make the table of completeness."""
    table = _table(
        "Day\n日期",
        "Platform\n平台",
        "Unit\n源头单位",
        "Suspected\n疑似超限",
        "With clip\n有视频",
        f"Within {in_time_minutes} min\n按时",
        "With photo\n有照片",
    )
    for one in found:
        total = one.suspected_count
        counts = (one.with_clip_count, one.with_clip_in_time_count, one.with_photo_count)
        table.add_row(
            one.date, one.origin, one.source_unit_id, f"{total:,}", *(_share(count, total) for count in counts)
        )
    return table


def missing_table(found: Sequence[pb.MissingEvidence]) -> Table:
    """Make the table of what is missing."""
    table = _table(
        "Weighed\n称重时间", "Platform\n平台", "Weighing\n称重", "Lacks\n缺", "Site holds it until\n现场录像保留至"
    )
    for one in found:
        lacking = [
            f"{name} (another time 时间不符)" if is_there else name
            for name, lacks, is_there in (
                ("clip 视频", one.lacks_clip, one.has_clip_of_other_time),
                ("photo 照片", one.lacks_photo, one.has_photo_of_other_time),
            )
            if lacks
        ]
        is_there = one.HasField("recording_until_time")
        table.add_row(
            local_time(one, "weigh_time"),
            one.origin,
            f"{one.source_unit_id}/{one.record_id}",
            ", ".join(lacking),
            local_time(one, "recording_until_time") if is_there else Text("lost 已无", "bold red"),
        )
    return table


def kind(number: int) -> str:
    """Return the words of a kind."""
    return words(evidence_pb2.EvidenceKind.DESCRIPTOR, number, KINDS)


def view(number: int) -> str:
    """Return the words of a view; empty when it is not known."""
    if not number:
        return ""
    return words(evidence_pb2.CameraView.DESCRIPTOR, number, VIEWS)


def bytes_state(held: pb.HeldEvidence) -> Text:
    """Return where the bytes are, and how many have come of those on their way."""
    told = words(pb.BytesState.DESCRIPTOR, held.bytes_state, BYTES_STATES)
    if held.bytes_state == pb.BYTES_STATE_WANTED and held.evidence.size_bytes:
        told += f" {held.received_bytes * 100 // held.evidence.size_bytes} %"
    return Text(told, _STATE_STYLES.get(held.bytes_state, ""))


def size_text(count: int) -> str:
    """Write a number of bytes for a person."""
    if count < 10_000:
        return f"{count:,} B"
    return f"{count / 1_000:,.0f} kB" if count < 10_000_000 else f"{count / 1_000_000:,.1f} MB"


def _plain(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True)


def _subject(subject: evidence_pb2.Subject) -> str:
    if subject.WhichOneof("subject") == "acceptance_id":
        return f"acceptance 验收 {subject.acceptance_id}"
    return subject.record_id


def _picture(media: evidence_pb2.MediaFacts) -> str:
    parts = []
    if media.HasField("width_px"):
        parts.append(f"{media.width_px} × {media.height_px}")
    if media.HasField("duration_milliseconds"):
        parts.append(f"{media.duration_milliseconds / 1000:.1f} s {media.video_codec}".rstrip())
    if media.HasField("page_count"):
        parts.append(f"{media.page_count} pages 页")
    return ", ".join(parts) or "-"


def _share(count: int, total: int) -> Text:
    percent = f" {count * 100 // total} %" if total else ""
    return Text(f"{count:,}{percent}", "green" if count == total else "yellow")


def _lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part) or "-"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=CAPTION, caption_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table
