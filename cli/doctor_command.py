"""`zhichao doctor`: looks at everything that a platform needs and says what to do about what is wrong."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cli.doctor.finding import Finding
    from cli.doctor.subject import Subject

# Where `zhichao up` puts a platform unless told otherwise.
DATA_ROOT = Path("var")

EXIT_FAILED = 1

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}


@click.command()
@click.option(
    "--data",
    "data_directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Data directory of a platform on this machine. 数据目录",
)
@click.option("--platform", metavar="CODE", default="", help="The platform in var/CODE. 平台代码, 目录为 var/CODE")
@click.option("--strict", "is_strict", is_flag=True, help="Warnings count as failures. 警告视为失败")
@click.option("--json", "as_json", is_flag=True, help="Print JSON. 以 JSON 输出。")
def doctor(data_directory: Path | None, platform: str, is_strict: bool, as_json: bool) -> None:
    """Look at everything that a platform needs; one line each, with what to do.

    检查平台所需的各项条件, 每项一行, 并给出处置办法。

    Looks at the platform of a data directory. Without one, at the platform that the environment configures
    (ZHICHAO_PLATFORM and the other settings), as inside a container; else at those started here (var/*). It works
    while half of the platform is broken, and ends within ten seconds. It changes nothing.

    Exit status: 0 nothing failed; 1 something failed; 2 there is no platform to look at.
    退出码: 0 无失败项; 1 有失败项; 2 未找到平台。
    """
    from cli.doctor.examination import examine
    from cli.doctor.finding import Level
    from cli.doctor.subject import SubjectError
    from services.common.logs import configure

    # What libraries say while they look is for the findings to tell.
    configure("console", "error")
    try:
        subjects = _subjects(data_directory, platform)
    except SubjectError as error:
        raise click.UsageError(str(error)) from error
    bad = {Level.FAIL, *([Level.WARN] if is_strict else [])}
    has_failed = False
    for subject in subjects:
        found = examine(subject)
        has_failed |= any(finding.level in bad for finding in found)
        if as_json:
            click.echo(json.dumps(_document(subject, found), ensure_ascii=False))
        else:
            _show(subject, found)
    raise click.exceptions.Exit(EXIT_FAILED if has_failed else 0)


def _subjects(data_directory: Path | None, platform: str) -> "list[Subject]":
    from cli.doctor.subject import PLATFORM_VARIABLE, Subject, SubjectError

    if platform and data_directory is None:
        data_directory = DATA_ROOT / platform
    if data_directory is not None:
        return [Subject.of_directory(data_directory, os.environ)]
    if os.environ.get(PLATFORM_VARIABLE):
        return [Subject.of_environment(os.environ)]
    found = sorted(path.parent for path in DATA_ROOT.glob("*/platform.json"))
    if not found:
        raise SubjectError("no platform was started here: name one with --data 未找到平台, 请用 --data 指定")
    return [Subject.of_directory(path, os.environ) for path in found]


def _show(subject: "Subject", found: "list[Finding]") -> None:
    from rich.text import Text

    from cli.terminal import Console

    console = Console(soft_wrap=True, highlight=False)
    console.print(Text(f"platform 平台 {subject.platform} {subject.data_directory or ''}".rstrip(), "bold"))
    width = max(len(finding.name) for finding in found)
    for finding in found:
        line = Text(f"{finding.level:<4} ", STYLES[finding.level])
        line.append(f"{finding.name:<{width}}  ", "default")
        line.append(f"{finding.message.english} {finding.message.chinese}".rstrip(), "default")
        if finding.remedy:
            line.append(f" -> {finding.remedy.english} {finding.remedy.chinese}", "bold")
        console.print(line)
    counts = ", ".join(
        f"{sum(finding.level == level for finding in found)} {level}" for level in ("ok", "warn", "fail", "skip")
    )
    console.print(Text(counts, "dim"))


def _document(subject: "Subject", found: "list[Finding]") -> dict[str, object]:
    return {
        "platform": subject.platform,
        "data_directory": str(subject.data_directory or ""),
        "checks": [
            {
                "name": finding.name,
                "level": finding.level.value,
                "message": finding.message.english,
                "message_zh": finding.message.chinese,
                "remedy": finding.remedy.english,
                "remedy_zh": finding.remedy.chinese,
            }
            for finding in found
        ],
    }
