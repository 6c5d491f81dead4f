"""What `zhichao notice` and `zhichao duty-check` show: tables in English and Chinese, times in China Standard Time."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.table import Table
from rich.text import Text

from cli.enum_words import words
from services.common.china_time import CHINA_TIME
from zhichao.enforcement.v1 import directive_pb2, duty_check_pb2, notice_pb2
from zhichao.enforcement.v1 import service_pb2 as pb

CAPTION: Final = "times in China Standard Time 时间为北京时间"

NOTICE_KINDS: Final[Mapping[str, str]] = {"bulletin": "情况通报", "instruction": "督办", "information": "通知"}
ANSWER_KINDS: Final[Mapping[str, str]] = {"text": "文字", "number": "数字", "yes-no": "是/否"}

_DIRECTIONS: Final[Mapping[int, str]] = {
    directive_pb2.DIRECTION_ISSUED: "issued 下发",
    directive_pb2.DIRECTION_RECEIVED: "received 收到",
    directive_pb2.DIRECTION_OBSERVED: "observed 经过",
}
_STATES: Final[Mapping[int, tuple[str, str]]] = {
    pb.DUTY_CHECK_STATE_SENT: ("sent 已下发", ""),
    pb.DUTY_CHECK_STATE_RECEIVED: ("received 已送达", "yellow"),
    pb.DUTY_CHECK_STATE_ANSWERED: ("answered 已应答", "green"),
    pb.DUTY_CHECK_STATE_ANSWERED_LATE: ("answered late 逾期应答", "yellow"),
    pb.DUTY_CHECK_STATE_MISSED: ("missed 未应答", "bold red"),
    pb.DUTY_CHECK_STATE_RECEIVED_LATE: ("received late 逾期送达", "magenta"),
    pb.DUTY_CHECK_STATE_UNDELIVERED: ("undelivered 未送达", "magenta"),
}

# A title of a document takes up to three lines; the rest is behind `show`.
_TEXT_CHARACTERS_MAX: Final = 60


def as_document(message: Message) -> dict[str, Any]:
    """Return a message as JSON shows it."""
    return MessageToDict(message, preserving_proto_field_name=True)


def local_time(holder: Message, field: str) -> str:
    """Write an instant in China Standard Time, to the second; `-` when it is absent."""
    if not holder.HasField(field):
        return "-"
    timestamp: Timestamp = getattr(holder, field)
    return timestamp.ToDatetime(tzinfo=UTC).astimezone(CHINA_TIME).strftime("%Y-%m-%d %H:%M:%S")


def notice_table(held: Sequence[pb.HeldNotice]) -> Table:
    """Make the table of notices."""
    table = _table(
        whole=("Id, issuer, kind\n编号、下发平台、类型", "Issued, deadline\n下发时间、签收时限"),
        folded=("Title\n标题", "Done, late\n签收、逾期", "Here\n本平台"),
    )
    for one in held:
        notice = one.notice
        table.add_row(
            _lines(notice.notice_id, f"{one.issuer} {notice_kind(notice.kind)}"),
            _lines(local_time(notice, "issue_time"), local_time(notice, "deadline_time")),
            _cut(notice.title),
            _lines(_share(one.counts), _overdue(one.counts)),
            _withdrawn() if one.HasField("withdrawal") else _here(one.direction, _own_notice(one)),
        )
    return table


def duty_check_table(held: Sequence[pb.HeldDutyCheck]) -> Table:
    """Make the table of duty checks."""
    table = _table(
        whole=("Id, issuer\n编号、下发平台", "Issued, deadline\n下发时间、应答时限"),
        folded=("Question\n问题", "Done, late\n应答、逾期", "Here\n本平台"),
    )
    for one in held:
        check = one.duty_check
        table.add_row(
            _lines(check.duty_check_id, one.issuer),
            _lines(local_time(check, "issue_time"), local_time(check, "deadline_time")),
            _cut(check.question),
            _lines(_share(one.counts), _overdue(one.counts)),
            _here(one.direction, duty_check_state(one.own) if one.HasField("own") else None),
        )
    return table


def notice_facts(held: pb.HeldNotice) -> Table:
    """Make the description of one notice."""
    notice = held.notice
    rows: list[tuple[str, str | Text]] = [
        ("Id 编号", notice.notice_id),
        ("Issuer 下发平台", held.issuer),
        ("Kind 类型", notice_kind(notice.kind)),
        ("Title 标题", notice.title),
        ("To 下发对象", _audiences(notice.audiences, notice.recipient_scope)),
        ("Issued 下发时间", local_time(notice, "issue_time")),
        ("Issued by 签发", _person(notice.officer, notice.actor)),
        ("Deadline 签收时限", local_time(notice, "deadline_time")),
        ("Here 本平台", _here(held.direction, _own_notice(held))),
        *_counted(held.counts, "Acknowledged 已签收"),
    ]
    if held.HasField("withdrawal"):
        rows += [
            ("Withdrawn 撤回时间", local_time(held.withdrawal, "withdraw_time")),
            ("Because 撤回原因", held.withdrawal.reason),
        ]
    return _facts([*rows, ("Text 正文", notice.body)])


def duty_check_facts(held: pb.HeldDutyCheck) -> Table:
    """Make the description of one duty check."""
    check = held.duty_check
    return _facts(
        [
            ("Id 编号", check.duty_check_id),
            ("Issuer 下发平台", held.issuer),
            ("Question 问题", check.question),
            ("Answer as 应答形式", answer_kind(check.answer_kind)),
            ("To 下发对象", _audiences(check.audiences, check.recipient_scope)),
            ("Issued 下发时间", local_time(check, "issue_time")),
            ("Issued by 签发", _person(check.officer, check.actor)),
            ("Deadline 应答时限", local_time(check, "deadline_time")),
            ("Here 本平台", _here(held.direction, duty_check_state(held.own) if held.HasField("own") else None)),
            *_counted(held.counts, "Answered 已应答"),
        ]
    )


def notice_recipient_table(recipients: Iterable[pb.NoticeRecipient]) -> Table:
    """Make the table of who was asked to acknowledge."""
    table = _table(
        whole=("Platform\n平台", "Received, acknowledged\n送达时间、签收时间"),
        folded=("State\n状态", "By\n签收人", "Text\n意见"),
    )
    for one in recipients:
        said = one.acknowledgement
        table.add_row(
            one.platform_code,
            _lines(local_time(one, "receive_time"), local_time(said, "acknowledge_time")),
            notice_state(one),
            _person(said.officer, said.actor),
            said.text,
        )
    return table


def duty_check_recipient_table(recipients: Iterable[pb.DutyCheckRecipient]) -> Table:
    """Make the table of who was asked."""
    table = _table(
        whole=("Platform\n平台", "Received, answered\n送达时间、应答时间"),
        folded=("State\n状态", "By\n应答人", "Answer\n应答内容"),
    )
    for one in recipients:
        table.add_row(
            one.platform_code,
            _lines(local_time(one, "receive_time"), local_time(one.answer, "answer_time")),
            duty_check_state(one),
            _person(one.answer.officer, one.answer.actor),
            one.answer.answer,
        )
    return table


def notice_state(recipient: pb.NoticeRecipient) -> Text:
    """Return how far a notice has come with a recipient."""
    if recipient.state == pb.RECIPIENT_STATE_ACKNOWLEDGED:
        state = (
            Text("acknowledged late 逾期签收", "yellow") if recipient.is_late else Text("acknowledged 已签收", "green")
        )
    elif recipient.is_overdue:
        is_delivered = recipient.state == pb.RECIPIENT_STATE_RECEIVED and not recipient.is_received_late
        state = (
            Text("overdue 逾期未签收", "bold red")
            if is_delivered
            else Text("undelivered in time 未按时送达", "magenta")
        )
    elif recipient.state == pb.RECIPIENT_STATE_RECEIVED:
        state = Text("received 已送达", "yellow")
    else:
        state = Text("sent 已下发")
    return _with_clock(state, is_doubtful=recipient.is_clock_doubtful)


def duty_check_state(recipient: pb.DutyCheckRecipient) -> Text:
    """Return how far a duty check has come with a recipient."""
    told, style = _STATES.get(recipient.state, (str(recipient.state), ""))
    if recipient.state == pb.DUTY_CHECK_STATE_ANSWERED_LATE and recipient.is_received_late:
        told += ", received late 逾期送达"
    return _with_clock(Text(told, style), is_doubtful=recipient.is_clock_doubtful)


def notice_kind(number: int) -> str:
    """Return the name of a kind of notice; the number of one that this release does not know."""
    return words(notice_pb2.NoticeKind.DESCRIPTOR, number, NOTICE_KINDS)


def answer_kind(number: int) -> str:
    """Return the name of a form of answer; the number of one that this release does not know."""
    return words(duty_check_pb2.AnswerKind.DESCRIPTOR, number, ANSWER_KINDS)


def _table(*, whole: Sequence[str], folded: Sequence[str]) -> Table:
    """Make a table whose first columns are never cut: an id or a time that is not whole is of no use. Its cells have
    several lines, so that a terminal of 80 columns has room for the others.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption=CAPTION, caption_justify="left")
    for title in whole:
        table.add_column(title, no_wrap=True)
    for title in folded:
        table.add_column(title, overflow="fold")
    return table


