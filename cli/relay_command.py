"""`zhichao relay`: the links of a platform in detail, and the entries that it holds and could not project."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.access import CallerOptions, access_options
from cli.help_text import CommandGroup
from cli.service_reach import DATA, JSON

if TYPE_CHECKING:
    from cli.relay_parked import JournalServices
    from cli.status_targets import Target

EXIT_PARKED = 1
EXIT_UNREACHABLE = 1

# Under traffic a link that works is catching up most of the time.
WORKING_STATES = ("CURRENT", "CATCHING_UP", "NO_UPSTREAM")

_SERVICES = click.option(
    "--service",
    "service_addresses",
    multiple=True,
    metavar="HOST:PORT",
    help="Address of a service, instead of --data; may be repeated. 服务地址, 可多次使用。",
)
_ORIGIN = click.option("--origin", default="", metavar="CODE", help="Only entries of this platform. 仅此来源平台。")


@click.group("relay", cls=CommandGroup)
def relay() -> None:
    """Look after the link to the upper level, and after parked entries.

    查看上下级链路, 处理搁置条目。

    Without --data or an address, the one platform that runs here is meant (var/*).
    """


@relay.command("status")
@DATA
@click.option("--relay", "relay_address", metavar="HOST:PORT", help="Address of the relay. 转发服务地址。")
@JSON
@access_options
def status(
    data_directory: Path | None,
    relay_address: str | None,
    as_json: bool,
    caller_options: CallerOptions,
) -> None:
    """Show the link upwards, every log on it, and the links from below.

    查看上行链路、各日志进度与下级连接。

    Exit status: 0 when entries go up or there is no upstream; 1 when the link is not up, stalled or refused, or the
    relay does not answer. 退出码: 0 正常上报或无上级; 1 链路中断、停滞、被拒绝或转发服务不可用。
    """
    from cli.relay_display import link_report
    from cli.status_figures import as_document
    from cli.status_probe import PlatformProbe
    from cli.terminal import Console

    probe = PlatformProbe(
        _only_relay(_target(data_directory, (relay_address,) if relay_address else (), caller_options))
    )
    try:
        figures = probe.look()
    finally:
        probe.close()
    console = Console()
    if as_json:
        click.echo(json.dumps(as_document(figures), ensure_ascii=False))
    else:
        console.print(link_report(figures))
    is_well = figures.is_well and figures.link is not None and figures.link.state in WORKING_STATES
    raise click.exceptions.Exit(0 if is_well else EXIT_UNREACHABLE)


@relay.command("parked")
@DATA
@_SERVICES
@_ORIGIN
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="At most. 最多条数。")
@JSON
@access_options
def parked(
    data_directory: Path | None,
    service_addresses: tuple[str, ...],
    origin: str,
    limit: int,
    as_json: bool,
    caller_options: CallerOptions,
) -> None:
    """List entries that are held but could not be projected, of all services.

    列出已保存但无法解析入表的条目。

    Exit status: 0 when there are none; 1 when there are. 退出码: 0 无; 1 有搁置条目。
    """
    from cli.relay_display import parked_table
    from cli.terminal import Console

    with _journals(data_directory, service_addresses, caller_options) as journals:
        found = list(journals.parked(origin, limit + 1))
    entries, has_more = found[:limit], len(found) > limit
    if as_json:
        click.echo(json.dumps({"parked": entries, "has_more": has_more}, ensure_ascii=False))
    elif not entries:
        click.echo("no parked entries 无搁置条目")
    else:
        Console().print(parked_table(entries))
        if has_more:
            click.echo(f"more than {limit:,}: raise --limit 另有更多")
    raise click.exceptions.Exit(EXIT_PARKED if entries else 0)


@relay.command("replay")
@DATA
@_SERVICES
@_ORIGIN
@JSON
@access_options
def replay(
    data_directory: Path | None,
    service_addresses: tuple[str, ...],
    origin: str,
    as_json: bool,
    caller_options: CallerOptions,
) -> None:
    """Project parked entries again, after an upgrade or a repair. May be repeated.

    重新处理搁置条目, 可重复执行。

    Exit status: 0 when none stays parked; 1 when some do. 退出码: 0 全部处理; 1 仍有搁置。
    """
    with _journals(data_directory, service_addresses, caller_options) as journals:
        results: dict[str, dict[str, int]] = dict(journals.replay(origin))
    if as_json:
        click.echo(json.dumps(results, ensure_ascii=False))
    else:
        for service, counts in results.items():
            click.echo(f"{service}: {counts['projected']:,} projected 已处理, {counts['parked']:,} still parked 仍搁置")
    raise click.exceptions.Exit(EXIT_PARKED if any(counts["parked"] for counts in results.values()) else 0)


@relay.command("confirm-restored")
@DATA
@_SERVICES
@click.option("--upstream-is-lost", is_flag=True, help="Although there is an upstream. 上级平台已无法恢复时使用。")
@click.option("--yes", is_flag=True, help="Do not ask. 不再询问。")
@JSON
@access_options
def confirm_restored(
    data_directory: Path | None,
    service_addresses: tuple[str, ...],
    upstream_is_lost: bool,
    yes: bool,
    as_json: bool,
    caller_options: CallerOptions,
) -> None:
    """Let services write again that were restored from a backup, where nobody above can be asked.

    由备份恢复且无上级可核对时, 确认后恢复写入。

    A platform with an upstream needs this not: its relay brings back what is missing and ends the recovery. What
    somebody else holds of these logs beyond the backup is contradicted by what is written from now on.

    Exit status: 0 when nothing recovers any more; 1 when it still does. 退出码: 0 已确认; 1 未确认。
    """
    import grpc

    from cli.relay_recovery import RecoveringServices, RecoveryError
    from services.common.rpc_client import service_error

    services = RecoveringServices(_target(data_directory, service_addresses, caller_options))
    try:
        recovering = services.find()
        if recovering and not upstream_is_lost and (upstream := services.upstream()):
            raise click.ClickException(
                f"the upstream {upstream} can be asked: the relay does that when it reaches it, and ends the recovery "
                "itself; say --upstream-is-lost if it never will 上级平台可核对, 转发服务会自动完成"
            )
        listed = ", ".join(f"{one.service} ({one.size:,} entries 条)" for one in recovering)
        if recovering and not yes:
            click.confirm(f"Write again behind what is held now 从现有位置继续写入: {listed}?", abort=True)
        sizes = services.confirm(recovering)
    except RecoveryError as error:
        raise click.ClickException(str(error)) from error
    except grpc.RpcError as rpc_error:
        error_read = service_error(rpc_error)
        raise click.ClickException(f"{error_read.message} ({error_read.reason}) {error_read.message_zh}") from rpc_error
    if as_json:
        click.echo(json.dumps(dict(sizes), ensure_ascii=False))
    elif not sizes:
        click.echo("nothing recovers 没有待核对的日志")
    else:
        click.echo(f"writes again 已恢复写入: {listed}")


def _target(data_directory: Path | None, addresses: tuple[str, ...], caller_options: CallerOptions) -> "Target":
    """Return the one platform that is meant; a usage error when it is none or several."""
    from cli.one_platform import NotReachedError, one_platform

    if data_directory is not None and addresses:
        raise click.UsageError("give --data or an address, not both 两者只能给出一个")
    try:
        return one_platform([str(data_directory)] if data_directory is not None else addresses, caller_options)
    except NotReachedError as error:
        click.echo(f"zhichao relay: {error.message}", err=True)
        raise click.exceptions.Exit(EXIT_UNREACHABLE) from error


def _only_relay(target: "Target") -> "Target":
    import dataclasses

    if "relay" not in target.addresses:
        raise click.UsageError(f"{target.platform} has no relay there 该平台未运行转发服务")
    return dataclasses.replace(
        target,
        addresses={"relay": target.addresses["relay"]},
        health_addresses={name: one for name, one in target.health_addresses.items() if name == "relay"},
    )


@contextmanager
def _journals(
    data_directory: Path | None, addresses: tuple[str, ...], caller_options: CallerOptions
) -> "Iterator[JournalServices]":
    import grpc

    from cli.relay_parked import JournalServices
    from services.common.rpc_client import service_error

    target = _target(data_directory, addresses, caller_options)
    if set(target.addresses) <= {"relay"}:
        raise click.UsageError(
            "the relay holds no entries itself: name the other services with --service, or --data"
            " 转发服务本身不存条目, 请用 --service 指定其他服务, 或用 --data"
        )
    with JournalServices(target) as journals:
        try:
            yield journals
        except grpc.RpcError as rpc_error:
            error = service_error(rpc_error)
            raise click.ClickException(f"{error.message} ({error.reason}) {error.message_zh}".rstrip()) from rpc_error
