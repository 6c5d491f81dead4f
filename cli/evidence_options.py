"""Options and arguments that the commands about evidence share: names, purposes, how lists are narrowed."""

import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from zhichao.video.v1 import evidence_pb2

PAGE_SIZE: Final = 200
LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 10_000
"""Rows that a command fetches: what a county seals in a day."""

KINDS: Final[Mapping[str, str]] = {"photo": "照片", "clip": "视频", "document": "文书"}
VIEWS: Final[Mapping[str, str]] = {
    "entrance": "入口",
    "front": "车前",
    "rear": "车后",
    "side": "车侧",
    "scale": "全景",
    "weigh-room": "磅房",
    "exit": "出口",
    "loading": "装载点",
}
BYTES_STATES: Final[Mapping[str, str]] = {
    "held": "在库",
    "below": "在下级",
    "wanted": "调取中",
    "damaged": "损坏或缺失",
    "deleted": "到期已删",
    "gone": "已不存在",
}

Command = TypeVar("Command", bound=Callable[..., Any])

_ORIGIN: Final = re.compile(r"[0-9]{6}")


class EvidenceNameType(click.ParamType["evidence_pb2.EvidenceName"]):
    """`UNIT/ID`, of another platform `ORIGIN/UNIT/ID`: as lists print it."""

    name = "evidence"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> "evidence_pb2.EvidenceName":
        """Read it, or refuse it with what would be right."""
        from zhichao.video.v1 import evidence_pb2

        parts = str(value).split("/")
        origin = parts.pop(0) if len(parts) == 3 else ""
        if len(parts) != 2 or not all(parts) or (origin and not _ORIGIN.fullmatch(origin)):
            self.fail(
                f"{value!r}: write UNIT/ID or PLATFORM/UNIT/ID, as `evidence list` does 请写成 单位/编号", param, ctx
            )
        return evidence_pb2.EvidenceName(origin=origin, source_unit_id=parts[0], evidence_id=parts[1])


class RecordNameType(click.ParamType[tuple[str, str]]):
    """`UNIT/RECORD`: a weighing by its source unit and record id."""

    name = "weighing"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Read it, or refuse it with what would be right."""
        unit, slash, record = str(value).partition("/")
        if not (unit and slash and record):
            self.fail(f"{value!r}: write UNIT/RECORD 请写成 单位/记录编号", param, ctx)
        return unit, record


class DayType(click.ParamType[date]):
    """A day, `YYYY-MM-DD`."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Read it, or refuse it with what would be right."""
        try:
            return date.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no day: write 2025-03-05 日期格式不正确", param, ctx)


NAME = click.argument("name", metavar="[PLATFORM/]UNIT/ID", type=EvidenceNameType())

PURPOSE = click.option(
    "--purpose",
    required=True,
    metavar="TEXT",
    help="Why; it stands in the custody of the evidence. 目的, 记入保管记录。",
)

LIMIT = click.option(
    "--limit",
    type=click.IntRange(1, LIMIT_MAX),
    default=LIMIT_DEFAULT,
    show_default=True,
    help="At most so many. 最多条数。",
)

ORIGIN = click.option("--origin", default="", metavar="CODE", help="Only of this platform's sites. 仅此平台。")
UNIT = click.option(
    "--unit", "source_unit_id", default="", metavar="ID", help="Only of this source unit. 仅此源头单位。"
)


def full_name(origin: str, unit: str, evidence_id: str) -> str:
    """Write a name as the commands read it."""
    return f"{origin}/{unit}/{evidence_id}"
