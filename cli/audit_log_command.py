"""`zhichao audit-log`: who has been shown or has changed what, and who was refused; looked at, exported, checked."""

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cli.access import CallerOptions, access_options
from cli.audit_log.progress import shown_progress
from cli.audit_log.reach import compare_with, logs_of, reach_services
from cli.help_text import CommandGroup
from cli.service_reach import DATA, JSON

if TYPE_CHECKING:
    from cli.audit_log.manifest import Manifest

EXIT_DIFFERS: Final = 1
EXIT_CANNOT_LOOK: Final = 2
EXIT_STOPPED: Final = 3
EXIT_INTERRUPTED: Final = 130

_SERVICES = click.option(
    "--service",
    "service_addresses",
    multiple=True,
    metavar="HOST:PORT",
    help="Address of a service, instead of --data; name all that keep records. 服务地址, 须列出全部服务。",
)
_FROM = click.option(
    "--from", "start_text", metavar="TIME", help="From this day or time on; six months ago unless given. 起始时间。"
)
_TO = click.option(
    "--to", "end_text", metavar="TIME", help="Up to this time, or to the end of this day; now unless given. 截止时间。"
)
_ZONE = click.option(
    "--time-zone", default="Asia/Shanghai", show_default=True, help="Zone of times without one, and of the file. 时区。"
)
_ACTOR = click.option("--actor", "actors", multiple=True, metavar="NAME", help="Only of e.g. person/li. 仅此主体。")
_ACTION = click.option("--action", "actions", multiple=True, metavar="METHOD", help="Only this method. 仅此操作。")
_SUBJECT = click.option(
    "--subject", "subjects", multiple=True, metavar="ID", help="Only what names it, as `field=id` or `id`. 仅此对象。"
)
_UNIT = click.option("--unit", "units", multiple=True, metavar="ID", help="Only this source unit. 仅此源头单位。")


@click.group("audit-log", cls=CommandGroup)
def audit_log() -> None:
    """Look at the audit log, export it, and check what was exported. For auditors.

    审计日志的查看、导出与核验, 仅限审计员。

    The audit log tells who has been shown personal data, credentials or evidence, who has changed permissions, and who
    was refused. Without --data or an address, the one platform that runs here is meant (var/*).
    """


