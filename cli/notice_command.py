"""`zhichao notice`: notices to platforms below, and those from above."""

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from cli.directive_options import (
    PAGE_SIZE,
    LocalTime,
    filter_message,
    issue_options,
    list_options,
    made_id,
    officer_message,
    respond_options,
    scope_number,
)
from cli.enforcement_reach import CALL_SECONDS_MAX, enforcement_service, reaching
from cli.help_text import CommandGroup
from cli.listing import every, first, show_list
from cli.service_reach import Reach

if TYPE_CHECKING:
    from zhichao.enforcement.v1 import service_pb2

KINDS: Final = ("bulletin", "instruction", "information")

# The first line keeps the others from being joined.
EXAMPLES: Final = """\b
zhichao notice issue --to 141025 --to 141024 --kind instruction \\
    --title 关于核查超限线索的督办 --body-file text.txt \\
    --deadline "2025-03-05 18:00"
zhichao notice list --direction received --standing open
zhichao notice acknowledge n-7 --issuer 141000 --officer 示例甲 --text 已传达
"""


@click.group("notice", cls=CommandGroup, epilog=EXAMPLES)
def notice() -> None:
    """Issue notices to platforms below, and acknowledge those from above.

    下发通报, 签收上级通报。

    Without --data or --enforcement, the one platform that runs here is meant (var/*), and its operator calls. Times are
    China Standard Time. 时间均为北京时间。
    """


@notice.command("issue")
@issue_options
@click.option("--kind", type=click.Choice(KINDS), default="information", show_default=True, help="Kind. 类型。")
@click.option("--title", required=True, help="Title. 标题。")
@click.option("--body", help="Text. 正文。")
@click.option("--body-file", type=click.File(encoding="utf-8"), help="File with the text; - reads it here. 正文文件。")
@click.option("--deadline", type=LocalTime(), help='Until when, as "2025-03-05 18:00". 签收时限。')
@reaching
def issue(
    directive_id: str,
    audiences: tuple[str, ...],
    highest_only: bool,
    allow_missing_platforms: bool,
    officer: str,
    phone: str,
    kind: str,
    title: str,
    body: str | None,
    body_file: TextIO | None,
    deadline: datetime | None,
    reach: Reach,
    as_json: bool,
) -> None:
    """Issue a notice to divisions below. Repeated with the same --id it is issued once.

    向下级下发通报; 使用相同 --id 重复执行只下发一次。
    """
    from zhichao.enforcement.v1 import notice_pb2, service_pb2

    made = notice_pb2.Notice(
        notice_id=directive_id or made_id("n"),
        kind=notice_pb2.NoticeKind.Value(f"NOTICE_KIND_{kind.upper()}"),
        title=title,
        body=_text(body, body_file),
        audiences=audiences,
        recipient_scope=scope_number(highest_only=highest_only),
        officer=officer_message(officer, phone),
    )
    if deadline is not None:
        made.deadline_time.FromDatetime(deadline)
    request = service_pb2.IssueNoticeRequest(notice=made, allow_missing_platforms=allow_missing_platforms)
    with enforcement_service(reach, repeat_with=f"--id {made.notice_id}") as stub:
        _show(stub.IssueNotice(request, timeout=CALL_SECONDS_MAX).held_notice, as_json=as_json)


@notice.command("list")
@list_options
@click.option("--kind", type=click.Choice(KINDS), help="Only of this kind. 仅此类型。")
@reaching
def list_notices(
    direction: str | None,
    standing: str | None,
    issuer: str,
    division: str,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    kind: str | None,
    reach: Reach,
    as_json: bool,
) -> None:
    """List notices, the newest first.

    列出通报, 最新在前。
    """
    from cli.directive_display import as_document, notice_table
    from zhichao.enforcement.v1 import notice_pb2, service_pb2

    request = service_pb2.ListNoticesRequest(
        filter=filter_message(direction, standing, issuer, since, until),
        division_code=division,
        kind=notice_pb2.NoticeKind.Value(f"NOTICE_KIND_{(kind or 'unspecified').upper()}"),
        page_size=PAGE_SIZE,
    )
    with enforcement_service(reach) as stub:
        found, has_more = first(stub.ListNotices, request, "held_notices", limit, CALL_SECONDS_MAX)
    show_list(
        "notices",
        found,
        as_document,
        notice_table(found),
        "no notices 无通报",
        limit=limit,
        has_more=has_more,
        as_json=as_json,
    )


