"""`zhichao evidence hold`, `release`, `extend` and `custody`: what is kept longer, and what was done with evidence."""

import json
from datetime import datetime
from typing import TYPE_CHECKING

import click

from cli.directive_options import LocalTime, made_id
from cli.evidence_options import LIMIT, NAME, PAGE_SIZE, PURPOSE
from cli.evidence_reach import CALL_SECONDS_MAX, reaching, video_service
from cli.listing import first, show_list
from cli.service_reach import Reach

if TYPE_CHECKING:
    from zhichao.video.v1 import evidence_pb2
    from zhichao.video.v1 import service_pb2 as pb


@click.command("hold")
@NAME
@click.option("--id", "hold_id", default="", metavar="ID", help="Its id, one for many pieces; made if none. 保全编号。")
@PURPOSE
@reaching
def hold(name: "evidence_pb2.EvidenceName", hold_id: str, purpose: str, reach: Reach, as_json: bool) -> None:
    """Place a legal hold: it is kept whatever its retention says. May be repeated with the same --id.

    设置保全, 解除前不删除; 可用相同 --id 重复执行。
    """
    from zhichao.video.v1 import service_pb2 as pb

    request = pb.PlaceLegalHoldRequest(name=name, hold_id=hold_id or made_id("h"), purpose=purpose)
    with video_service(reach) as stub:
        held = stub.PlaceLegalHold(request, timeout=CALL_SECONDS_MAX).held_evidence
    _show(held, as_json=as_json)


@click.command("release")
@NAME
@click.option("--id", "hold_id", required=True, metavar="ID", help="Id of the hold. 保全编号。")
@PURPOSE
@reaching
def release(name: "evidence_pb2.EvidenceName", hold_id: str, purpose: str, reach: Reach, as_json: bool) -> None:
    """Release a legal hold of this platform. Others may stand.

    解除本平台设置的一项保全, 其他保全不受影响。
    """
    from zhichao.video.v1 import service_pb2 as pb

    request = pb.ReleaseLegalHoldRequest(name=name, hold_id=hold_id, purpose=purpose)
    with video_service(reach) as stub:
        held = stub.ReleaseLegalHold(request, timeout=CALL_SECONDS_MAX).held_evidence
    _show(held, as_json=as_json)


@click.command("extend")
@NAME
@click.option("--until", type=LocalTime(), required=True, metavar="TIME", help="Kept at least until then. 至少保存至。")
@PURPOSE
@reaching
def extend(name: "evidence_pb2.EvidenceName", until: datetime, purpose: str, reach: Reach, as_json: bool) -> None:
    """Keep evidence longer. A time once set is never shortened.

    延长保存期限, 只能延长, 不能缩短。
    """
    from zhichao.video.v1 import service_pb2 as pb

    request = pb.ExtendRetentionRequest(name=name, purpose=purpose)
    request.retain_until_time.FromDatetime(until)
    with video_service(reach) as stub:
        held = stub.ExtendRetention(request, timeout=CALL_SECONDS_MAX).held_evidence
    _show(held, as_json=as_json)


@click.command("custody")
@NAME
@LIMIT
@reaching
def custody(name: "evidence_pb2.EvidenceName", limit: int, reach: Reach, as_json: bool) -> None:
    """List what was done with evidence: by whom, when and why.

    列出证据的保管记录: 何人、何时、为何。
    """
    from cli.evidence_display import custody_document, custody_table
    from zhichao.video.v1 import service_pb2 as pb

    request = pb.ListCustodyRequest(name=name, page_size=PAGE_SIZE)
    with video_service(reach) as stub:
        found, has_more = first(stub.ListCustody, request, "held_events", limit, CALL_SECONDS_MAX)
    show_list(
        "custody",
        found,
        custody_document,
        custody_table(found),
        "nothing was done with it 无保管记录",
        limit=limit,
        has_more=has_more,
        as_json=as_json,
    )


def _show(held: "pb.HeldEvidence", *, as_json: bool) -> None:
    from cli.evidence_display import as_document, evidence_facts
    from cli.terminal import Console

    if as_json:
        click.echo(json.dumps(as_document(held), ensure_ascii=False))
    else:
        Console().print(evidence_facts(held))
