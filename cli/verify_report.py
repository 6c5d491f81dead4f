"""What `zhichao verify` shows: a table of the logs, and a line for everything that is wrong."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.verifier.findings import FAULT_TEXTS_ZH, Finding, LogResult
from cli.verify_journals import Examined

# As many characters of a root as a person compares.
_ROOT_CHARACTERS = 8


def show(console: Console, platforms: Sequence[Examined], *, seconds: float) -> None:
    """Print the table, the findings and the verdict."""
    console.print(log_table(platforms))
    names = {name for examined in platforms for result in examined.results for name, known in result.cosigners.items()
             if known is None}  # fmt: skip
    if names:
        console.print(
            Text(f"cosignatures not checked, key unknown 联署密钥未知: {', '.join(sorted(names))} (--key)", "dim")
        )
    for line in finding_lines(platforms):
        console.print(line)
    for examined in platforms:
        for result in examined.results:
            if result.compared is not None:
                name = f"{examined.platform} {result.stream} {result.origin}"
                console.print(f"{name}: {result.compared:,} entries as in the other copy 与副本一致", highlight=False)
    count = sum(result.checked for examined in platforms for result in [*examined.results, *examined.addressed])
    rate = f"{count / seconds:,.0f}/s" if seconds > 0 else ""
    console.print(f"{count:,} entries in {seconds:.1f} s {rate} 已核验 {count:,} 条")
    if all(examined.is_right for examined in platforms):
        console.print(Text("Verified: everything is as it was written. 核验通过: 数据与写入时一致。", "bold green"))
    else:
        console.print(Text("DIFFERS: see the first bad entry above. 核验不通过: 见上方首个异常条目。", "bold red"))


def log_table(platforms: Sequence[Examined]) -> Table:
    """Make the table with one row per log."""
    table = Table(box=box.SIMPLE_HEAD, expand=False, pad_edge=False, padding=0)
    for title in ("Platform\n平台", "Stream\n日志", "Origin\n来源"):
        table.add_column(title, no_wrap=True)
    table.add_column("Entries\n条目", justify="right", no_wrap=True)
    table.add_column("Root\n根摘要", no_wrap=True)
    table.add_column("Points\n检查点", justify="right", no_wrap=True)
    table.add_column("Cosigned by\n联署", no_wrap=True)
    table.add_column("Proofs\n证明", justify="right", no_wrap=True)
    table.add_column("OK?\n结果", no_wrap=True)
    for examined in platforms:
        for result in [*examined.results, *examined.addressed]:
            table.add_row(
                examined.platform,
                result.stream,
                f"{result.origin}{' *' if result.is_own else ' ↓' if result.is_addressed else ''}",
                f"{result.checked:,}",
                result.root.hex()[:_ROOT_CHARACTERS],
                f"{result.checkpoint_count:,}",
                _cosigners(result),
                f"{result.proof_count:,}",
                Text("ok", "green") if result.is_right else Text("BAD", "bold red"),
            )
        table.add_section()
    return table


def finding_lines(platforms: Sequence[Examined]) -> Iterator[Text]:
    """Say what is wrong, the first bad entry of each log first."""
    for examined in platforms:
        for result in [*examined.results, *examined.addressed]:
            first = result.first_bad
            if first is None:
                continue
            name = f"{examined.platform} {result.stream} {result.origin}"
            where = "first bad entry 首个异常条目" if first.first_sequence else "no bad entry 条目无异常"
            yield Text(f"{name}: {where} {_sentence(first)}", "bold red")
            for other in result.findings:
                if other is not first:
                    yield Text(f"{name}: also 另有 {_sentence(other)}", "red")


def as_document(platforms: Sequence[Examined], *, seconds: float) -> Mapping[str, Any]:
    """Return plain values for JSON."""
    return {
        "is_right": all(examined.is_right for examined in platforms),
        "seconds": round(seconds, 3),
        "platforms": [
            {
                "platform": examined.platform,
                "source": examined.label,
                "is_right": examined.is_right,
                "logs": [_log_document(result) for result in examined.results],
                "addressed": [_log_document(result) for result in examined.addressed],
            }
            for examined in platforms
        ],
    }


def _log_document(result: LogResult) -> Mapping[str, Any]:
    document = asdict(result)
    document["root"] = result.root.hex()
    document["is_right"] = result.is_right
    first = result.first_bad
    document["first_bad"] = asdict(first) if first is not None else None
    return document


def _sentence(finding: Finding) -> str:
    fault = finding.fault.value.replace("_", " ")
    return f"{finding.place}: {fault} {FAULT_TEXTS_ZH[finding.fault]} - {finding.detail}"


def _cosigners(result: LogResult) -> str:
    marks = {True: "", False: "!", None: "?"}
    return " ".join(f"{name.rpartition('/')[2]}{marks[is_valid]}" for name, is_valid in result.cosigners.items()) or "-"
