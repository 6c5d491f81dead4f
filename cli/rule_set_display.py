"""What `zhichao rule-set` shows: headings and figures, in English and Chinese."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich import box
from rich.table import Table
from rich.text import Text

from cli.credential_display import local_time
from services.common.china_time import CHINA_TIME
from zhichao.journal.v1 import journal_pb2
from zhichao.registry.v1 import resources_pb2 as pb

FIGURES: Final = ("gross_limits", "modifiers", "axle_group_limits", "scale_tolerances", "severity_bands")
"""Fields with the figures; all others head a rule set."""

_SCALES: Final = {
    pb.SCALE_KIND_STATIC: "static 静态",
    pb.SCALE_KIND_DYNAMIC: "dynamic 动态",
    pb.SCALE_KIND_LOADING: "loading 装载",
}
_TIRES: Final = {"single": "single 单胎", "dual": "dual 双胎"}


def as_document(message: Message) -> dict[str, Any]:
    """Return a message as JSON shows it."""
    return MessageToDict(message, preserving_proto_field_name=True)


def as_heading(rule_set: pb.RuleSet) -> dict[str, Any]:
    """Return a rule set without its figures as JSON shows it, with whether it is in force today."""
    heading = {name: value for name, value in as_document(rule_set).items() if name not in FIGURES}
    return {**heading, "state": state(rule_set, _today())}


def state(rule_set: pb.RuleSet, day: str) -> str:
    """Return whether a rule set is in force on a day, later, or no more."""
    if day < rule_set.effective_from:
        return "later"
    return "ended" if rule_set.effective_until and rule_set.effective_until <= day else "in force"


def rule_set_table(rule_sets: Sequence[pb.RuleSet]) -> Table:
    """Make the table of rule sets."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in ("Id\n编号", "Version\n版本", "Owner\n发布平台"):
        table.add_column(title, no_wrap=True)
    table.add_column("Title\n名称")
    for title in ("For\n适用区划", "From\n起始", "Until\n截止(不含)", "State\n状态"):
        table.add_column(title, no_wrap=True)
    for one in rule_sets:
        table.add_row(
            one.rule_set_id,
            str(one.version),
            one.info.origin,
            one.title_zh or one.title,
            one.jurisdiction or "all 全部",
            one.effective_from,
            one.effective_until or "-",
            _state_text(one),
        )
    return table


