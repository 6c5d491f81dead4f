"""`zhichao evidence`: photos, clips and documents: find them, upload, play and keep them, and prove them to others."""

import json
from datetime import date, datetime
from typing import TYPE_CHECKING, Final

import click

from cli.directive_options import LocalTime
from cli.evidence_bundle_command import export_, verify_
from cli.evidence_bytes_command import download, fetch, play, upload
from cli.evidence_custody_command import custody, extend, hold, release
from cli.evidence_options import (
    BYTES_STATES,
    KINDS,
    LIMIT,
    NAME,
    ORIGIN,
    PAGE_SIZE,
    UNIT,
    DayType,
    RecordNameType,
)
from cli.evidence_reach import CALL_SECONDS_MAX, reaching, video_service
from cli.evidence_store_command import store
from cli.help_text import CommandGroup
from cli.listing import first, show_list
from cli.service_reach import Reach

if TYPE_CHECKING:
    from zhichao.video.v1 import evidence_pb2

RECORDING_STATES: Final = ("recording", "not-recording", "blind", "unreachable", "declared-outage")

# The first line keeps the others from being joined.
EXAMPLES: Final = """\b
zhichao evidence upload photo.jpg --unit 141025-S1-001 --record R-7 \\
    --taken "2025-03-05 18:00" --view side --camera C1
zhichao evidence list --weighing 141025-S1-001/R-7
zhichao evidence play 141025/141025-S1-001/e-7 --purpose 复核
zhichao evidence fetch 141025/141025-S1-001/e-7 --purpose 复核 --wait 60
zhichao evidence export 141025-S1-001/R-7 --out R-7.zip --purpose 移送
zhichao evidence verify R-7.zip
"""


@click.group("evidence", cls=CommandGroup, epilog=EXAMPLES)
def evidence() -> None:
    """Find evidence, upload, play and keep it, and prove it to others.

    证据的查询、上传、播放、保全与导出核验。

    Evidence is named UNIT/ID, that of another platform PLATFORM/UNIT/ID. Whoever looks at bytes says why; that stays
    in the custody of the evidence. Without --data or --video, the one platform that runs here is meant (var/*), and its
    operator calls. Times are China Standard Time. 时间均为北京时间。
    """


@evidence.command("list")
@click.option("--weighing", type=RecordNameType(), metavar="UNIT/RECORD", help="Only what proves it. 仅证明此称重。")
@click.option("--acceptance", type=RecordNameType(), metavar="UNIT/ID", help="Only what proves it. 仅证明此次验收。")
@ORIGIN
@UNIT
@click.option("--camera", "camera_id", default="", metavar="ID", help="Only of this camera. 仅此相机。")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="Only this kind. 仅此类型。")
@click.option(
    "--bytes",
    "states",
    multiple=True,
    type=click.Choice(list(BYTES_STATES)),
    help="Only with its bytes there. 仅原始字节处于此状态。",
)
@click.option("--on-hold", is_flag=True, help="Only under a legal hold. 仅已保全。")
@click.option("--since", type=LocalTime(), help="Taken then or later. 起始拍摄时间。")
@click.option("--until", type=LocalTime(), help="Taken before then. 截止拍摄时间(不含)。")
@LIMIT
@reaching
def list_(
    weighing: tuple[str, str] | None,
    acceptance: tuple[str, str] | None,
    origin: str,
    source_unit_id: str,
    camera_id: str,
    kinds: tuple[str, ...],
    states: tuple[str, ...],
    on_hold: bool,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    reach: Reach,
    as_json: bool,
) -> None:
    """List evidence, what was taken last first.

    列出证据, 最新拍摄在前。
    """
    from cli.evidence_display import as_document, evidence_table
    from zhichao.video.v1 import evidence_pb2
    from zhichao.video.v1 import service_pb2 as pb

    units = {one[0] for one in (weighing, acceptance) if one is not None} | ({source_unit_id} - {""})
    if len(units) > 1:
        raise click.UsageError("--weighing, --acceptance and --unit name different source units 源头单位不一致")
    narrow = pb.EvidenceFilter(
        origin=origin,
        source_unit_id=next(iter(units), ""),
        record_id=weighing[1] if weighing else "",
        acceptance_id=acceptance[1] if acceptance else "",
        camera_id=camera_id,
        kinds=[evidence_pb2.EvidenceKind.Value(f"EVIDENCE_KIND_{one.upper()}") for one in kinds],
        bytes_states=[pb.BytesState.Value(f"BYTES_STATE_{one.upper()}") for one in states],
        is_held=on_hold,
    )
    if since is not None:
        narrow.start_time.FromDatetime(since)
    if until is not None:
        narrow.end_time.FromDatetime(until)
    request = pb.ListEvidenceRequest(filter=narrow, page_size=PAGE_SIZE)
    with video_service(reach) as stub:
        found, has_more = first(stub.ListEvidence, request, "held_evidence", limit, CALL_SECONDS_MAX)
    show_list(
        "evidence",
        found,
        as_document,
        evidence_table(found),
        "no evidence 无证据",
        limit=limit,
        has_more=has_more,
        as_json=as_json,
    )


