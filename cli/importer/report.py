"""What an import shows: the mapping, the first records, the summary and the findings; and the file of rejects."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.importer.mapping import Column, unit_shown
from cli.importer.run import Finding, ImportResult, Outcome
from zhichao.weighing.v1 import record_pb2

# What fits on a screen; the file of rejects and --json have more.
FINDINGS_SHOWN_MAX = 20
_REMARKS_SHOWN_MAX = 10
_CELL_CHARACTERS_MAX = 100

_TITLES = {
    Outcome.ACCEPTED: ("Accepted", "新收", "green"),
    Outcome.DUPLICATE: ("Duplicate", "重复", ""),
    Outcome.CONFLICTING: ("Conflicting", "冲突", "yellow"),
    Outcome.REJECTED: ("Rejected", "拒绝", "red"),
}
# Columns that the file of rejects puts before those of the import; a later import passes over them.
REJECTS_COLUMNS = ("zhichao_line", "zhichao_outcome", "zhichao_reason", "zhichao_message")


def show_mapping(console: Console, columns: Sequence[Column], sample: Sequence[str], titles: Sequence[str]) -> None:
    """Show what becomes of each column, with the first row as an example."""
    title = "Mapping 列映射" + (f" · {', '.join(titles)}" if titles else " · by known names 按列名识别")
    table = Table(title=title, title_justify="left")
    for heading, width in (
        ("Column 列", 10),
        ("First row 首行", 10),
        ("Field 字段", 18),
        ("Unit 单位", 9),
        ("Remark 备注", 10),
    ):
        table.add_column(heading, overflow="fold", min_width=width)
    for column in columns:
        cell = sample[column.index] if column.index < len(sample) else ""
        target = column.target
        table.add_row(
            Text(column.header),
            Text(cell[:_CELL_CHARACTERS_MAX]),
            target.field.name if target.field is not None else "–",
            unit_shown(target),
            Text(target.remark),
            style="" if target.field is not None else "dim",
        )
    console.print(table)


def show_records(console: Console, records: Sequence[tuple[int, record_pb2.WeighingRecord]]) -> None:
    """Show records as mapped, one per column, one line per field."""
    if not records:
        return
    flat = [(line, dict(flatten(record))) for line, record in records]
    names = list(dict.fromkeys(name for _, values in flat for name in values))
    table = Table(title="First records 前几条记录", title_justify="left")
    table.add_column("Field 字段", no_wrap=True)
    for line, _ in flat:
        table.add_column(f"Line {line}", overflow="fold")
    for name in names:
        table.add_row(name, *(Text(values.get(name, "")) for _, values in flat))
    console.print(table)


def flatten(message: Any, prefix: str = "") -> list[tuple[str, str]]:
    """List the fields set in a message, nested ones by path."""
    found: list[tuple[str, str]] = []
    for descriptor, value in message.ListFields():
        name = f"{prefix}{descriptor.name}"
        if isinstance(value, Timestamp):
            found.append((name, value.ToJsonString()))
        elif descriptor.enum_type is not None:
            found.append((name, descriptor.enum_type.values_by_number[value].name.split("_", 2)[-1].lower()))
        elif descriptor.message_type is None:
            found.append((name, str(value)))
        elif descriptor.is_repeated:
            for place, item in enumerate(value, start=1):
                # One line per axle: weight and distance to the next.
                found.append((f"{name}[{place}]", ", ".join(f"{part} {text}" for part, text in flatten(item))))
        else:
            found += flatten(value, f"{name}.")
    return found


def show_result(
    console: Console, result: ImportResult, *, rejects: Path | None, seconds: float, is_dry_run: bool = False
) -> None:
    """Show counts and findings."""
    speed = f", {result.rows / seconds:,.0f} rows/s" if seconds >= 1 else ""
    table = Table(title=f"{result.rows:,} rows 行{speed}", title_justify="left")
    table.add_column("Outcome", no_wrap=True)
    table.add_column("结果", no_wrap=True)
    table.add_column("Rows 行数", justify="right")
    for outcome, (name, name_zh, style) in _TITLES.items():
        count = result.outcomes[outcome]
        if not is_dry_run:
            table.add_row(name, name_zh, f"{count:,}", style=style if count else "")
        elif outcome in (Outcome.ACCEPTED, Outcome.REJECTED):
            names = ("Would be sent", "可发送") if outcome is Outcome.ACCEPTED else (name, name_zh)
            table.add_row(*names, f"{count:,}", style=style if count else "")
    console.print(table)
    if result.verdicts:
        verdicts = ", ".join(f"{name} {count:,}" for name, count in sorted(result.verdicts.items()))
        console.print(f"Verdicts 判定: {verdicts}")
    if result.resent:
        console.print(
            f"{result.resent:,} rows were sent again after a broken connection and may count as duplicate "
            f"断线后重发 {result.resent:,} 行, 可能计为重复"
        )
    show_findings(console, result, rejects=rejects)


def show_findings(console: Console, result: ImportResult, *, rejects: Path | None) -> None:
    """Show the first findings, one per row."""
    total = result.outcomes[Outcome.CONFLICTING] + result.outcomes[Outcome.REJECTED]
    if not total:
        return
    table = Table(title="Conflicting and rejected rows 冲突与拒绝", title_justify="left")
    table.add_column("Line 行", justify="right", no_wrap=True)
    table.add_column("Outcome 结果", no_wrap=True)
    table.add_column("Record 记录", overflow="fold")
    table.add_column("Reason 原因", overflow="fold")
    for finding in result.findings[:FINDINGS_SHOWN_MAX]:
        name, name_zh, style = _TITLES[finding.outcome]
        message = f"{finding.reason}: {finding.message}"
        table.add_row(str(finding.line), f"{name} {name_zh}", Text(finding.record_id), Text(message), style=style)
    console.print(table)
    if total > FINDINGS_SHOWN_MAX:
        where = f"all in 全部见 {rejects}" if rejects else "--rejects FILE keeps all 用 --rejects 保存全部"
        console.print(f"… {total - FINDINGS_SHOWN_MAX:,} more 另有; {where}")


def show_remarks(console: Console, remarks: Counter[tuple[str, str]]) -> None:
    """Show words that were left out because nobody knows what they mean."""
    for (column, word), count in remarks.most_common(_REMARKS_SHOWN_MAX):
        console.print(
            Text(f"{column}: {word} is not known and was left out, rows 未识别, 已略去, 行数: {count:,}", "yellow")
        )


def as_json(result: ImportResult, remarks: Mapping[tuple[str, str], int]) -> dict[str, object]:
    """Return the result as plain values."""
    return {
        "rows": result.rows,
        **{outcome.value: result.outcomes[outcome] for outcome in Outcome},
        "verdicts": dict(sorted(result.verdicts.items())),
        "resent": result.resent,
        "findings": [
            {
                "line": finding.line,
                "outcome": finding.outcome.value,
                "record_id": finding.record_id,
                "reason": finding.reason,
                "message": finding.message,
            }
            for finding in result.findings
        ],
        "findings_kept": len(result.findings),
        "unknown_words": [{"column": column, "word": word, "rows": count} for (column, word), count in remarks.items()],
    }


class RejectsFile:
    """A CSV of the rows that were not taken, with the reason in front: correct it and import it again."""

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        # With a byte order mark, without which spreadsheet programs misread Chinese.
        self._file = path.open("w", newline="", encoding="utf-8-sig", errors="replace")
        self._writer = csv.writer(self._file)
        kept = [name for name in header if name not in REJECTS_COLUMNS]
        self._kept = [index for index, name in enumerate(header) if name not in REJECTS_COLUMNS]
        self._writer.writerow([*REJECTS_COLUMNS, *kept])

    def write(self, finding: Finding) -> None:
        """Write one finding; a malformed line stands in the first column as it was."""
        cells = finding.cells
        if len(cells) > max(self._kept, default=-1):
            cells = [cells[index] for index in self._kept]
        self._writer.writerow([finding.line, finding.outcome.value, finding.reason, finding.message, *cells])

    def __enter__(self) -> "RejectsFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
