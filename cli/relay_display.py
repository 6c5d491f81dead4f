"""What `zhichao relay` shows."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.relay_figures import BandwidthFigures, EvidenceFigures
from cli.status_display import link_text, trouble_lines
from cli.status_figures import LinkFigures, PlatformFigures
from services.common.china_time import CHINA_TIME

MIB = 1024 * 1024

# English and Chinese of how a stream is followed, and its colour.
FOLLOW_STATES = {
    "NOT_FOLLOWED": ("not followed 未跟踪", "dim"),
    "WAITING": ("waiting 等待", "yellow"),
    "FOLLOWING": ("following 跟踪中", "green"),
}


def link_report(figures: PlatformFigures) -> RenderableType:
    """Make the report on all links of one platform."""
    link = figures.link
    if link is None:
        return Group(*trouble_lines([figures]))
    parts: list[RenderableType] = [_facts(figures)]
    if link.has_upstream and link.progress:
        logs = Table(title="Logs on the link upwards 上行日志", title_justify="left", box=box.SIMPLE_HEAD, padding=0,
                     pad_edge=False)  # fmt: skip
        for title in ("Stream\n日志", "Origin\n来源"):
            logs.add_column(title, no_wrap=True)
        for title in ("Here\n本级", "Upstream\n上级", "Lag\n待报", "Bytes\n字节", "Lag s\n延迟秒"):
            logs.add_column(title, justify="right", no_wrap=True)
        logs.add_column("Refused\n拒绝", no_wrap=True)
        for one in link.progress:
            logs.add_row(
                one.stream,
                one.origin,
                f"{one.local_size:,}",
                f"{one.upstream_size:,}",
                f"{one.lag_records:,}",
                f"{one.lag_bytes:,}",
                f"{one.lag_seconds:,.1f}",
                Text(one.refusal_reason, "red"),
            )
        parts.append(logs)
    if link.has_upstream and (link.addressed or link.follows):
        parts.append(_coming_down(link))
    if link.downstream:
        below = Table(title="Links from below 下级连接", title_justify="left", box=box.SIMPLE_HEAD, padding=0,
                      pad_edge=False)  # fmt: skip
        for title in ("Platform\n平台", "Release\n版本", "Handshake\n握手", "Last push\n最近上报", "Open\n进行中",
                      "Evidence\n证据文件", "Follows\n下行跟踪"):  # fmt: skip
            below.add_column(title, no_wrap=title[0] != "F")
        for lower in link.downstream:
            below.add_row(
                lower.platform,
                lower.software_version or "-",
                _ago(lower.handshake_time),
                _ago(lower.last_push_time),
                f"{lower.open_push_count:,}",
                f"{lower.received_objects:,}",
                " ".join(lower.followed_streams) or "-",
            )
        parts.append(below)
        if any(lower.sent for lower in link.downstream):
            parts.append(_sent_down(link))
    return Group(*parts, *trouble_lines([figures]))


def _coming_down(link: LinkFigures) -> Table:
    """Make the table of what platforms above have addressed to this one."""
    table = Table(title="What comes down 下行", title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for title in ("Stream\n日志", "Origin\n来源"):
        table.add_column(title, no_wrap=True)
    for title in ("Here\n本级", "Upstream\n上级"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("Last\n最近", no_wrap=True)
    table.add_column("State\n状态", overflow="fold")
    for follow in link.follows:
        logs = [one for one in link.addressed if one.stream == follow.stream]
        text, style = FOLLOW_STATES.get(follow.state, (follow.state.lower(), "red"))
        state = Text(f"{text} {follow.detail}".rstrip(), style)
        if not logs:
            table.add_row(follow.stream, "-", "-", "-", "-", state)
        for one in logs:
            table.add_row(
                one.stream,
                one.origin,
                f"{one.through_sequence:,}",
                f"{one.upstream_sequence:,}",
                _ago(one.last_batch_time),
                Text(one.refusal_reason, "red") if one.refusal_reason else state,
            )
    return table


def _sent_down(link: LinkFigures) -> Table:
    """Make the table of what was sent to platforms below. Whether they hold it, their receipts say."""
    table = Table(title="Sent down 已下发", title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for title in ("Platform\n平台", "Stream\n日志", "Origin\n来源"):
        table.add_column(title, no_wrap=True)
    for title in ("Asked from\n起始", "Sent\n已发"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("Last\n最近", no_wrap=True)
    table.add_column("Refused\n拒绝", no_wrap=True)
    for lower in link.downstream:
        for one in lower.sent:
            table.add_row(
                lower.platform,
                one.stream,
                one.origin,
                f"{one.asked_sequence:,}",
                f"{one.sent_sequence:,}",
                _ago(one.last_batch_time),
                Text(one.refusal_reason, "red"),
            )
    return table


def bandwidth_text(cap: BandwidthFigures) -> Text:
    """Write the cap in force and until when."""
    if cap.bytes_per_second_max is None:
        text = Text("unlimited now 当前不限速")
    elif not cap.bytes_per_second_max:
        text = Text("paused now 当前暂停上报", "yellow")
    else:
        text = Text(f"{cap.bytes_per_second_max / 1024:,.1f} KiB/s now 当前限速")
    if cap.change_time is not None:
        text.append(f" until {cap.change_time.astimezone(CHINA_TIME):%H:%M}")
    if cap.is_waiting:
        text.append(", entries wait for it 有数据等待", "yellow")
    return text.append(f" ({cap.schedule})", "dim")


def evidence_text(evidence: EvidenceFigures) -> Text:
    """Write what of the evidence waits to go up, and what went."""
    follow, style = FOLLOW_STATES.get(evidence.state, (evidence.state.lower(), "red"))
    text = Text(f"{follow} {evidence.detail}".rstrip(), style)
    if evidence.state != "FOLLOWING":
        return text
    waiting = f"{evidence.waiting_objects:,} objects, {evidence.waiting_bytes / MIB:,.1f} MiB wait 待传"
    text = Text(waiting if evidence.waiting_objects else "nothing waits 无待传")
    if evidence.open_push_count:
        text.append(f", {evidence.open_push_count} on their way 传输中")
    if evidence.declined_objects:
        text.append(f", {evidence.declined_objects:,} not here yet 本级尚无")
    text.append(f"; {evidence.pushed_objects:,} pushed 已传, last 最近 {_ago(evidence.last_object_time)}", "dim")
    if evidence.is_waiting:
        text.append(", waits for entries or the cap 让行或限速", "yellow")
    if evidence.last_error:
        text.append(f"; {evidence.last_error}", "yellow")
    return text


def parked_table(entries: Sequence[Mapping[str, Any]]) -> Table:
    """Make the table of parked entries."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for title in ("Stream\n日志", "Origin\n来源"):
        table.add_column(title, no_wrap=True)
    table.add_column("Sequence\n序号", justify="right", no_wrap=True)
    table.add_column("Tries\n次数", justify="right", no_wrap=True)
    table.add_column("Cause\n原因", no_wrap=True)
    table.add_column("Kind and detail\n类型与说明", overflow="fold")
    for entry in entries:
        table.add_row(
            entry["stream"],
            entry.get("origin", ""),
            f"{entry['sequence']:,}",
            f"{entry.get('attempt_count', 0):,}",
            entry.get("cause", ""),
            # Text: a stranger's words are not markup.
            Text(f"{entry.get('kind', '')}: {entry.get('detail', '')}"),
        )
    return table


