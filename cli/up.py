"""`zhichao up`: everything a small county runs, from one command, until it is stopped."""

import os
import sys
from pathlib import Path
from typing import Literal

import click
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from cli.platform_layout import DEFAULT_BASE_PORT, LOOPBACK, PORT_BLOCK_SIZE, SERVICES
from cli.platform_state import PlatformState
from cli.token_file import SECRETS_DIRECTORY
from cli.up_options import ExitCode, UpError, UpOptions, parse_services

DATA_ROOT = Path("var")

EPILOG = """\b
Exit status 退出码:
  0  stopped as asked 正常停止
  1  unexpected error 意外错误
  2  wrong options 参数错误
  3  data directory in use, unusable, or of another platform 数据目录不可用
  4  a port is taken 端口被占用
  5  the database did not start or could not be upgraded 数据库启动或升级失败
  6  a service did not start 服务启动失败
  7  stopped, but a service had to be killed 停止超时,服务被强制结束
"""


def _read_services(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    try:
        return parse_services(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(epilog=EPILOG)
@click.option(
    "--platform",
    required=True,
    envvar="ZHICHAO_PLATFORM",
    metavar="CODE",
    help="Six-digit division code of this platform. 平台行政区划代码",
)
@click.option(
    "--upstream",
    default="",
    envvar="ZHICHAO_RELAY_UPSTREAM",
    metavar="HOST:PORT",
    help="Relay of the upper platform, its port for lower ones; without it this one stands alone. 上级平台转发服务地址",
)
@click.option(
    "--data",
    "data_directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of this platform's files; by default var/CODE. 数据目录",
)
@click.option(
    "--port",
    "base_port",
    type=click.IntRange(0, 65535 - PORT_BLOCK_SIZE),
    default=DEFAULT_BASE_PORT,
    show_default=True,
    help=f"Base of the {PORT_BLOCK_SIZE} ports that follow it; 0 finds free ones. 起始端口",
)
@click.option(
    "--listen",
    default=LOOPBACK,
    show_default=True,
    metavar="ADDRESS",
    help="Address of this machine to listen on. 监听地址",
)
@click.option(
    "--tls",
    "tls_directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    envvar="ZHICHAO_TLS_DIR",
    metavar="DIR",
    help="Folder with tls.crt, tls.key and ca.crt, as `zhichao pki issue` makes it; opens the port for lower "
    "platforms. "
    "证书目录",
)
@click.option(
    "--no-local-credentials",
    "issues_credentials",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Issue no tokens for the people of this machine. 不签发本机凭证",
)
@click.option(
    "--recovering",
    "is_recovering",
    is_flag=True,
    help="The databases were restored from a backup: write nothing before they were compared with the platform above. "
    "数据库由备份恢复, 与上级核对前不写入",
)
@click.option("--split", "is_split", is_flag=True, help="Run each service in a process of its own. 每个服务单独进程")
@click.option(
    "--services",
    default=",".join(SERVICES),
    show_default=True,
    callback=_read_services,
    metavar="NAME,…",
    help="Services to run. 要运行的服务",
)
@click.option(
    "--log-format",
    type=click.Choice(["console", "json"]),
    default="console",
    show_default=True,
    envvar="ZHICHAO_LOG_FORMAT",
    help="How log lines on standard error look. 日志格式",
)
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write addresses and process ids (JSON) there when all services serve. 就绪后写入的文件",
)
@click.option(
    "--postgres-bin",
    "postgres_binaries",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    envvar="ZHICHAO_POSTGRES_BIN",
    help="Programs of an installed PostgreSQL instead of the bundled one. 使用已安装的 PostgreSQL",
)
@click.option(
    "--postgres-user",
    "postgres_account",
    envvar="ZHICHAO_POSTGRES_USER",
    metavar="ACCOUNT",
    help="Account to run PostgreSQL under when started by root. root 启动时数据库所用账户",
)
@click.option("--stop-with-input", "watches_input", is_flag=True, hidden=True, help="Stop when standard input closes.")
def up(
    platform: str,
    upstream: str,
    data_directory: Path | None,
    base_port: int,
    listen: str,
    tls_directory: Path | None,
    issues_credentials: bool,
    is_recovering: bool,
    is_split: bool,
    services: tuple[str, ...],
    log_format: Literal["console", "json"],
    ready_file: Path | None,
    postgres_binaries: Path | None,
    postgres_account: str | None,
    watches_input: bool,
) -> None:
    """Start a platform and run it until Ctrl-C or SIGTERM.

    启动一个平台,按 Ctrl-C 停止。

    Brings its own PostgreSQL unless ZHICHAO_REGISTRY_DATABASE_URL and ZHICHAO_WEIGHING_DATABASE_URL name others, and
    its own S3 server for evidence unless ZHICHAO_VIDEO_S3_ENDPOINT names one. Makes the signing key at the first start,
    brings the databases up to date, and restarts whatever dies. A second Ctrl-C does not wait for running calls.

    自带 PostgreSQL 与证据库,首次启动生成签名密钥,自动升级数据库,并重启异常退出的服务。
    """
    from cli.up_run import PlatformRun
    from services.common.logs import configure

    configure(log_format)
    options = UpOptions(
        platform=platform,
        data_directory=(data_directory or DATA_ROOT / platform).absolute(),
        services=services,
        upstream=upstream,
        listen=listen,
        base_port=base_port,
        tls_directory=tls_directory.absolute() if tls_directory else None,
        issues_credentials=issues_credentials,
        is_split=is_split,
        log_format=log_format,
        ready_file=ready_file.absolute() if ready_file else None,
        postgres_binaries=postgres_binaries,
        postgres_account=postgres_account,
        watches_input=watches_input,
        environment={**os.environ, "ZHICHAO_RECOVERING": "true"} if is_recovering else dict(os.environ),
    )
    try:
        exit_code = PlatformRun(options, _show).run()
    except UpError as error:
        click.echo(f"zhichao up: {error}", err=True)
        exit_code = error.exit_code
    if exit_code == ExitCode.DRAIN_OVERRUN:
        click.echo("zhichao up: stopped, but a service had to be killed", err=True)
    sys.exit(int(exit_code))


def _show(state: PlatformState) -> None:
    """Print where the platform is: a panel for a person at a terminal, plain lines otherwise."""
    rows = [
        ("platform 平台", state.platform),
        *((name, address) for name, address in state.addresses.items()),
        *([("lower platforms 下级接入", state.peer_address)] if state.peer_address else []),
        ("data 数据", state.data_directory),
        ("tokens 令牌", f"{state.data_directory}/{SECRETS_DIRECTORY}"),
        *([("evidence store 证据库", state.object_endpoint)] if state.object_endpoint else []),
        ("database 数据库", "embedded PostgreSQL" if state.database_urls else "given by URL"),
        ("upstream 上级", state.upstream or "none 无"),
        ("stop 停止", f"Ctrl-C, or kill {state.pid}"),
    ]
    console = Console()
    if not console.is_terminal:
        for name, value in rows:
            click.echo(f"{name}: {value}")
        return
    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(name, value)
    console.print(Panel(table, title="zhichao 治超", expand=False))
