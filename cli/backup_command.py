"""`zhichao backup`: make, check and restore backups of a platform with the embedded database server."""

import json
import os
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

    Databases and evidence stores of your own are backed up with their tools. Keys and tokens are not in a backup: keep
    copies of keys/ and secrets/ apart.

    自建数据库与证据库请用其自身工具备份。备份不含密钥与令牌, 请单独保存 keys/ 与 secrets/。
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
@click.option(
    "--earlier",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="An earlier backup on the same disk, whose evidence is linked, not copied. 已有备份, 相同证据以硬链接复用",
)
@_PROGRAMS
@_JSON
def create(data_directory: Path, target: Path, earlier: Path | None, binaries: Path | None, as_json: bool) -> None:
    """Make a backup of a platform, while it runs or not.

    创建备份, 运行中亦可。

    Everything acknowledged before is in it, and the evidence of the platform's own store. The directory appears when
    the backup is complete and checked.
    """
    from cli.backup.create import create as make
    from cli.backup.record import BackupError

    try:
        record = make(data_directory, target, earlier=earlier, binaries=binaries)
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


@backup.command("list-evidence")
@click.option(
    "--database-url",
    envvar="ZHICHAO_VIDEO_DATABASE_URL",
    help="Database of the video service; also from its settings. 视频服务数据库地址",
)
@click.option("--out", "target", required=True, type=click.Path(path_type=Path), help="New file for the list. 清单文件")
@_JSON
def list_evidence(database_url: str | None, target: Path, as_json: bool) -> None:
    """List the evidence that a database says is held, to check a copy of an evidence store of your own.

    列出数据库记载的全部证据文件, 用于核对自建证据库的副本。
    """
    from cli.backup import database, evidence_list
    from cli.backup.record import BackupError
    from services.common.settings import SettingsError, load
    from services.video.config import VideoSettings

    try:
        url = database_url or load(VideoSettings).database_url
        summary = evidence_list.write(target, database.read_objects(url.replace("postgresql+psycopg:", "postgresql:")))
    except SettingsError as error:
        raise click.UsageError(
            f"name the database with --database-url: {error} 请用 --database-url 指定数据库"
        ) from error
    except BackupError as error:
        _fail(error)
    if as_json:
        click.echo(json.dumps({"list": str(target), **asdict(summary)}))
        return
    click.echo(f"{target}: {summary.object_count:,} objects 个文件, {summary.object_bytes:,} bytes 字节")


@backup.command("check-evidence")
@click.argument("listed", type=click.Path(path_type=Path, exists=True))
@click.option("--fast", "is_fast", is_flag=True, help="Compare sizes only, and read nothing. 仅核对大小")
@_JSON
def check_evidence(listed: Path, is_fast: bool, as_json: bool) -> None:
    """Compare an evidence store with a list, or with the list of a backup: every byte against its digest.

    按清单核对证据库, 逐字节比对摘要。

    The store is the one that the settings of the video service name (ZHICHAO_VIDEO_S3_…), such as a copy of the bucket
    in another building. Exit status 1 when something is missing, changed, or not to be read.
    """
    from cli.backup.evidence import EVIDENCE_DIRECTORY, compare_store
    from cli.backup.evidence_list import LIST_FILE
    from cli.backup.record import BackupError
    from services.common.settings import SettingsError, load
    from services.video.config import VideoSettings
    from services.video.s3_connection import S3Settings
    from services.video.s3_store import S3ObjectStore

    found: list[dict[str, str]] = []

    def tell(digest: str, what: str) -> None:
        found.append({"digest": digest, "finding": what})
        if not as_json:
            click.echo(f"{what} {digest}")

    path = listed / EVIDENCE_DIRECTORY / LIST_FILE if listed.is_dir() else listed
    try:
        # Its other settings are of no interest here.
        given = {
            "ZHICHAO_VIDEO_DATABASE_URL": "postgresql://nobody@127.0.0.1/none",
            "ZHICHAO_VIDEO_SPOOL_DIRECTORY": ".",
        }
        store = S3ObjectStore(S3Settings.of(load(VideoSettings, {**given, **os.environ})))
    except (SettingsError, ValueError) as error:
        raise click.UsageError(f"the evidence store is not configured: {error} 未配置证据库") from error
    try:
        wrong = compare_store(store, path, is_fast=is_fast, tell=tell)
    except BackupError as error:
        _fail(error)
    finally:
        store.close()
    if as_json:
        click.echo(json.dumps({"list": str(path), "wrong": found}))
    elif not wrong:
        click.echo("everything is there and as it was 全部文件一致")
    raise click.exceptions.Exit(EXIT_FAILED if wrong else 0)


def _print(record: "BackupRecord", place: Path, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"backup": str(place), **asdict(record)}, ensure_ascii=False))
        return
    click.echo(f"backup 备份 {place}: platform 平台 {record.platform}, {record.start_time}")
    _print_logs(record.logs)
    kept = record.evidence
    if kept is None:
        return
    how = "copied 已复制" if kept.mode == "copied" else "listed, not copied: back their store up itself 仅清单"
    click.echo(f"  evidence 证据: {kept.object_count:,} objects, {kept.object_bytes:,} bytes, {how}")
    if kept.missing:
        click.echo(f"  {len(kept.missing):,} objects were missing or changed in the store 证据库中缺失或损坏", err=True)
    if kept.unreadable:
        click.echo(f"  {len(kept.unreadable):,} objects could not be read in the store 证据库中无法读取", err=True)


def _print_logs(logs: "Sequence[LogRecord]") -> None:
    for log in logs:
        own = " *" if log.is_own else ""
        click.echo(f"  {log.stream} {log.origin}{own}: {log.size:,} entries 条, root 根 {log.root[:16]}…")


def _fail(error: "BackupError") -> NoReturn:
    click.echo(f"zhichao backup: {error}", err=True)
    raise click.exceptions.Exit(EXIT_FAILED) from error