def _facts(figures: PlatformFigures) -> Table:
    link = figures.link
    assert link is not None  # noqa: S101 - the caller has looked
    facts = Table.grid(padding=(0, 2))
    facts.add_row("platform 平台", figures.platform)
    upstream = f"{link.upstream_platform or '?'} {link.upstream_address}" if link.has_upstream else "none 无"
    facts.add_row("upstream 上级", upstream)
    state = link_text(link)
    state.append(f", since {_ago(link.state_time)}", "dim")
    facts.add_row("link 链路", state)
    if link.has_upstream:
        facts.add_row("lag 待报", f"{link.lag_records:,} records, {link.lag_seconds:,.1f} s")
    if link.protocol_version:
        facts.add_row("protocol 协议版本", str(link.protocol_version))
    if link.bandwidth is not None:
        facts.add_row("bandwidth 限速", bandwidth_text(link.bandwidth))
    if link.evidence is not None:
        facts.add_row("evidence 证据文件", evidence_text(link.evidence))
    if link.clock_skew_seconds is not None:
        facts.add_row("clock skew 时钟差", f"{link.clock_skew_seconds:+.3f} s")
    if link.last_error:
        facts.add_row("last error 最近错误", Text(link.last_error, "yellow"))
    return facts


def _ago(moment: datetime | None) -> str:
    if moment is None:
        return "-"
    seconds = max((datetime.now(UTC) - moment).total_seconds(), 0)
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {name} ago"
    return f"{seconds:.0f} s ago"
