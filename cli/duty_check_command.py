"""`zhichao duty-check`: questions that the persons on duty below answer in time, and those from above."""

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from cli.directive_options import (
    PAGE_SIZE,
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

ANSWER_KINDS: Final = ("text", "number", "yes-no")

YES_NO: Final = {"是": "yes", "否": "no", "y": "yes", "n": "no"}
"""How people say it beside `yes` and `no`."""

# The first line keeps the others from being joined.
EXAMPLES: Final = """\b
zhichao duty-check issue --to 141025 --question 当前值班人员是谁 --minutes 10
zhichao duty-check list --direction received --standing open
zhichao duty-check answer dc-7 示例甲在岗 --issuer 141000 --officer 示例甲
"""


@click.group("duty-check", cls=CommandGroup, epilog=EXAMPLES)
def duty_check() -> None:
    """Ask the persons on duty below, and answer when asked from above.

    向下级查岗, 应答上级查岗。

    Without --data or --enforcement, the one platform that runs here is meant (var/*), and its operator calls. Times are
    China Standard Time. 时间均为北京时间。
    """


@duty_check.command("issue")
@issue_options
@click.option("--question", required=True, help="Question. 问题。")
@click.option(
    "--minutes", type=click.IntRange(1, 1_440), default=10, show_default=True, help="Time to answer. 应答时限, 分钟。"
)
@click.option(
    "--answer-kind",
    type=click.Choice(ANSWER_KINDS),
    default="text",
    show_default=True,
    help="Form of the answer. 应答形式。",
)
@reaching
def issue(
    directive_id: str,
    audiences: tuple[str, ...],
    highest_only: bool,
    allow_missing_platforms: bool,
    officer: str,
    phone: str,
    question: str,
    minutes: int,
    answer_kind: str,
    reach: Reach,
    as_json: bool,
) -> None:
    """Ask the persons on duty in divisions below. Repeated with the same --id it is asked once.

    向下级查岗; 使用相同 --id 重复执行只下发一次。
    """
    from zhichao.enforcement.v1 import duty_check_pb2, service_pb2

    made = duty_check_pb2.DutyCheck(
        duty_check_id=directive_id or made_id("dc"),
        question=question.strip(),
        answer_kind=duty_check_pb2.AnswerKind.Value(f"ANSWER_KIND_{answer_kind.upper().replace('-', '_')}"),
        answer_minutes=minutes,
        audiences=audiences,
        recipient_scope=scope_number(highest_only=highest_only),
        officer=officer_message(officer, phone),
    )
    request = service_pb2.IssueDutyCheckRequest(duty_check=made, allow_missing_platforms=allow_missing_platforms)
    with enforcement_service(reach, repeat_with=f"--id {made.duty_check_id}") as stub:
        _show(stub.IssueDutyCheck(request, timeout=CALL_SECONDS_MAX).held_duty_check, as_json=as_json)


@duty_check.command("list")
@list_options
@reaching
def list_duty_checks(
    direction: str | None,
    standing: str | None,
    issuer: str,
    division: str,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    reach: Reach,
    as_json: bool,
) -> None:
    """List duty checks, the newest first.

    列出查岗, 最新在前。
    """
    from cli.directive_display import as_document, duty_check_table
    from zhichao.enforcement.v1 import service_pb2

    request = service_pb2.ListDutyChecksRequest(
        filter=filter_message(direction, standing, issuer, since, until), division_code=division, page_size=PAGE_SIZE
    )
    with enforcement_service(reach) as stub:
        found, has_more = first(stub.ListDutyChecks, request, "held_duty_checks", limit, CALL_SECONDS_MAX)
    show_list(
        "duty_checks",
        found,
        as_document,
        duty_check_table(found),
        "no duty checks 无查岗",
        limit=limit,
        has_more=has_more,
        as_json=as_json,
    )


@duty_check.command("show")
@click.argument("duty_check_id", metavar="ID")
@click.option("--issuer", default="", metavar="CODE", help="Platform that issued it, if not this one. 下发平台。")
@click.option("--division", default="", metavar="CODE", help="Only recipients there. 仅此区划内的对象。")
@reaching
def show(duty_check_id: str, issuer: str, division: str, reach: Reach, as_json: bool) -> None:
    """Show one duty check and what each recipient answered.

    查看查岗及各对象应答情况。
    """
    from cli.directive_display import as_document, duty_check_facts, duty_check_recipient_table
    from cli.terminal import Console
    from zhichao.enforcement.v1 import service_pb2

    named = {"issuer": issuer, "duty_check_id": duty_check_id, "division_code": division}
    request = service_pb2.ListDutyCheckRecipientsRequest(**named, page_size=PAGE_SIZE)
    with enforcement_service(reach) as stub:
        held = stub.GetDutyCheck(service_pb2.GetDutyCheckRequest(**named), timeout=CALL_SECONDS_MAX).held_duty_check
        recipients = list(every(stub.ListDutyCheckRecipients, request, "recipients", CALL_SECONDS_MAX))
    if as_json:
        document: dict[str, Any] = {**as_document(held), "recipients": [as_document(one) for one in recipients]}
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        Console().print(duty_check_facts(held))
        if recipients:
            Console().print(duty_check_recipient_table(recipients))


@duty_check.command("answer")
@click.argument("duty_check_id", metavar="ID")
@click.argument("answer_text", metavar="ANSWER")
@respond_options
@reaching
def answer_duty_check(
    duty_check_id: str, answer_text: str, issuer: str, officer: str, phone: str, reach: Reach, as_json: bool
) -> None:
    """Answer a duty check for this platform. The first answer counts.

    应答查岗, 以首次应答为准。
    """
    from cli.directive_display import as_document, duty_check_recipient_table
    from cli.terminal import Console
    from zhichao.enforcement.v1 import duty_check_pb2, service_pb2

    request = service_pb2.AnswerDutyCheckRequest(
        issuer=issuer,
        duty_check_id=duty_check_id,
        answer=answer_text.strip(),
        officer=officer_message(officer, phone),
    )
    with enforcement_service(reach) as stub:
        asked = stub.GetDutyCheck(
            service_pb2.GetDutyCheckRequest(issuer=issuer, duty_check_id=duty_check_id), timeout=CALL_SECONDS_MAX
        ).held_duty_check.duty_check
        if asked.answer_kind == duty_check_pb2.ANSWER_KIND_YES_NO:
            request.answer = YES_NO.get(request.answer.lower(), request.answer)
        answer = stub.AnswerDutyCheck(request, timeout=CALL_SECONDS_MAX)
    if as_json:
        click.echo(json.dumps(as_document(answer), ensure_ascii=False))
        return
    if answer.is_answered_before:
        click.echo("answered before; this one is not kept 此前已应答, 以首次为准")
    Console().print(duty_check_recipient_table([answer.recipient]))


def _show(held: "service_pb2.HeldDutyCheck", *, as_json: bool) -> None:
    from cli.directive_display import as_document, duty_check_facts
    from cli.terminal import Console

    if as_json:
        click.echo(json.dumps(as_document(held), ensure_ascii=False))
    else:
        Console().print(duty_check_facts(held))
