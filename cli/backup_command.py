"""`zhichao backup`: make, check and restore backups of a platform with the embedded database server."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from cli.help_text import CommandGroup

if TYPE_CHECKING:
    from cli.backup.record import BackupError, BackupRecord, LogRecord

EXIT_FAILED = 1

_PROGRAMS = click.option(
    "--postgres-bin",
    "binaries",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    envvar="ZHICHAO_POSTGRES_BIN",
    help="Programs of an installed PostgreSQL instead of the bundled one. 使用已安装的 PostgreSQL",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON. 以 JSON 输出。")
_BACKUP = click.argument("backup", type=click.Path(path_type=Path, file_okay=False, exists=True))


@click.group(cls=CommandGroup)
def backup() -> None:
    """Back up and restore a platform with its own PostgreSQL.

    备份与恢复自带数据库的平台。

    Databases of a server of your own are backed up with its tools. Keys and tokens are not in a backup: keep copies of
    keys/ and secrets/ apart.

    自建数据库请用其自身工具备份。备份不含密钥与令牌, 请单独保存 keys/ 与 secrets/。
    """
    from services.common.logs import configure

    # What the server says while it is started is no news here, what goes wrong is.
    configure("console", "warning")


@backup.command()
@click.option(
    "--data",
    "data_directory",
    required=True,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Data directory of the platform, which may run. 数据目录, 平台可在运行中",
)
@click.option(
    "--out", "target", required=True, type=click.Path(path_type=Path), help="New directory for the backup. 备份目录"
)
@_PROGRAMS
@_JSON
def create(data_directory: Path, target: Path, binaries: Path | None, as_json: bool) -> None:
    """Make a backup of a platform, while it runs or not.

    创建备份, 运行中亦可。

    Everything acknowledged before is in it. The directory appears when the backup is complete and checked.
    """
    from cli.backup.create import create as make
    from cli.backup.record import BackupError

    try:
        record = make(data_directory, target, binaries=binaries)
    except BackupError as error:
        _fail(error)
    _print(record, target, as_json=as_json)


@backup.command()
@_BACKUP
@_PROGRAMS
@_JSON
def verify(backup: Path, binaries: Path | None, as_json: bool) -> None:
    """Check that a backup is complete and as it was written.

    校验备份是否完整、未变。
    """
    from cli.backup.record import BackupError
    from cli.backup.restore import check

    try:
        record = check(backup, binaries=binaries)
    except BackupError as error:
        _fail(error)
    _print(record, backup, as_json=as_json)


@backup.command()
@_BACKUP
@click.option(
    "--data",
    "data_directory",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Data directory to restore to; it holds no database yet. 恢复到的数据目录",
)
@click.option(
    "--signing-key",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Key file of the platform, put in its place. 平台签名密钥文件",
)
@click.option(
    "--secrets-from",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Directory with keys/ and secrets/ of the platform, put in their places. 含 keys/ 与 secrets/ 的目录",
)
@click.option(
    "--stands-alone",
    "is_standing_alone",
    is_flag=True,
    help="No platform above holds more than the backup: write at once. 无上级平台, 立即可写",
)
@_PROGRAMS
@_JSON
def restore(
    backup: Path,
    data_directory: Path,
    signing_key: Path | None,
    secrets_from: Path | None,
    is_standing_alone: bool,
    binaries: Path | None,
    as_json: bool,
) -> None:
    """Restore a backup to a data directory; start it with `zhichao up` afterwards.

    恢复备份到数据目录, 之后用 `zhichao up` 启动。

    Services write nothing new before the relay has compared the platform's own logs with what the platform above holds
    and has fetched back what is missing. So no place in a log is used twice.

    在与上级核对并取回缺失条目之前, 服务不写入新条目, 以免序号重复。
    """
    from cli.backup.record import BackupError
    from cli.backup.restore import restore as put_back

    try:
        restored = put_back(
            backup,
            data_directory,
            signing_key=signing_key,
            secrets_from=secrets_from,
            is_standing_alone=is_standing_alone,
            binaries=binaries,
        )
    except BackupError as error:
        _fail(error)
    if as_json:
        document = {
            "platform": restored.record.platform,
            "data_directory": str(data_directory),
            "logs": [asdict(log) for log in restored.logs],
            "recovering": list(restored.marked),
            "has_signing_key": restored.has_signing_key,
        }
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    click.echo(f"platform 平台 {restored.record.platform} is restored to 已恢复到 {data_directory}")
    _print_logs(restored.logs)
    if restored.marked:
        click.echo("Nothing new is written before the logs are compared with the platform above. 与上级核对前不写入。")
    if not restored.has_signing_key:
        click.echo(
            f"Put keys/ and secrets/ back into {data_directory} before the start, or restore with --secrets-from."
            " 启动前请放回 keys/ 与 secrets/, 或用 --secrets-from 恢复。"
        )


def _print(record: "BackupRecord", place: Path, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"backup": str(place), **asdict(record)}, ensure_ascii=False))
        return
    click.echo(f"backup 备份 {place}: platform 平台 {record.platform}, {record.start_time}")
    _print_logs(record.logs)


def _print_logs(logs: "Sequence[LogRecord]") -> None:
    for log in logs:
        own = " *" if log.is_own else ""
        click.echo(f"  {log.stream} {log.origin}{own}: {log.size:,} entries 条, root 根 {log.root[:16]}…")


def _fail(error: "BackupError") -> NoReturn:
    click.echo(f"zhichao backup: {error}", err=True)
    raise click.exceptions.Exit(EXIT_FAILED) from error
