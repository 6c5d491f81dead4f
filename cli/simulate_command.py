"""`zhichao simulate`: source units, trucks and terminals for a platform that has none yet."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.access import CallerAccess, CallerOptions, access_options, caller_access, open_channel
from cli.simulate.options import TrafficOptions
from cli.simulate.site import COUNTY, SEED_MAX, UNITS_MAX

if TYPE_CHECKING:
    from rich.console import Console

    from cli.simulate.simulation import Simulation
    from cli.simulate.site import Site

# More than any machine of a test sends; the schedule would only fall behind.
_RATE_MAX = 10_000.0
_REFRESHES_PER_SECOND = 4


def _traffic_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add one option for each rate of the traffic."""
    for field in reversed(dataclasses.fields(TrafficOptions)):
        low, high = field.metadata["bounds"]
        option = click.option(
            f"--{field.name.replace('_', '-')}",
            type=click.FloatRange(low, high),
            default=field.default,
            show_default=True,
            help=f"{field.metadata['text']} {field.metadata['text_zh']}。",
        )
        function = option(function)
    return function


@click.command("simulate", short_help="Send simulated weighings. 模拟称重数据")
@click.option(
    "--weighing", "weighing_address", required=True, metavar="HOST:PORT", help="Weighing service. 称重服务地址。"
)
@click.option(
    "--registry",
    "registry_address",
    metavar="HOST:PORT",
    help="Registry; source units, points, scales and certificates are registered there first, unless they are held. "
    "Without it they must be known. 登记服务地址, 先登记源头单位、称重点、衡器和检定证书。",
)
@click.option("--platform", "platform_code", default=COUNTY, show_default=True, help="Platform. 平台代码。")
@click.option(
    "--units", type=click.IntRange(1, UNITS_MAX), default=12, show_default=True, help="Source units. 源头单位数量。"
)
@click.option(
    "--rate",
    type=click.FloatRange(0, _RATE_MAX, min_open=True),
    default=50.0,
    show_default=True,
    help="Records a second over all terminals. 每秒记录数。",
)
@click.option(
    "--for",
    "seconds",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to weigh; 0 goes on until Ctrl-C. 持续秒数, 0 为直到中断。",
)
@click.option(
    "--seed",
    type=click.IntRange(0, SEED_MAX),
    default=1,
    show_default=True,
    help="Same seed, same units and trucks. 随机种子, 相同则结果相同。",
)
@click.option(
    "--ledger",
    "ledger_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write each acknowledgement as a JSON line; the terminals' queues are kept beside it and sent on by the next "
    "run with the same file. 确认台账文件, 终端队列存于其旁。",
)
@click.option(
    "--drain-for",
    "drain_seconds",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to wait at the end for the last answers. 结束时等待应答的秒数。",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, no table. 以 JSON 输出结果。")
