"""Runs PostgreSQL's own programs for backups: the ones of the server that the platform runs."""

import os
import subprocess
from pathlib import Path
from typing import Final

from cli.backup.record import BackupError
from cli.postgres.account import choose
from cli.postgres.binaries import Binaries, find
from cli.postgres.errors import PostgresError

MESSAGE_LINES_MAX: Final = 5
"""Lines of a program's complaint that are repeated: the last ones say what is wrong."""


def find_programs(cluster: Path, requested: Path | None) -> Binaries:
    """Find the programs for a cluster that is there, or may come there. Raises BackupError."""
    try:
        return find(requested, choose(cluster, None))
    except PostgresError as error:
        raise BackupError(str(error)) from error


def run(binaries: Binaries, program: str, *arguments: str) -> str:
    """Run one program and return what it says. Raises BackupError with its last words when it fails."""
    path = Path(binaries.program(program))
    if not path.is_file():
        raise BackupError(
            f"{path.parent} has no program {program}: use the bundled PostgreSQL, or a complete one"
            " 缺少该程序, 请使用自带的 PostgreSQL 或完整的安装"
        )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    try:
        finished = subprocess.run(  # noqa: S603 - a program of the server, no shell
            [str(path), *arguments],
            env={**environment, "LC_ALL": "C"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise BackupError(f"{path} cannot be run: {error.strerror} 无法运行") from error
    if finished.returncode != 0:
        told = "; ".join(finished.stdout.strip().splitlines()[-MESSAGE_LINES_MAX:])
        raise BackupError(f"{program} failed: {told or f'status {finished.returncode}'} 程序执行失败")
    return finished.stdout
