"""Makes a backup of a platform, which may run and take records meanwhile."""

import importlib.metadata
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from cli import platform_state
from cli.backup import database, evidence, programs
from cli.backup.evidence import EVIDENCE_DIRECTORY
from cli.backup.record import (
    CLUSTER_DIRECTORY,
    LOCAL_SETTINGS,
    BackupError,
    BackupRecord,
    EvidenceRecord,
    manifest_digest,
)
from cli.platform_layout import SERVICES, PlatformFiles
from cli.platform_state import DataLock, DirectoryHeldError, PlatformState
from cli.postgres import EmbeddedPostgres, PostgresError
from cli.postgres.settings import PORT

VIDEO: Final = "video"
"""The service whose database names the evidence."""

ROOM_FACTOR: Final = 1.1
"""Room that a backup needs beside the size of the databases: what is written while it is made."""


def create(
    data_directory: Path, target: Path, *, earlier: Path | None = None, binaries: Path | None = None
) -> BackupRecord:
    """Back up the platform of a data directory to `target`, which must not exist. Raises BackupError.

    A platform that runs goes on. One that does not has its server started for it and stopped again. The backup holds
    everything that was acknowledged before this was called; nothing of it is there under the final name before it is
    complete and checked. Evidence that an `earlier` backup holds is linked instead of copied, on the same disk.
    """
    # PostgreSQL's programs are run in a directory that every account may enter, not in the caller's.
    target = target.absolute()
    state = _state(data_directory)
    if target.exists():
        raise BackupError(f"{target} exists: name a new directory 该路径已存在, 请换用新目录")
    files = PlatformFiles(data_directory.absolute())
    found = programs.find_programs(files.postgres / "cluster", binaries)
    start_time = _now()
    with _serving(files, binaries) as urls:
        _check_room(target, urls, earlier)
        # Before the backup begins, so that it holds at least this.
        logs = [log for name, url in urls.items() for log in database.read_logs(name, url)]
        _check_platform(state, files)
        partial = _partial(target)
        try:
            programs.run(found, "pg_basebackup", *_base_backup_arguments(urls, partial / CLUSTER_DIRECTORY))
            local = files.postgres / LOCAL_SETTINGS
            if local.is_file():
                shutil.copyfile(local, partial / LOCAL_SETTINGS)
            programs.run(found, "pg_verifybackup", "--quiet", str(partial / CLUSTER_DIRECTORY))
            # After the databases: whatever they name was in the store before.
            kept = _evidence(files, urls.get(VIDEO), partial / EVIDENCE_DIRECTORY, earlier)
            record = BackupRecord(
                platform=state.platform,
                start_time=start_time,
                end_time=_now(),
                software_version=importlib.metadata.version("zhichao"),
                postgres_version=found.major_version,
                databases=sorted(urls),
                logs=logs,
                manifest_sha256=manifest_digest(partial),
                evidence=kept,
            )
            record.write(partial)
            partial.rename(target)
        except OSError as error:
            raise BackupError(f"{target} cannot be written: {error.strerror} 无法写入") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return record


def _partial(target: Path) -> Path:
    """Make a directory of our own beside the target, for what is not complete yet."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{target.name}.unfinished-", dir=target.parent))
    except OSError as error:
        raise BackupError(f"{target.parent} cannot be written: {error.strerror} 无法写入") from error


def _state(data_directory: Path) -> PlatformState:
    try:
        state = platform_state.read(data_directory)
    except (OSError, ValueError) as error:
        raise BackupError(f"{data_directory}: {error} 无法读取该平台的状态") from error
    if state is None:
        raise BackupError(f"{data_directory} holds no platform 该目录中没有平台")
    return state


def _check_platform(state: PlatformState, files: PlatformFiles) -> None:
    if not (files.postgres / "cluster").is_dir():
        raise BackupError(
            f"platform {state.platform} has no embedded database server: back its databases up with the tools of "
            "their server (docs/operate/backup.md)"
            " 该平台未使用自带数据库, 请用其数据库自身的工具备份"
        )


@contextmanager
def _serving(files: PlatformFiles, binaries: Path | None) -> Iterator[Mapping[str, str]]:
    """Give the URLs of the databases, of the server that runs or of one that is started for this."""
    running = _running(files)
    if running is not None:
        if not running.database_urls:
            _check_platform(running, files)
            raise BackupError("the database server is starting: try again in a moment 数据库正在启动, 请稍后重试")
        yield running.database_urls
        return
    if not (files.postgres / "cluster").is_dir():
        _check_platform(_state(files.directory), files)
    lock = DataLock(files)
    try:
        # Nobody starts the platform meanwhile.
        lock.acquire()
        try:
            with EmbeddedPostgres(files.postgres, binaries=binaries) as server:
                held = server.query("SELECT datname FROM pg_database").split()
                yield {name: server.url(name) for name in SERVICES if name in held}
        finally:
            lock.release()
    except (DirectoryHeldError, PostgresError) as error:
        raise BackupError(str(error)) from error


def _running(files: PlatformFiles) -> PlatformState | None:
    try:
        return platform_state.find_running(files.directory)
    except (OSError, ValueError) as error:
        raise BackupError(f"{files.directory}: {error} 无法使用该目录") from error


def _base_backup_arguments(urls: Mapping[str, str], target: Path) -> list[str]:
    url = urlsplit(next(iter(urls.values())))
    return [
        f"--host={parse_qs(url.query)['host'][0]}",
        f"--port={PORT}",
        f"--username={url.username}",
        "--no-password",
        f"--pgdata={target}",
        "--format=plain",
        # What is written while files are copied is streamed beside it: the backup needs no archive to be whole.
        "--wal-method=stream",
        "--checkpoint=fast",
        "--manifest-checksums=SHA256",
    ]


def _evidence(files: PlatformFiles, url: str | None, target: Path, earlier: Path | None) -> EvidenceRecord | None:
    """Copy the evidence of the platform's own store, or list that of another one."""
    if url is None:
        return None
    if not files.object_server.is_dir():
        return evidence.list_only(url, target)
    running = _running(files)
    with evidence.own_store(files, running.object_endpoint if running is not None else "") as store:
        return evidence.copy(store, url, target, earlier / EVIDENCE_DIRECTORY if earlier is not None else None)


def _check_room(target: Path, urls: Mapping[str, str], earlier: Path | None) -> None:
    needed = int(database.total_bytes(next(iter(urls.values()))) * ROOM_FACTOR)
    if VIDEO in urls and earlier is None:
        # With an earlier backup most of it is linked; how much is known when it is done.
        needed += database.evidence_bytes(urls[VIDEO])
    place = next(parent for parent in target.absolute().parents if parent.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise BackupError(f"{place} has {free:,} bytes free, the backup needs some {needed:,} 磁盘空间不足")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
