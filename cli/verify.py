"""`zhichao verify`: re-derives what journals and bundles prove from their bytes, and names the first bad entry."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.access import CallerOptions, access_options

if TYPE_CHECKING:
    from cli.status_targets import Target
    from cli.verifier.notes import PublicKey
    from cli.verify_journals import Examined, PlatformJournals

EXIT_DIFFERS = 1
EXIT_CANNOT_LOOK = 2
EXIT_INTERRUPTED = 130

# What a sample proves grows slowly: 100 proofs find 5 % of bad ones with more than 99 % certainty.
SAMPLE_DEFAULT = 100


@click.command()
@click.argument("named", metavar="[ADDRESS|DATA_DIR|BUNDLE.zip]...", nargs=-1)
@click.option(
    "--database-url",
    "database_urls",
    multiple=True,
    metavar="URL",
    help="Read this service's database directly; may be repeated. 直接读取数据库, 可多次使用。",
)
@click.option(
    "--rpc", "is_by_rpc", is_flag=True, help="Ask the services even where the database is at hand. 仅经服务读取。"
)
@click.option(
    "--stream",
    type=click.Choice(["weighing", "registry", "video", "enforcement"]),
    help="Only this service's logs. 仅此服务。",
)
@click.option("--origin", default="", metavar="CODE", help="Only this platform's logs. 仅此来源平台。")
@click.option(
    "--against",
    metavar="ADDRESS|DATA_DIR|URL",
    help="Compare every entry with the copy held there. 与另一平台的副本逐条比对。",
)
@click.option(
    "--key",
    "key_texts",
    multiple=True,
    metavar="NAME+HASH+BASE64",
    help="Key of a cosigner; of a bundle, any platform's key that is known. 联署方公钥; 证据包: 已知平台公钥。",
)
@click.option(
    "--sample",
    type=click.IntRange(min=0),
    default=SAMPLE_DEFAULT,
    show_default=True,
    help="Inclusion proofs to check per platform. 每平台抽查的包含证明数。",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the sample. 抽样种子。")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON. 以 JSON 输出。")
@access_options
def verify(
    named: tuple[str, ...],
    database_urls: tuple[str, ...],
    is_by_rpc: bool,
    stream: str | None,
    origin: str,
    against: str | None,
    key_texts: tuple[str, ...],
    sample: int,
    seed: int,
    as_json: bool,
    caller_options: CallerOptions,
) -> None:
    """Check journals from their stored bytes: places, digests, roots, signatures, cosignatures and proofs.

    从存储的原始字节重新核验日志: 序号、摘要、根、签名、联署与证明, 并指出首个异常条目。

    Shares no code with what writes journals. Platforms are named by data directory (their databases are read directly
    while they run) or by the addresses of their services; without any, those started here. An evidence bundle (a file)
    is checked by itself, offline.
    证据包(文件)可离线核验。

    Exit status: 0 everything is as written; 1 something differs; 2 it could not be looked at.
    退出码: 0 一致; 1 不一致; 2 无法核验。
    """
    from cli import status_targets, verify_report
    from cli.terminal import Console
    from cli.verifier.source import CannotLookError

    if any(Path(name).is_file() for name in named):
        from cli.evidence_verify import verify_bundle

        if len(named) > 1:
            raise click.UsageError("name one bundle at a time 一次只核验一个证据包")
        raise click.exceptions.Exit(verify_bundle(Path(named[0]), key_texts, as_json=as_json))
    began = time.monotonic()
    try:
        with ExitStack() as stack:
            find = partial(status_targets.find, options=caller_options)
            platforms, other = _open(stack, find, named, database_urls, against, is_by_rpc=is_by_rpc)
            keys = _keys(key_texts)
            for one in [*platforms, *([other] if other else [])]:
                one.look(stream or "", origin)
                keys += one.verifier_keys()
            examined = _examine(platforms, other, keys, sample=sample, seed=seed)
        if other is not None and all(result.compared is None for one in examined for result in one.results):
            raise CannotLookError(f"--against {against}: holds none of these logs 没有可比对的日志")
    except CannotLookError as error:
        click.echo(f"zhichao verify: cannot look 无法核验: {error}", err=True)
        raise click.exceptions.Exit(EXIT_CANNOT_LOOK) from error
    except KeyboardInterrupt:
        # Not 1, which click makes of it: that would say that something differs.
        click.echo("zhichao verify: stopped, nothing is said 已停止, 无结论", err=True)
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
    seconds = time.monotonic() - began
    if not any(one.results for one in examined):
        click.echo("zhichao verify: no log matches 没有符合条件的日志", err=True)
        raise click.exceptions.Exit(EXIT_CANNOT_LOOK)
    if as_json:
        click.echo(json.dumps(verify_report.as_document(examined, seconds=seconds), ensure_ascii=False))
    else:
        verify_report.show(Console(), examined, seconds=seconds)
    raise click.exceptions.Exit(0 if all(one.is_right for one in examined) else EXIT_DIFFERS)


def _open(
    stack: ExitStack,
    find: "Callable[[Sequence[str]], list[Target]]",
    named: Sequence[str],
    database_urls: Sequence[str],
    against: str | None,
    *,
    is_by_rpc: bool,
) -> "tuple[list[PlatformJournals], PlatformJournals | None]":
    from cli.status_targets import Target, TargetError
    from cli.verifier.source import CannotLookError
    from cli.verify_journals import PlatformJournals

    def open_one(target: Target) -> PlatformJournals:
        if target.problem:
            raise CannotLookError(f"{target.platform}: {target.problem} {target.data_directory}".rstrip())
        return stack.enter_context(PlatformJournals(target, is_by_rpc=is_by_rpc))

    def database(url: str) -> Target:
        # The platform's code comes with its own log.
        return Target("", database_urls={url: url})

    try:
        targets = find(named) if named or not database_urls else []
        targets += [database(url) for url in database_urls]
        others = [] if against is None else [database(against)] if "://" in against else find([against])
    except TargetError as error:
        raise CannotLookError(str(error)) from error
    if len(others) > 1:
        raise CannotLookError(
            f"--against {against}: holds {len(others)} platforms, name one of them 其中有多个平台, 请只指定一个"
        )
    return [open_one(target) for target in targets], open_one(others[0]) if others else None


def _keys(texts: Sequence[str]) -> "list[PublicKey]":
    from cli.verifier.notes import PublicKey, UnreadableNoteError

    try:
        return [PublicKey.read(text) for text in texts]
    except UnreadableNoteError as error:
        raise click.BadParameter(str(error), param_hint="--key") from error


def _examine(
    platforms: "Sequence[PlatformJournals]",
    other: "PlatformJournals | None",
    keys: "Sequence[PublicKey]",
    *,
    sample: int,
    seed: int,
) -> "list[Examined]":
    """Check all platforms, with a progress bar for a person."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from cli.terminal import Console

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    results = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        for one in platforms:
            passes = 1 + (other is not None)
            task = progress.add_task(f"{one.platform} verifying 核验中", total=passes * one.entry_count)

            def advance(count: int, task: object = task) -> None:
                progress.advance(task, count)  # type: ignore[arg-type]  # a TaskID, bound for this platform

            examined = one.examine(keys, sample=sample, seed=seed, advance=advance)
            if other is not None:
                one.compare(other, examined, advance)
            results.append(examined)
    return results