@audit_log.command("export")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["jsonl", "csv"]),
    help="JSON Lines, or CSV for spreadsheets; by the file's name unless given. 文件格式。",
)
@_FROM
@_TO
@_ZONE
@click.option(
    "--origin", "origins", multiple=True, metavar="CODE", help="Records of this platform below instead. 指定下级平台。"
)
@click.option("--all-origins", is_flag=True, help="Records of all platforms held here. 本平台及全部下级平台。")
@_ACTOR
@_ACTION
@_SUBJECT
@_UNIT
@click.option("--purpose", default="", metavar="TEXT", help="Why; it stands in the audit log. 访问目的。")
@click.option("--resume", "resumes", is_flag=True, help="Go on with an export that broke off. 继续未完成的导出。")
@DATA
@_SERVICES
@JSON
@access_options
def export(
    path: Path,
    format_name: str | None,
    start_text: str | None,
    end_text: str | None,
    time_zone: str,
    origins: tuple[str, ...],
    all_origins: bool,
    actors: tuple[str, ...],
    actions: tuple[str, ...],
    subjects: tuple[str, ...],
    units: tuple[str, ...],
    purpose: str,
    resumes: bool,
    data_directory: Path | None,
    service_addresses: tuple[str, ...],
    as_json: bool,
    caller_options: CallerOptions,
) -> None:
    """Write access records to FILE, and beside it what proves that none is left out (FILE.manifest.json).

    将审计日志导出到文件, 并生成可供第三方核验完整性的清单。

    Without filters every record of the time is in the file, of all services; `zhichao audit-log verify` checks that
    without the platform. With filters only the rows themselves can be checked. That somebody exports is itself written
    into the audit log.

    Exit status: 0 written; 1 refused or wrong files; 2 wrong options; 3 broke off, go on with --resume.
    退出码: 0 完成; 1 被拒绝或文件有误; 2 参数错误; 3 中断, 可用 --resume 继续。
    """
    from cli.audit_log.export import AuditLogExport, ExportFileError, ExportStoppedError, Order
    from cli.audit_log.formats import FORMATS
    from cli.audit_log.manifest import manifest_path
    from cli.audit_log.record import Filter
    from cli.audit_log.window import TimeError, read_window
    from cli.importer.conversion import find_zone
    from services.common.errors import ServiceError
    from services.common.metrics import software_version
    from zhichao.journal.v1.access_record_pb2_grpc import AccessRecordServiceStub

    form = FORMATS[format_name or ("csv" if path.suffix.lower() == ".csv" else "jsonl")]
    if origins and all_origins:
        raise click.UsageError("give --origin or --all-origins, not both 两者只能给出一个")
    try:
        zone = find_zone(time_zone)
        start, end = read_window(start_text, end_text, zone, _now())
    except (TimeError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    with reach_services(data_directory, service_addresses, caller_options) as (target, channels):
        order = Order(
            {
                "platform": target.platform,
                "origins": list(origins),
                "all_origins": all_origins,
                "from": start_text,
                "to": end_text,
            },
            logs_of(target, channels, origins, all_origins=all_origins),
            start,
            end,
            zone,
            time_zone,
            Filter(actors, actions, subjects, units),
            software_version(),
            purpose,
        )
        stubs = {name: AccessRecordServiceStub(channel) for name, channel in channels.items()}
        try:
            with shown_progress() as progress:
                manifest = AuditLogExport(path, form, order, stubs, progress).run(resumes=resumes)
        except ExportFileError as error:
            raise click.ClickException(str(error)) from error
        except ServiceError as error:
            raise click.ClickException(f"{error.message} ({error.reason}) {error.message_zh}") from error
        except (ExportStoppedError, KeyboardInterrupt) as error:
            reason = str(error) or "stopped: go on with --resume 已停止, 可用 --resume 继续"
            click.echo(f"zhichao audit-log export: {reason}", err=True)
            raise click.exceptions.Exit(
                EXIT_INTERRUPTED if isinstance(error, KeyboardInterrupt) else EXIT_STOPPED
            ) from error
    if as_json:
        click.echo(json.dumps(_summary(path, manifest), ensure_ascii=False))
        return
    for log in manifest.logs:
        click.echo(f"{log.head.stream} {log.head.origin}: {log.row_count:,} records 条")
    click.echo(
        f"{path}  {manifest.record_count:,} records 条, {manifest.byte_count:,} bytes, SHA-256 {manifest.sha256}"
    )
    click.echo(str(manifest_path(path)))


@audit_log.command("verify")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--manifest",
    "manifest_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Its manifest, unless it stands beside it. 清单文件。",
)
@click.option("--key", "key_texts", multiple=True, metavar="NAME+HASH+BASE64", help="Key of a cosigner. 联署方公钥。")
@click.option(
    "--against",
    "against",
    multiple=True,
    metavar="ADDRESS|DATA_DIR",
    help="Compare with the logs that a platform holds now; may be repeated for its services. 与平台现有日志比对。",
)
@JSON
@access_options
def verify(
    path: Path,
    manifest_file: Path | None,
    key_texts: tuple[str, ...],
    against: tuple[str, ...],
    as_json: bool,
    caller_options: CallerOptions,
) -> None:
    """Check an exported FILE with its manifest: digest, every row, the chain of records, and the log's signature.

    离线核验导出文件: 摘要、逐行内容、记录链的连续性与日志签名。

    Needs no platform. Compare the key that is shown with the one that the platform has published: the file proves
    itself against that key.

    Exit status: 0 all is right; 1 something is wrong; 2 it could not be looked at.
    退出码: 0 一致; 1 有问题; 2 无法核验。
    """
    from cli.audit_log.check import check_file
    from cli.audit_log.manifest import UnreadableManifestError, manifest_path, read_manifest
    from cli.audit_log.report import check_document, show_check
    from cli.verifier.notes import PublicKey, UnreadableNoteError

    try:
        keys = [PublicKey.read(text) for text in key_texts]
    except UnreadableNoteError as error:
        raise click.BadParameter(str(error), param_hint="--key") from error
    manifest_file = manifest_file or manifest_path(path)
    try:
        manifest = read_manifest(manifest_file)
        with shown_progress() as progress:
            count = 0

            def advance(more: int) -> None:
                nonlocal count
                count += more
                progress("checking 核验中", count, manifest.record_count)

            result = check_file(path, manifest, keys, advance)
    except UnreadableManifestError as error:
        click.echo(f"zhichao audit-log verify: {manifest_file}: {error} 清单无法读取", err=True)
        raise click.exceptions.Exit(EXIT_CANNOT_LOOK) from error
    except OSError as error:
        click.echo(f"zhichao audit-log verify: {error.filename}: {error.strerror} 无法读取", err=True)
        raise click.exceptions.Exit(EXIT_CANNOT_LOOK) from error
    if against:
        compare_with(manifest, result.logs, against, caller_options)
    if as_json:
        click.echo(json.dumps(check_document(path, manifest, result), ensure_ascii=False))
    else:
        from cli.terminal import Console

        show_check(Console(), path, manifest, result)
    raise click.exceptions.Exit(0 if result.is_right else EXIT_DIFFERS)