@evidence.command("show")
@NAME
@reaching
def show(name: "evidence_pb2.EvidenceName", reach: Reach, as_json: bool) -> None:
    """Show one manifest, where its bytes are, and its holds.

    查看证据清单、原始字节所在及保全情况。
    """
    from cli.evidence_display import as_document, evidence_facts
    from cli.terminal import Console
    from zhichao.video.v1 import service_pb2 as pb

    with video_service(reach) as stub:
        held = stub.GetEvidence(pb.GetEvidenceRequest(name=name), timeout=CALL_SECONDS_MAX).held_evidence
    if as_json:
        click.echo(json.dumps(as_document(held), ensure_ascii=False))
    else:
        Console().print(evidence_facts(held))


@evidence.command("missing")
@ORIGIN
@UNIT
@click.option("--since", type=LocalTime(), help="Weighed then or later. 起始称重时间。")
@click.option("--lost", "includes_lost", is_flag=True, help="Also what no site holds any more. 包括现场已无录像的。")
@LIMIT
@reaching
def missing(
    origin: str,
    source_unit_id: str,
    since: datetime | None,
    includes_lost: bool,
    limit: int,
    reach: Reach,
    as_json: bool,
) -> None:
    """List suspected overloads without a clip or photo, what is lost first at the site first.

    列出缺少视频或照片的疑似超限, 现场录像最先到期的在前。
    """
    from cli.evidence_display import missing_table, plain_document
    from zhichao.video.v1 import service_pb2 as pb

    request = pb.ListMissingEvidenceRequest(
        origin=origin, source_unit_id=source_unit_id, includes_lost=includes_lost, page_size=PAGE_SIZE
    )
    if since is not None:
        request.start_time.FromDatetime(since)
    with video_service(reach) as stub:
        found, has_more = first(stub.ListMissingEvidence, request, "missing", limit, CALL_SECONDS_MAX)
    show_list(
        "missing",
        found,
        plain_document,
        missing_table(found),
        "nothing is missing 无缺失",
        limit=limit,
        has_more=has_more,
        as_json=as_json,
    )


@evidence.command("completeness")
@ORIGIN
@UNIT
@click.option("--from", "first_day", type=DayType(), metavar="DAY", help="First day. 起始日期。")
@click.option("--to", "last_day", type=DayType(), metavar="DAY", help="Last day. 截止日期。")
@LIMIT
@reaching
def completeness(
    origin: str,
    source_unit_id: str,
    first_day: date | None,
    last_day: date | None,
    limit: int,
    reach: Reach,
    as_json: bool,
) -> None:
    """Show by unit and day how many suspected overloads can be proven.

    按单位和日期统计疑似超限的证据完整率。
    """
    from cli.evidence_display import completeness_table, plain_document
    from zhichao.video.v1 import service_pb2 as pb

    request = pb.ListCompletenessRequest(
        origin=origin,
        source_unit_id=source_unit_id,
        start_date=first_day.isoformat() if first_day else "",
        end_date=last_day.isoformat() if last_day else "",
        page_size=PAGE_SIZE,
    )
    in_time_minutes = 0

    def page(asked: pb.ListCompletenessRequest, timeout: float) -> pb.ListCompletenessResponse:
        nonlocal in_time_minutes
        answer = stub.ListCompleteness(asked, timeout=timeout)
        in_time_minutes = answer.in_time_minutes
        return answer

    with video_service(reach) as stub:
        found, has_more = first(page, request, "completeness", limit, CALL_SECONDS_MAX)
    show_list(
        "completeness",
        found,
        plain_document,
        completeness_table(found, in_time_minutes),
        "no suspected overloads 无疑似超限",
        limit=limit,
        has_more=has_more,
        as_json=as_json,
    )


@evidence.command("cameras")
@ORIGIN
@UNIT
@click.option("--state", "states", multiple=True, type=click.Choice(RECORDING_STATES), help="Only these. 仅此状态。")
@LIMIT
@reaching
def cameras(origin: str, source_unit_id: str, states: tuple[str, ...], limit: int, reach: Reach, as_json: bool) -> None:
    """List cameras with what was last said of their recording.

    列出相机及其录像状态。
    """
    from cli.evidence_display import camera_table, plain_document
    from zhichao.video.v1 import camera_pb2
    from zhichao.video.v1 import service_pb2 as pb

    request = pb.ListCamerasRequest(
        origin=origin,
        source_unit_id=source_unit_id,
        states=[camera_pb2.RecordingState.Value(f"RECORDING_STATE_{one.upper().replace('-', '_')}") for one in states],
        page_size=PAGE_SIZE,
    )
    with video_service(reach) as stub:
        found, has_more = first(stub.ListCameras, request, "held_cameras", limit, CALL_SECONDS_MAX)
    show_list(
        "cameras",
        found,
        plain_document,
        camera_table(found),
        "no cameras 无相机",
        limit=limit,
        has_more=has_more,
        as_json=as_json,
    )


for _command in (upload, play, download, fetch, hold, release, extend, custody, export_, verify_, store):
    evidence.add_command(_command)