def _lines(*parts: str | Text) -> Text:
    # Texts of others are shown as they are, without the markup that rich would read into brackets.
    return Text("\n").join(part if isinstance(part, Text) else Text(part) for part in parts)


def _facts(rows: Iterable[tuple[str, str | Text]]) -> Table:
    table = Table(
        box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False, caption=CAPTION, caption_justify="left"
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for title, value in rows:
        if value:
            # Texts of others are shown as they are, without the markup that rich would read into brackets.
            table.add_row(title, value if isinstance(value, Text) else Text(value))
    return table


def _own_notice(held: pb.HeldNotice) -> Text | None:
    return notice_state(held.own) if held.HasField("own") else None


def _here(direction: int, own: Text | None) -> Text:
    if own is not None:
        return own
    if direction == directive_pb2.DIRECTION_RECEIVED:
        return Text("copy 抄送", "dim")
    return Text(_DIRECTIONS.get(direction, str(direction)), "dim")


def _withdrawn() -> Text:
    return Text("withdrawn 已撤回", "dim")


def _with_clock(state: Text, *, is_doubtful: bool) -> Text:
    return state.append(", clock? 时钟异常", "magenta") if is_doubtful else state


def _share(counts: directive_pb2.RecipientCounts) -> str:
    if not counts.recipient_count:
        return "nobody asked 无应答平台"
    return f"{counts.responded_count}/{counts.recipient_count}"


def _overdue(counts: directive_pb2.RecipientCounts) -> Text:
    return Text(str(counts.overdue_count), "bold red") if counts.overdue_count else Text("-", "dim")


def _counted(counts: directive_pb2.RecipientCounts, title: str) -> list[tuple[str, str | Text]]:
    late = f", {counts.late_count} late 逾期" if counts.late_count else ""
    undelivered = f", {counts.undelivered_count} undelivered 未送达" if counts.undelivered_count else ""
    overdue = f"{counts.overdue_count}{undelivered}" if counts.overdue_count else ""
    return [
        (title, f"{_share(counts)}{late}"),
        ("Received 已送达", f"{counts.received_count}/{counts.recipient_count}" if counts.recipient_count else ""),
        ("Overdue 逾期", Text(overdue, "bold red") if overdue else ""),
    ]


def _audiences(codes: Sequence[str], scope: int) -> str:
    only = " (highest only 仅最高一级)" if scope == directive_pb2.RECIPIENT_SCOPE_DIVISION else ""
    return ", ".join(codes) + only


def _person(officer: directive_pb2.Officer, actor: str) -> str:
    name = f"{officer.name} {officer.phone_number}".strip()
    return f"{name} ({actor})" if name and actor else name or actor


def _cut(text: str) -> Text:
    return Text(text if len(text) <= _TEXT_CHARACTERS_MAX else text[:_TEXT_CHARACTERS_MAX] + "…")
