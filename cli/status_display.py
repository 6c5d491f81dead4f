"""Tables and lines of platforms' figures; fits 80 columns."""

import io
from collections.abc import Iterator, Sequence
from datetime import datetime

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.relay_figures import AlarmFigures
from cli.status_figures import LinkFigures, PlatformFigures
from cli.store_display import store_trouble_lines
from services.common.china_time import CHINA_TIME

# English and Chinese of a link's state, and its colour.
LINK_STATES = {
    "NO_UPSTREAM": ("top", "无上级", "dim"),
    "CONNECTING": ("connecting", "连接中", "yellow"),
    "CURRENT": ("current", "已同步", "green"),
    "CATCHING_UP": ("catching up", "追赶中", "yellow"),
    "STALLED": ("stalled", "停滞", "bold red"),
    "REFUSED": ("refused", "被拒绝", "bold red"),
    "INCOMPATIBLE": ("incompatible", "版本不符", "bold red"),
}
# What keeps a log, English and Chinese.
STALL_CAUSES = {
    "NO_ANSWER": "no answer from above 上级无应答",
    "UPSTREAM_SERVICE": "the service above is away 上级服务不可用",
    "OWN_SERVICE": "the own service is away 本级服务不可用",
    "UNKNOWN": "cause unknown 原因不明",
}
# Columns of the services' logs; narrow, as the screen is.
# Of each service the entries of all its logs: those of its trade, and who was shown what of it.
STREAM_TITLES = {
    "registry": "Registry\n登记条目",
    "weighing": "Weighing\n称重条目",
    "video": "Evidence\n证据条目",
    "enforcement": "Enforce\n执法条目",
}
# Written to by people a few times a day: the first to go where there is no room. `zhichao status` lists all logs below.
QUIET_STREAMS = frozenset({"registry", "enforcement"})
UNKNOWN = "-"

# The narrowest screen that everything fits on, and one with room for Chinese beside English in cells.
NARROW_WIDTH = 80
WIDE_WIDTH = 100

# A line of a message on a narrow screen; `--json` has the whole text.
_MESSAGE_CHARACTERS_MAX = 200


def platform_table(platforms: Sequence[PlatformFigures], *, width: int = NARROW_WIDTH) -> RenderableType:
    """Make the table with one row per platform, and lines about what is not well.

    On a screen too narrow for all of it the space between columns and the Chinese beside English go first, then the
    columns of the quiet services, then the platforms' names.
    """
    streams = list(dict.fromkeys(stream for figures in platforms for stream in figures.streams)) or ["weighing"]
    busy = [stream for stream in streams if stream not in QUIET_STREAMS] or streams
    forms = (
        _platforms(platforms, streams, is_roomy=True),
        _platforms(platforms, streams),
        _platforms(platforms, busy),
        _platforms(platforms, busy, has_names=False),
    )
    # Measured where there is room for everything: how wide each would like to be.
    room = Console(width=10 * WIDE_WIDTH, file=io.StringIO())
    table = next((form for form in forms if room.measure(form).maximum <= width), forms[-1])
    return Group(table, *trouble_lines(platforms))


