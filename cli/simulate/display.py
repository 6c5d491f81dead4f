"""What `zhichao simulate` shows: a table while it runs and the result at the end."""

import dataclasses

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from cli.simulate.simulation import Simulation

# A line of a refusal that fits on a narrow screen; the ledger has the whole text.
_MESSAGE_CHARACTERS_MAX = 160


def live_table(simulation: Simulation, *, records_per_second: float, state: str) -> Group:
    """Make the table of the running simulation."""
    counters = simulation.counters
    elapsed = max(simulation.elapsed_seconds, 1e-3)
    table = Table(title=f"Terminals 模拟终端 · {state}", title_justify="left", show_header=True, expand=False)
    table.add_column("Quantity", no_wrap=True)
    table.add_column("数量", no_wrap=True)
    table.add_column("Records", justify="right", no_wrap=True)
    table.add_column("Per second", justify="right", no_wrap=True)

    def row(name: str, name_zh: str, count: int, style: str = "") -> None:
        table.add_row(name, name_zh, f"{count:,}", f"{count / elapsed:,.1f}", style=style)

    row("Generated", "已过磅", counters.generated)
    row("Sent", "已发送", counters.sent)
    row("Acknowledged", "已确认", counters.acknowledged, "bold")
    row("Duplicate answers", "重复应答", counters.duplicates)
    row("Backfilled", "离线补报", counters.backfilled)
    row("Suspected overloads", "疑似超限", counters.suspected, "yellow" if counters.suspected else "")
    row("Undetermined", "无法判定", counters.undetermined)
    row("Refused", "被拒绝", counters.refused, "red" if counters.refused else "")
    row("Retries", "重试", counters.retries)
    row("Receipt mismatches", "回执不一致", counters.mismatches, "bold red" if counters.mismatches else "")
    table.add_section()
    table.add_row("Waiting", "待确认", f"{simulation.waiting_count:,}", "")
    table.add_row("Terminals (cut off)", "终端 (离线)", f"{simulation.terminal_count} ({simulation.offline_count})", "")
    table.add_row("Time, asked rate", "用时, 设定速率", f"{elapsed:,.0f} s", f"{records_per_second:g}")
    lines: list[Table | Text] = [table]
    if simulation.last_error:
        lines.append(
            Text(f"waiting for the platform 等待平台: {simulation.last_error[:_MESSAGE_CHARACTERS_MAX]}", "yellow")
        )
    return Group(*lines)


def show_refusals(console: Console, simulation: Simulation) -> None:
    """Show the first refusal of each reason."""
    if not simulation.refusals:
        return
    table = Table(title="Refused 被拒绝", title_justify="left")
    table.add_column("Reason 原因", no_wrap=True)
    table.add_column("Records 条数", justify="right")
    table.add_column("First 首条", overflow="fold")
    for refusal in simulation.refusals:
        table.add_row(refusal.reason, f"{refusal.count:,}", Text(refusal.message[:_MESSAGE_CHARACTERS_MAX]))
    console.print(table)


def summary(simulation: Simulation, *, seed: int, is_drained: bool) -> dict[str, object]:
    """Return the result as plain values."""
    return {
        "seed": seed,
        "start_time": simulation.start_time.isoformat(),
        **dataclasses.asdict(simulation.counters),
        "unanswered": simulation.waiting_count,
        "is_drained": is_drained,
        "refusals": [dataclasses.asdict(refusal) for refusal in simulation.refusals],
    }
