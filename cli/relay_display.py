"""What `zhichao relay` shows."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.status_display import link_text, trouble_lines
from cli.status_figures import PlatformFigures


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
    if link.downstream:
        below = Table(title="Links from below 下级连接", title_justify="left", box=box.SIMPLE_HEAD, padding=0,
                      pad_edge=False)  # fmt: skip
        for title in ("Platform\n平台", "Release\n版本", "Handshake\n握手", "Last push\n最近上报", "Open\n进行中"):
            below.add_column(title, no_wrap=True)
        for lower in link.downstream:
            below.add_row(
                lower.platform,
                lower.software_version or "-",
                _ago(lower.handshake_time),
                _ago(lower.last_push_time),
                f"{lower.open_push_count:,}",
            )
        parts.append(below)
    return Group(*parts, *trouble_lines([figures]))


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