def rule_set_facts(rule_set: pb.RuleSet) -> Table:
    """Make the description of one rule set, without its figures."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    audience = rule_set.jurisdiction or rule_set.info.origin
    table.add_row("Id 编号", rule_set.rule_set_id)
    table.add_row("Version 版本", str(rule_set.version))
    table.add_row("Published by 发布平台", rule_set.info.origin)
    table.add_row("Published 发布时间", local_time(rule_set.info.create_time))
    table.add_row("For 适用区划", f"{audience} and below {audience} 及其下级")
    table.add_row("Title 名称", rule_set.title)
    table.add_row("", rule_set.title_zh)
    table.add_row("Source 依据", rule_set.source_document)
    until = rule_set.effective_until or "no end 长期"
    table.add_row("In force 有效期", f"{rule_set.effective_from} – {until}")
    table.add_row("State 状态", _state_text(rule_set))
    for warning in rule_set.info.warnings:
        table.add_row("Warning 提示", Text(f"{warning.field} {warning.description}", "yellow"))
    return table


def receipt_table(receipts: Sequence[journal_pb2.ReceivedAddressedEntry]) -> Table:
    """Make the table of platforms that have received a rule set."""
    table = _titled("Received 送达情况", "Platform 平台", "Received 送达时间")
    for one in receipts:
        table.add_row(one.platform, local_time(one.receive_time))
    return table


def figure_tables(rule_set: pb.RuleSet) -> Iterator[Table]:
    """Make the tables of everything that judges. Limits are in kilograms, spacings in millimetres."""
    yield _gross_limits(rule_set)
    yield _modifiers(rule_set)
    if rule_set.axle_group_limits:
        yield _axle_group_limits(rule_set)


def _gross_limits(rule_set: pb.RuleSet) -> Table:
    table = _titled(
        "Gross limits, kg 总质量限值(千克)", "Code 代码", "Vehicle 车型", "Axles 轴数", "Only 条件", "Limit 限值"
    )
    for row in rule_set.gross_limits:
        conditions = [row.combination_kind, row.axle_layout]
        conditions.append(f"{row.drive_axle_count} drive axles 驱动轴" if row.drive_axle_count else "")
        conditions.append("≤ registered mass 不超过行驶证总质量" if row.is_capped_by_registered_mass else "")
        table.add_row(
            row.code,
            "rigid 载货汽车" if row.is_rigid else "combination 汽车列车",
            _axles(row.axle_count_min, row.axle_count_max),
            ", ".join(filter(None, conditions)),
            f"{row.limit_kg:,}",
        )
    return table


def _modifiers(rule_set: pb.RuleSet) -> Table:
    modifiers, bands = rule_set.modifiers, rule_set.severity_bands
    table = _titled("Modifiers, tolerances, severity 修正、允差与程度", "What 项目", "Figure 数值")
    if modifiers.single_tires_reduction_kg:
        table.add_row("single tyres 单胎核减", f"-{modifiers.single_tires_reduction_kg:,} kg")
    for air in modifiers.air_suspension_limits:
        spacing = f", ≥ {air.trailer_spacing_min_mm:,} mm" if air.trailer_spacing_min_mm else ""
        table.add_row(f"air suspension 空气悬架: {air.gross_limit_code}{spacing}", f"{air.limit_kg:,} kg")
    for is_set, name in (
        (modifiers.is_capped_by_axle_limits, "capped by the sum of the axle limits 不超过轴荷限值之和"),
        (modifiers.is_replaced_by_permit, "replaced by a transport permit 通行证替代"),
        (modifiers.is_low_speed_by_registered_mass, "low-speed vehicles by registered mass 低速车按行驶证总质量"),
    ):
        table.add_row(name, "yes 是" if is_set else "no 否")
    for row in rule_set.scale_tolerances:
        table.add_row(f"tolerance 允差: {_SCALES.get(row.scale_kind, str(row.scale_kind))}", f"{row.permille} ‰")
    table.add_row("warning up to 警示上限", f"{bands.warning_excess_max_kg:,} kg")
    if bands.serious_rate_min_permille:
        table.add_row("serious from 严重起点", f"{bands.serious_rate_min_permille} ‰")
    if bands.extreme_gross_min_kg:
        table.add_row("extreme from 百吨王起点", f"{bands.extreme_gross_min_kg:,} kg")
    return table


def _axle_group_limits(rule_set: pb.RuleSet) -> Table:
    table = _titled(
        "Axle limits, kg 轴荷限值(千克)", "Code 代码", "Axles 轴数", "Spacing, mm 轴距", "Only 条件", "Limit 限值"
    )
    for row in rule_set.axle_group_limits:
        conditions = [_TIRES.get(row.tires, row.tires), "driven 驱动" if row.is_drive else ""]
        conditions.append("air suspension 空气悬架" if row.has_air_suspension else "")
        table.add_row(
            row.code,
            str(row.axle_count),
            _spacing(row.spacing_min_mm, row.spacing_max_mm),
            ", ".join(filter(None, conditions)),
            f"{row.limit_kg:,}",
        )
    return table


def _titled(title: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column.startswith("Limit") else "left")
    return table


def _axles(least: int, most: int) -> str:
    return f"{least}" if least == most else f"{least}+" if not most else f"{least}–{most}"


def _spacing(least: int, most: int) -> str:
    if not least and not most:
        return ""
    return f"≤ {most:,}" if not least else f"≥ {least:,}" if not most else f"{least:,}–{most:,}"


def _state_text(rule_set: pb.RuleSet) -> Text:
    match state(rule_set, _today()):
        case "later":
            return Text("later 待生效", "yellow")
        case "ended":
            return Text("ended 已失效", "dim")
    return Text("in force 有效", "green")


def _today() -> str:
    return f"{datetime.now(UTC).astimezone(CHINA_TIME):%Y-%m-%d}"