def _platforms(
    platforms: Sequence[PlatformFigures], streams: Sequence[str], *, is_roomy: bool = False, has_names: bool = True
) -> Table:
    table = _table(is_roomy=is_roomy)
    table.add_column("Platform\n平台", no_wrap=True)
    for stream in streams:
        table.add_column(STREAM_TITLES.get(stream, stream), justify="right", no_wrap=True)
    for title in ("/s\n每秒", "Lag\n待报", "Lag s\n延迟秒", "Susp.\n疑似", "Parked\n搁置"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("Link up\n上行链路", no_wrap=True)
    for figures in platforms:
        name = Text(figures.platform)
        if figures.name and has_names:
            name.append(f" {figures.name}", "dim")
        if figures.problem:
            cells = [Text(UNKNOWN, "dim")] * (len(streams) + 5)
            table.add_row(name, *cells, Text("down 未连通", "bold red"))
            continue
        table.add_row(
            name,
            *(_count(figures.record_count(stream)) for stream in streams),
            _rate(figures.records_per_second()),
            *_lag(figures.link),
            _suspected(figures),
            Text(f"{figures.parked_count:,}", "yellow" if figures.parked_count else ""),
            link_text(figures.link, is_short=not is_roomy),
        )
    return table


def _table(*, is_roomy: bool) -> Table:
    """Make an empty table: without lines between columns, which a narrow screen has no room for."""
    return Table(box=box.SIMPLE_HEAD, expand=False, pad_edge=False, padding=(0, 1 if is_roomy else 0))


def log_table(platforms: Sequence[PlatformFigures], *, width: int = NARROW_WIDTH) -> Table:
    """Make the table with one row per platform, stream and origin."""
    is_roomy = width >= WIDE_WIDTH
    table = _table(is_roomy=is_roomy)
    table.add_column("Platform\n平台", no_wrap=True)
    table.add_column("Stream\n日志", no_wrap=True)
    table.add_column("Origin\n来源", no_wrap=True)
    table.add_column("Position\n位置", justify="right", no_wrap=True)
    table.add_column("/s\n每秒", justify="right", no_wrap=True)
    table.add_column("Upstream\n上级已有", justify="right", no_wrap=True)
    table.add_column("Parked\n搁置", justify="right", no_wrap=True)
    table.add_column("Last write\n最近写入", no_wrap=True)
    for figures in platforms:
        progress = {(one.stream, one.origin): one for one in figures.link.progress} if figures.link else {}
        for log in figures.logs:
            above = progress.get((log.stream, log.origin))
            has_upstream = figures.link is not None and figures.link.has_upstream
            table.add_row(
                figures.platform,
                log.stream,
                f"{log.origin}{' *' if log.is_own else ''}",
                f"{log.size:,}",
                _rate(log.records_per_second),
                f"{above.upstream_size:,}" if above is not None and has_upstream else UNKNOWN,
                f"{log.parked_count:,}",
                _clock_time(log.last_write_time, has_year=is_roomy),
            )
        table.add_section()
    return table


def service_line(figures: PlatformFigures) -> Text:
    """Make the line with the health of each service."""
    line = Text(f"{figures.platform} ")
    for service in figures.services:
        style = "green" if service.is_serving else "bold red"
        line.append(f" {service.name} {service.address} ")
        line.append(service.health.lower().replace("_", " "), style)
    return line


def trouble_lines(platforms: Sequence[PlatformFigures]) -> Iterator[Text]:
    """Say what is not well, a line each."""
    for figures in platforms:
        if figures.problem:
            yield Text(f"{figures.platform}: {figures.problem} {figures.data_directory}".rstrip(), "red")
        for service in figures.services:
            if not service.is_serving:
                text = (
                    f"{figures.platform} {service.name} {service.address}: {service.health.lower()} {service.problem}"
                )
                yield Text(text[:_MESSAGE_CHARACTERS_MAX].rstrip(), "red")
        for text in store_trouble_lines(figures.platform, figures.store) if figures.store is not None else ():
            yield Text(text[:_MESSAGE_CHARACTERS_MAX], "bold red")
        link = figures.link
        if link is None:
            continue
        for one in link.progress:
            if one.refusal_reason:
                text = f"{figures.platform} {one.stream} {one.origin}: {one.refusal_reason}: {one.refusal_message}"
                yield Text(text[:_MESSAGE_CHARACTERS_MAX], "red")
            if one.is_recovering:
                text = "restored from a backup, nothing is written until it was compared 备份恢复后待核对, 暂不写入"
                yield Text(f"{figures.platform} {one.stream}: {text}", "yellow")
        for lower in link.addressed:
            if lower.refusal_reason:
                text = f"{figures.platform} {lower.stream} of {lower.origin}: {lower.refusal_reason}: "
                yield Text(f"{text}{lower.refusal_message}"[:_MESSAGE_CHARACTERS_MAX], "red")
        for alarm in link.alarms:
            yield Text(alarm_line(figures.platform, alarm)[:_MESSAGE_CHARACTERS_MAX], "bold red")
        if link.last_error and link.state not in ("CURRENT", "CATCHING_UP"):
            yield Text(f"{figures.platform} link: {link.last_error}"[:_MESSAGE_CHARACTERS_MAX], "yellow")


def alarm_line(platform: str, alarm: AlarmFigures) -> str:
    """Write an alarm: which way, how many logs, the one that has waited longest and why."""
    way = "nothing comes down 下行停滞" if alarm.is_downward else "nothing goes up 上行停滞"
    text = f"{platform} ALARM: {way}: {alarm.log_count} logs"
    for one in alarm.logs[:1]:
        log = f"{one.stream} {one.origin}".rstrip()
        text += f", {log}: {STALL_CAUSES.get(one.cause, one.cause)} {one.detail}"
    return text.rstrip()


def plain_line(figures: PlatformFigures) -> str:
    """Write one platform as one line, for logs and pipes."""
    if figures.problem:
        return f"{figures.platform} down: {figures.problem}"
    held = " ".join(f"{stream}={figures.record_count(stream)}" for stream in figures.streams)
    rate = figures.records_per_second()
    parts = [figures.platform, held, f"per_second={rate:.1f}" if rate is not None else ""]
    link = figures.link
    if link is not None and link.has_upstream:
        parts += [f"lag_records={link.lag_records}", f"lag_seconds={link.lag_seconds:.1f}"]
    if figures.suspected_count is not None:
        parts.append(f"suspected={figures.suspected_count}")
    parts += [f"parked={figures.parked_count}", f"link={link.state.lower() if link else 'unknown'}"]
    store = figures.store
    if store is not None and store.trouble:
        parts.append(f"store={store.trouble}")
    if store is not None and store.has_losses:
        parts.append(f"missing={store.missing_count} changed={store.changed_count}")
    return " ".join(
        filter(None, [*parts, *(f"{one.name}={one.health}" for one in figures.services if not one.is_serving)])
    )


def link_text(link: LinkFigures | None, *, is_short: bool = False) -> Text:
    """Write the state of a link."""
    english, chinese, style = ("unknown", "未知", "red")
    if link is not None:
        english, chinese, style = LINK_STATES.get(link.state, (link.state.lower(), "", "red"))
    return Text(english if is_short else f"{english} {chinese}".rstrip(), style)


def _count(count: int | None) -> str:
    return UNKNOWN if count is None else f"{count:,}"


def _rate(rate: float | None) -> str:
    if rate is None:
        return UNKNOWN
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"


def _lag(link: LinkFigures | None) -> tuple[str, str]:
    if link is None or not link.has_upstream:
        return UNKNOWN, UNKNOWN
    return f"{link.lag_records:,}", f"{link.lag_seconds:,.1f}"


def _suspected(figures: PlatformFigures) -> Text:
    if figures.suspected_count is None:
        return Text(UNKNOWN)
    at_least = "≥" if figures.is_suspected_partial else ""
    return Text(f"{at_least}{figures.suspected_count:,}", "yellow" if figures.suspected_count else "")


def _clock_time(moment: datetime | None, *, has_year: bool) -> str:
    if moment is None:
        return UNKNOWN
    # As everywhere else, whatever zone the machine keeps.
    local = moment.astimezone(CHINA_TIME)
    is_today = local.date() == datetime.now(CHINA_TIME).date()
    return local.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M" if has_year else "%m-%d %H:%M")
