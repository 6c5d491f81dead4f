"""What a check of an exported file has found, for a person and for a program."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.audit_log.check import FileCheck, LogCheck
from cli.audit_log.manifest import Manifest

if TYPE_CHECKING:
    from rich.console import Console


def check_document(path: Path, manifest: Manifest, result: FileCheck) -> dict[str, Any]:
    """Return the result as it is printed in JSON."""
    return {
        "file": str(path),
        "is_right": result.is_right,
        "is_complete": result.is_right and not manifest.is_narrowed,
        "record_count": manifest.record_count,
        "from": manifest.start,
        "to": manifest.end,
        "filters": manifest.filters,
        "findings": result.findings,
        "logs": [_log_document(log) for log in result.logs],
    }


def show_check(console: "Console", path: Path, manifest: Manifest, result: FileCheck) -> None:
    """Print the result."""
    from rich.text import Text

    for log in result.logs:
        state = Text("ok", "green") if not log.findings else Text("WRONG 有问题", "bold red")
        closed = f", closed 截至 {log.closed_at.isoformat(timespec='seconds')}" if log.closed_at is not None else ""
        console.print(
            Text.assemble(
                f"{log.name}: {log.row_count:,} records 条, proven in the log of 日志长度 {log.size:,}{closed}  ", state
            )
        )
        console.print(f"  key 公钥 {log.verifier_key}", highlight=False, markup=False)
        for name, is_valid in log.cosigners.items():
            told = {True: "valid 有效", False: "INVALID 无效", None: "key not given 未提供公钥"}[is_valid]
            console.print(f"  cosigned 联署 {name}: {told}", highlight=False, markup=False)
        for finding in log.findings:
            console.print(f"  {finding}", style="red", highlight=False, markup=False)
    for finding in result.findings:
        console.print(finding, style="red", highlight=False, markup=False)
    console.print(_conclusion(path, manifest, result), highlight=False, markup=False)


def _conclusion(path: Path, manifest: Manifest, result: FileCheck) -> str:
    window = f"{manifest.start} … {manifest.end}"
    if not result.is_right:
        return f"{path}: is not what was exported 与导出内容不符"
    if manifest.is_narrowed:
        return (
            f"{path}: as exported, {window}; it was filtered, so nothing is said of what is left out "
            "内容一致; 经筛选导出, 完整性不可证"
        )
    told = f"{path}: as exported, and complete, {window} 内容一致且完整"
    # Behind the last record nothing stands that would prove it to be the last of its time: as of a copy, whose newer
    # records had not come.
    if open_logs := ", ".join(log.name for log in result.logs if log.closed_at is None):
        told += f"; up to the newest record held of 以下日志截至其最新记录: {open_logs}"
    return told


def _log_document(log: LogCheck) -> dict[str, Any]:
    return {
        "service": log.service,
        "platform": log.platform,
        "record_count": log.record_count,
        "row_count": log.row_count,
        "size": log.size,
        "verifier_key": log.verifier_key,
        "cosigners": log.cosigners,
        "closed_at": log.closed_at.isoformat() if log.closed_at is not None else None,
        "findings": log.findings,
    }