@audit_log.command("list")
@_FROM
@_TO
@_ZONE
@click.option("--origin", default="", metavar="CODE", help="Only records of this platform. 仅此平台。")
@click.option("--actor", default="", metavar="NAME", help="Only of e.g. person/li. 仅此主体。")
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True, help="At most. 最多条数。")
@DATA
@_SERVICES
@JSON
@access_options
def list_(
    start_text: str | None,
    end_text: str | None,
    time_zone: str,
    origin: str,
    actor: str,
    limit: int,
    data_directory: Path | None,
    service_addresses: tuple[str, ...],
    as_json: bool,
    caller_options: CallerOptions,
) -> None:
    """Show the newest access records of all services.

    查看最近的审计记录。
    """
    import grpc

    from cli.audit_log.listing import newest, record_document, record_table
    from cli.audit_log.window import TimeError, read_window
    from cli.importer.conversion import find_zone
    from cli.terminal import Console
    from services.common.rpc_client import service_error
    from zhichao.journal.v1.access_record_pb2_grpc import AccessRecordServiceStub

    try:
        zone = find_zone(time_zone)
        start, end = read_window(start_text, end_text, zone, _now())
    except (TimeError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    with reach_services(data_directory, service_addresses, caller_options) as (_, channels):
        stubs = {name: AccessRecordServiceStub(channel) for name, channel in channels.items()}
        try:
            found = newest(stubs, origin, actor, start, end, limit)
        except grpc.RpcError as rpc_error:
            error_read = service_error(rpc_error)
            raise click.ClickException(
                f"{error_read.message} ({error_read.reason}) {error_read.message_zh}"
            ) from rpc_error
    if as_json:
        click.echo(json.dumps([record_document(service, one, zone) for service, one in found], ensure_ascii=False))
    elif not found:
        click.echo("no records 没有记录")
    else:
        Console().print(record_table(found, zone))


def _now() -> datetime:
    from services.common.clock import SystemClock

    return SystemClock().now()


def _summary(path: Path, manifest: "Manifest") -> dict[str, Any]:
    return {
        "file": str(path),
        "record_count": manifest.record_count,
        "byte_count": manifest.byte_count,
        "sha256": manifest.sha256,
        "from": manifest.start,
        "to": manifest.end,
        "logs": [
            {"service": log.head.stream, "platform": log.head.origin, "row_count": log.row_count}
            for log in manifest.logs
        ],
    }