@click.option(
    "--issuer-token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the token of the security administrator who issues the terminals' tokens; with --registry only. "
    "签发终端令牌的安全管理员令牌文件。",
)
@access_options
@_traffic_options
def command(
    weighing_address: str,
    registry_address: str | None,
    platform_code: str,
    units: int,
    rate: float,
    seconds: float,
    seed: int,
    ledger_path: Path | None,
    drain_seconds: float,
    as_json: bool,
    issuer_token_file: Path | None,
    caller_options: CallerOptions,
    **rates: float,
) -> None:
    """Send simulated weighings to a platform.

    Made-up source units of 古县 weigh made-up trucks: classes, layouts, loads and spacings follow real traffic, with
    true overloads, missing and misread plates, resends, late and out-of-order records, and terminals that are cut off
    and send their backlog afterwards. A terminal keeps each record until it is acknowledged.

    向平台发送模拟称重记录: 车型、轴型、载重、轴距按实测车流分布生成,
    含真实超限、无牌、误识、重发、迟报、乱序和离线补报; 终端在得到确认前一直保留记录。

    Exit status: 0 when every record was answered and every repeat got the first receipt; 1 otherwise; 2 for wrong
    options. 退出码: 0 全部应答且回执一致; 1 其他; 2 参数错误。
    """
    from rich.console import Console

    from cli.simulate import display
    from cli.simulate.credentials import issue_terminals
    from cli.simulate.simulation import Simulation
    from cli.simulate.site import make_site
    from cli.status_targets import local_directory
    from services.common.errors import ServiceError
    from zhichao.access.v1.service_pb2_grpc import AccessServiceStub

    console = Console(stderr=as_json)
    try:
        options = TrafficOptions(**rates)
        site = make_site(seed=seed, units=units, platform_code=platform_code)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    directory = local_directory(weighing_address, registry_address)
    caller = caller_access(caller_options, directory, ("operator",))
    tokens = {unit.source_unit_id: caller.token for unit in site.units}
    if registry_address is not None:
        issuer = caller_access(
            dataclasses.replace(caller_options, token_file=issuer_token_file), directory, ("security",)
        )
        try:
            _register(console, registry_address, site, caller)
            with open_channel(registry_address, issuer) as channel:
                tokens = dict(issue_terminals(AccessServiceStub(channel), site, rate))
        except ServiceError as error:
            raise click.ClickException(f"registration: {error.message} ({error.reason}) {error.message_zh}") from error
    simulation = Simulation(
        lambda: open_channel(weighing_address, CallerAccess(tls=caller_options.tls)),
        site,
        tokens,
        seed=seed,
        records_per_second=rate,
        seconds=seconds or None,
        options=options,
        ledger_path=ledger_path,
        keeps_receipts=False,
    )
    is_drained = _run(console, simulation, rate=rate, seconds=seconds, drain_seconds=drain_seconds, is_quiet=as_json)
    if as_json:
        click.echo(json.dumps(display.summary(simulation, seed=seed, is_drained=is_drained), ensure_ascii=False))
    else:
        display.show_refusals(console, simulation)
        if not is_drained:
            console.print(f"[red]{simulation.waiting_count:,} records were not answered 未应答[/red]")
    if not is_drained or simulation.counters.mismatches:
        raise click.exceptions.Exit(1)


def _register(console: "Console", address: str, site: "Site", caller: CallerAccess) -> None:
    from cli.simulate.registration import register_site
    from services.common.clock import SystemClock
    from zhichao.registry.v1 import service_pb2_grpc

    channel = open_channel(address, caller)
    try:
        registration = register_site(
            service_pb2_grpc.RegistryServiceStub(channel), site, today=SystemClock().now().date()
        )
    finally:
        channel.close()
    console.print(
        f"Registered {len(site.units)} source units with {len(site.stations)} scales "
        f"已登记源头单位 {len(site.units)} 家、衡器 {len(site.stations)} 台"
    )
    if registration.differing:
        names = ", ".join(registration.differing[:5])
        console.print(
            f"[yellow]{len(registration.differing)} are held with other content 已存在且内容不同: {names}[/yellow]"
        )
    for warning in registration.warnings[:5]:
        console.print(f"[yellow]{warning}[/yellow]")


def _run(
    console: "Console", simulation: "Simulation", *, rate: float, seconds: float, drain_seconds: float, is_quiet: bool
) -> bool:
    """Run to the end or to Ctrl-C, then drain; a second Ctrl-C ends at once. Returns whether all was answered."""
    from rich.live import Live

    from cli.simulate.display import live_table

    asked = f"{seconds:g} s" if seconds else "until Ctrl-C"
    is_shown = console.is_terminal and not is_quiet
    live = Live(console=console, auto_refresh=False, transient=False) if is_shown else None
    pause_seconds = 1 / _REFRESHES_PER_SECOND

    def show(state: str) -> None:
        if live is not None:
            live.update(live_table(simulation, records_per_second=rate, state=state), refresh=True)

    is_drained = False
    simulation.start()
    try:
        if live is not None:
            live.start()
        try:
            while not simulation.wait(pause_seconds):
                show(f"weighing for {asked} 称重中")
        except KeyboardInterrupt:
            show("stopping 正在停止")
        show("waiting for the last answers 等待应答")
        is_drained = simulation.stop(drain=True, timeout_seconds=drain_seconds)
        show("ended 已结束")
    except KeyboardInterrupt:
        is_drained = simulation.stop(drain=False)
        show("broken off 已中断")
    finally:
        if live is not None:
            live.stop()
    if not is_shown and not is_quiet:
        console.print(live_table(simulation, records_per_second=rate, state="ended 已结束"))
    return is_drained
