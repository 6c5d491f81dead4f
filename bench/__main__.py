"""Runs the measurements: `python -m bench [--json FILE] [--quick] [NAME …]`."""

import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench import catch_up, evidence, harness, list_scale, security_cost, single_latency, stream_ingest
from bench.harness import Result

MEASUREMENTS: dict[str, tuple[Callable[[], Result], Callable[[], Result]]] = {
    "stream_ingest": (stream_ingest.run, lambda: stream_ingest.run(60_000, 3)),
    "catch_up": (catch_up.run, lambda: catch_up.run(30_000)),
    "single_latency": (single_latency.run, lambda: single_latency.run(5)),
    "security_cost": (security_cost.run, lambda: security_cost.run(30_000, 3, 5)),
    "list_scale": (list_scale.run, lambda: list_scale.run(10_000, 200_000)),
    "memory": (stream_ingest.memory, lambda: stream_ingest.memory(100_000)),
    "evidence": (evidence.run, lambda: evidence.run(3, 64 << 20, 16 << 20, 100)),
}
"""Each measurement in full, and small enough to see whether it works."""


@click.command()
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there too.")
@click.option("--quick", is_flag=True, help="Small sizes: to see that it works, not for figures.")
@click.argument("names", nargs=-1, type=click.Choice(list(MEASUREMENTS)))
def main(json_file: Path | None, quick: bool, names: tuple[str, ...]) -> None:
    """Measure speed and memory beside yardsticks in the same run; all measurements unless some are named."""
    console = Console()
    results = []
    for name in names or MEASUREMENTS:
        console.print(f"[bold]{name}[/bold] …")
        result = MEASUREMENTS[name][1 if quick else 0]()
        results.append(result)
        table = Table(title=f"{result.name}: {result.goal}", title_justify="left")
        table.add_column("figure")
        table.add_column("value", justify="right")
        for figure, value in result.figures.items():
            table.add_row(figure, f"{value:,.3f}" if value < 1_000 else f"{value:,.0f}")
        console.print(table)
        console.print("goal reached" if result.is_reached else "[bold]goal not reached[/bold]")
        if json_file is not None:
            json_file.write_text(harness.dump(results), encoding="utf-8")
    if any(result.is_reached is False for result in results):
        sys.exit(1)


if __name__ == "__main__":
    main()