@notice.command("show")
@click.argument("notice_id", metavar="ID")
@click.option("--issuer", default="", metavar="CODE", help="Platform that issued it, if not this one. 下发平台。")
@click.option("--division", default="", metavar="CODE", help="Only recipients there. 仅此区划内的对象。")
@reaching
def show(notice_id: str, issuer: str, division: str, reach: Reach, as_json: bool) -> None:
    """Show one notice and what each recipient made of it.

    查看通报及各对象签收情况。
    """
    from cli.directive_display import as_document, notice_facts, notice_recipient_table
    from cli.terminal import Console
    from zhichao.enforcement.v1 import service_pb2

    named = {"issuer": issuer, "notice_id": notice_id, "division_code": division}
    request = service_pb2.ListNoticeRecipientsRequest(**named, page_size=PAGE_SIZE)
    with enforcement_service(reach) as stub:
        held = stub.GetNotice(service_pb2.GetNoticeRequest(**named), timeout=CALL_SECONDS_MAX).held_notice
        recipients = list(every(stub.ListNoticeRecipients, request, "recipients", CALL_SECONDS_MAX))
    if as_json:
        document: dict[str, Any] = {**as_document(held), "recipients": [as_document(one) for one in recipients]}
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        Console().print(notice_facts(held))
        if recipients:
            Console().print(notice_recipient_table(recipients))


@notice.command("acknowledge")
@click.argument("notice_id", metavar="ID")
@respond_options
@click.option("--text", default="", help="What is said to it. 签收意见。")
@reaching
def acknowledge(notice_id: str, issuer: str, officer: str, phone: str, text: str, reach: Reach, as_json: bool) -> None:
    """Acknowledge a notice for this platform. The first acknowledgement counts.

    签收通报, 以首次签收为准。
    """
    from cli.directive_display import as_document, notice_recipient_table
    from cli.terminal import Console
    from zhichao.enforcement.v1 import service_pb2

    request = service_pb2.AcknowledgeNoticeRequest(
        issuer=issuer, notice_id=notice_id, text=text.strip(), officer=officer_message(officer, phone)
    )
    with enforcement_service(reach) as stub:
        answer = stub.AcknowledgeNotice(request, timeout=CALL_SECONDS_MAX)
    if as_json:
        click.echo(json.dumps(as_document(answer), ensure_ascii=False))
        return
    if answer.is_acknowledged_before:
        click.echo("acknowledged before; this one is not kept 此前已签收, 以首次为准")
    Console().print(notice_recipient_table([answer.recipient]))


@notice.command("withdraw")
@click.argument("notice_id", metavar="ID")
@click.option("--reason", required=True, help="Why; the recipients read it. 撤回原因。")
@reaching
def withdraw(notice_id: str, reason: str, reach: Reach, as_json: bool) -> None:
    """Take back a notice of this platform. May be repeated.

    撤回本平台下发的通报。
    """
    from zhichao.enforcement.v1 import service_pb2

    request = service_pb2.WithdrawNoticeRequest(notice_id=notice_id, reason=reason)
    with enforcement_service(reach) as stub:
        _show(stub.WithdrawNotice(request, timeout=CALL_SECONDS_MAX).held_notice, as_json=as_json)


def _text(body: str | None, body_file: TextIO | None) -> str:
    if (body is None) == (body_file is None):
        raise click.UsageError("give the text with --body or --body-file 请用 --body 或 --body-file 指定正文")
    try:
        text = body if body is not None else body_file.read() if body_file is not None else ""
    except UnicodeDecodeError as error:
        raise click.UsageError(f"--body-file: is not UTF-8 ({error.reason}) 正文文件不是 UTF-8 编码") from error
    # Files of Windows end lines otherwise, and every file ends with a line.
    return text.replace("\r\n", "\n").lstrip("\ufeff").strip()


def _show(held: "service_pb2.HeldNotice", *, as_json: bool) -> None:
    from cli.directive_display import as_document, notice_facts
    from cli.terminal import Console

    if as_json:
        click.echo(json.dumps(as_document(held), ensure_ascii=False))
    else:
        Console().print(notice_facts(held))
