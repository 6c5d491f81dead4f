"""`zhichao status`: what platforms hold, how far their links are, and whether their services and stores work."""

import json
import signal
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cli.access import CallerOptions, access_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cli.status_figures import PlatformFigures
    from cli.status_probe import PlatformProbes

# Two looks make a rate; a second between them is long enough to see and short enough to wait.
LOOK_SECONDS = 1.0


@click.command()
@click.argument("named", metavar="[ADDRESS|DATA_DIR]...", nargs=-1)
@click.option("--watch", "is_watched", is_flag=True, help="Go on until Ctrl-C. 持续刷新。")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with --watch one line per look. 以 JSON 输出。")
@access_options
def status(named: tuple[str, ...], is_watched: bool, as_json: bool, caller_options: CallerOptions) -> None:
    """Show what running platforms hold and how far their links are.

    查看各级平台的数据、链路与服务状态。

    A platform is named by its data directory, a directory of several, or the addresses of its services; without any,
    those started here (var/*, var/run/*) are shown. Suspected overloads are those weighed today.

    Exit status: 0 when every service serves; 1 when a platform or service does not answer; 2 when nothing was found.
    An evidence store in trouble is told; `zhichao evidence store` has an exit status for it.
    退出码: 0 全部正常; 1 有平台或服务不可用; 2 未找到平台。证据库的退出码见 `zhichao evidence store`。
    """
    from cli.status_probe import PlatformProbes
    from cli.status_targets import TargetError, find
    from cli.terminal import Console

    try:
        targets = find(named, caller_options)
    except TargetError as error:
        raise click.UsageError(str(error)) from error
    with PlatformProbes(targets) as probes:
        latest: Sequence[PlatformFigures] = probes.look()
        try:
            latest = _watch(probes, as_json=as_json) if is_watched else _once(probes, as_json=as_json)
        except KeyboardInterrupt:
            Console(stderr=True).print()
    raise click.exceptions.Exit(0 if all(figures.is_well for figures in latest) else 1)


def _once(probes: "PlatformProbes", *, as_json: bool) -> "Sequence[PlatformFigures]":
    from cli.terminal import Console

    time.sleep(LOOK_SECONDS)
    latest = probes.look()
    if as_json:
        _print_json(latest)
    else:
        console = Console()
        console.print(_tables(latest, console.width))
    return latest


def _watch(probes: "PlatformProbes", *, as_json: bool) -> "Sequence[PlatformFigures]":
    from rich.live import Live

    from cli.status_display import plain_line
    from cli.terminal import Console

    console = Console()
    # An event and no exception: one that is raised inside a callback of gRPC is swallowed there.
    is_over = threading.Event()
    previous = signal.signal(signal.SIGINT, lambda _number, _frame: is_over.set())
    try:
        latest = probes.look()
        if as_json or not console.is_terminal:
            while True:
                if as_json:
                    _print_json(latest)
                else:
                    for figures in latest:
                        click.echo(plain_line(figures))
                if is_over.wait(LOOK_SECONDS):
                    return latest
                latest = probes.look()
        with Live(_tables(latest, console.width), console=console, auto_refresh=False, screen=False) as live:
            while not is_over.wait(LOOK_SECONDS):
                latest = probes.look()
                live.update(_tables(latest, console.width), refresh=True)
            return latest
    finally:
        signal.signal(signal.SIGINT, previous)


def _tables(latest: "Sequence[PlatformFigures]", width: int) -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    from cli.status_display import log_table, platform_table, service_line
    from cli.store_display import store_line

    known = [figures for figures in latest if not figures.problem]
    parts: list[RenderableType] = [platform_table(latest, width=width)]
    if known:
        parts += [log_table(known, width=width), Text("* own log 本级日志", "dim")]
        for figures in known:
            parts.append(service_line(figures))
            if figures.store is not None:
                parts.append(store_line(figures.platform, figures.store))
    return Group(*parts)


def _print_json(latest: "Sequence[PlatformFigures]") -> None:
    from cli.status_figures import as_document

    click.echo(json.dumps([as_document(figures) for figures in latest], ensure_ascii=False))
