"""`zhichao import`: records from other systems, sent like a terminal's, so that a repeat changes nothing."""

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.access import CallerOptions, access_options, caller_access, open_channel
from cli.help_text import CommandGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cli.importer.run import Finding
    from cli.importer.table import Table
    from cli.terminal import Console

# Everything was read and sent, but some rows are rejected or conflicting.
EXIT_FINDINGS = 3


@click.group("import", cls=CommandGroup, short_help="Import records of other systems. 导入其他系统的记录")
def command() -> None:
    """Import records of other systems.

    导入其他系统的记录。
    """


@command.command("weighings")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--weighing", "weighing_address", metavar="HOST:PORT", help="Weighing service. 称重服务地址。")
@click.option("--source-unit", "source_unit_id", help="Source unit, unless a column has it. 源头单位编号。")
@click.option("--point", "weighing_point_id", help="Weighing point, unless a column has it. 称重点编号。")
@click.option("--scale", "scale_id", help="Scale, unless a column has it. 衡器编号。")
@click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="COLUMN=FIELD[:UNIT] | FILE | NAME",
    help="Say what a column means: `毛重=gross_weight_kg:t`, nothing after `=` to ignore it; or a TOML or JSON file "
    "with a table `columns`; or a shipped mapping (wim). May be repeated. 指定列映射, 可多次使用。",
)
@click.option(
    "--dry-run", is_flag=True, help="Connect to nothing; show the mapping and what would be sent. 仅检查不发送。"
)
@click.option(
    "--time-zone", default="Asia/Shanghai", show_default=True, help="Zone of times that name none. 无时区时间的时区。"
)
@click.option(
    "--encoding",
    type=click.Choice(["utf-8", "gb18030"]),
    help="Encoding; found out when not given. 文件编码, 默认自动识别。",
)
@click.option(
    "--batch",
    "batch_records",
    type=click.IntRange(1, 1000),
    default=500,
    show_default=True,
    help="Records in a message. 每批记录数。",
)
@click.option(
    "--from-line",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Pass over rows before this line of the file. 从文件的这一行开始。",
)
@click.option(
    "--rejects",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write every conflicting and rejected row there, with line and reason. 冲突与拒绝的行写入此文件。",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, no tables. 以 JSON 输出结果。")
@access_options
def weighings(
    file: Path,
    weighing_address: str | None,
    source_unit_id: str | None,
    weighing_point_id: str | None,
    scale_id: str | None,
    maps: tuple[str, ...],
    dry_run: bool,
    time_zone: str,
    encoding: str | None,
    batch_records: int,
    from_line: int,
    rejects: Path | None,
    as_json: bool,
    caller_options: CallerOptions,
) -> None:
    """Import weighings from the CSV file FILE.

    Columns are recognised by their English or Chinese names and units, and the mapping is shown; --map decides
    otherwise. UTF-8 and GB18030 are told apart. Running it again is safe at any time: rows that are held already count
    as duplicate, rows whose record id is held with other content as conflicting.

    从 CSV 文件导入称重记录。列名按中英文常用名称和单位自动识别并列出, 可用 --map 指定。
    可随时重复运行: 已有记录计为重复, 编号相同而内容不同计为冲突。

    Exit status: 0 when every row is held; 3 when rows are conflicting or rejected; 1 when the import broke off; 2 for
    wrong options or a file that cannot be mapped.
    退出码: 0 全部收下; 3 有冲突或拒绝; 1 中断; 2 参数或映射错误。
    """
    from cli.importer import report
    from cli.importer.conversion import RecordConverter, find_zone
    from cli.importer.mapping import MappingError, map_columns, read_wishes, recognise
    from cli.importer.run import ImportStoppedError, WeighingImport, try_out
    from cli.importer.table import Table, TableError
    from cli.terminal import Console
    from zhichao.weighing.v1 import service_pb2_grpc

    console = Console(stderr=as_json)
    names = {"source_unit_id": source_unit_id, "weighing_point_id": weighing_point_id, "scale_id": scale_id}
    constants = {name: value for name, value in names.items() if value is not None}
    if weighing_address is None and not dry_run:
        raise click.UsageError(
            "--weighing is needed unless --dry-run is given 未加 --dry-run 时须用 --weighing 指定称重服务地址"
        )
    if rejects is not None and rejects.resolve() == file.resolve():
        raise click.UsageError(
            "--rejects would overwrite the file that is imported 会覆盖被导入的文件, 请换用其他文件名"
        )
    try:
        table = Table(file, encoding=encoding)
        wishes = recognise(table.header, read_wishes(maps))
        columns = map_columns(table.header, wishes, constants=constants)
        zone = find_zone(time_zone)
    except (TableError, MappingError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    mapped = {column.target.field.name for column in columns if column.target.field is not None}
    missing = [name for name in names if name not in mapped and name not in constants]
    if missing and not dry_run:
        raise click.UsageError(
            f"no column gives {', '.join(missing)}: name them with --source-unit, --point and --scale"
            " 缺少所需列, 请用 --source-unit、--point、--scale 指定"
        )
    converter = RecordConverter(columns, constants=constants, zone=zone)
    if not as_json:
        sample = next(Table(file, encoding=table.encoding).rows(from_line=from_line), None)
        report.show_mapping(console, columns, sample.cells if sample is not None else [], wishes.titles)
        console.print(f"{table.encoding.upper()}, {time_zone}")
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        on_finding = stack.enter_context(report.RejectsFile(rejects, table.header)).write if rejects else _pass
        on_progress = stack.enter_context(_progress(console, table, is_shown=console.is_terminal and not as_json))
        rows = table.rows(from_line=from_line)
        try:
            if weighing_address is None or dry_run:
                first, result = try_out(converter, rows, on_finding=on_finding, on_progress=on_progress)
            else:
                first = []
                from cli.status_targets import local_directory

                caller = caller_access(caller_options, local_directory(weighing_address), ("operator",))
                channel = open_channel(weighing_address, caller)
                stack.callback(channel.close)
                result = WeighingImport(
                    service_pb2_grpc.WeighingServiceStub(channel),
                    converter,
                    batch_records=batch_records,
                    on_finding=on_finding,
                    on_progress=on_progress,
                ).run(rows)
        except ImportStoppedError as stopped:
            raise click.ClickException(
                f"{stopped}\nEverything before line {stopped.from_line} is answered: run again, or go on with "
                f"--from-line {stopped.from_line}. 该行之前均已应答, 可重新运行或从该行继续。"
            ) from stopped
    if as_json:
        values = {"dry_run": dry_run, **report.as_json(result, converter.remarks)}
        click.echo(json.dumps(values, ensure_ascii=False))
    else:
        report.show_records(console, first)
        report.show_remarks(console, converter.remarks)
        seconds = time.monotonic() - began
        report.show_result(console, result, rejects=rejects, seconds=seconds, is_dry_run=dry_run)
    if result.has_findings:
        raise click.exceptions.Exit(EXIT_FINDINGS)


def _pass(finding: "Finding") -> None:
    """Take a finding that goes to no file."""


@contextlib.contextmanager
def _progress(console: "Console", table: "Table", *, is_shown: bool) -> "Iterator[Callable[[], None]]":
    """Show how much of the file is read; yields what is called after each answer."""
    if not is_shown:
        yield lambda: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console
    ) as progress:
        task = progress.add_task("Importing 导入中", total=table.size_bytes)
        yield lambda: progress.update(task, completed=table.position)
