"""Puts a backup into a data directory: checked first, complete or not at all, and marked so that it forks no log."""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.backup import database, evidence, programs
from cli.backup.create import VIDEO
from cli.backup.evidence import EVIDENCE_DIRECTORY
from cli.backup.record import (
    CLUSTER_DIRECTORY,
    LOCAL_SETTINGS,
    BackupError,
    BackupRecord,
    LogRecord,
    manifest_digest,
)
from cli.platform_layout import SERVICES, PlatformFiles
from cli.platform_state import DataLock, DirectoryHeldError
from cli.postgres import EmbeddedPostgres, PostgresError
from cli.postgres.account import Account, choose
from cli.postgres.directory import DataDirectory
from cli.token_file import SECRETS_DIRECTORY
from services.common.database import SchemaError, translate_errors, upgrade
from services.common.errors import ServiceError
from services.journal.notes import NoteError, Signer, signer_name

STAGING_SUFFIX: Final = ".restoring"


@dataclass(frozen=True)
class Restored:
    """What was restored."""

    record: BackupRecord
    logs: Sequence[LogRecord]
    # Databases whose own log waits to be compared with what the platform above holds.
    marked: Sequence[str]
    has_signing_key: bool


def check(backup: Path, *, binaries: Path | None = None) -> BackupRecord:
    """Check a backup: every file is there and as it was written. Raises BackupError."""
    record = BackupRecord.read(backup)
    if manifest_digest(backup) != record.manifest_sha256:
        raise BackupError(f"{backup}: the manifest is not the one that the backup was made with 备份清单与制作时不符")
    found = programs.find_programs(backup / "nothing", binaries)
    if found.major_version != record.postgres_version:
        raise BackupError(
            f"{backup} was made by PostgreSQL {record.postgres_version}, the programs here are PostgreSQL "
            f"{found.major_version} ({found.directory})"
            " PostgreSQL 主版本不一致"
        )
    programs.run(found, "pg_verifybackup", "--quiet", str((backup / CLUSTER_DIRECTORY).absolute()))
    if record.evidence is not None:
        evidence.check(record.evidence, backup / EVIDENCE_DIRECTORY)
    return record


def restore(
    backup: Path,
    data_directory: Path,
    *,
    signing_key: Path | None = None,
    secrets_from: Path | None = None,
    is_standing_alone: bool = False,
    binaries: Path | None = None,
) -> Restored:
    """Restore a backup into a data directory that holds no database yet. Raises BackupError; no database is there then.

    Unless the platform stands alone its own logs are marked: services write nothing new before they were compared with
    what the platform above holds, so that no sequence is used twice. `signing_key` is put in its place; without it the
    one that is there must be the one of the logs. `secrets_from` is a directory with `keys/` and `secrets/` of the
    platform, such as a former data directory: what is not there yet is put in its place.
    """
    files = PlatformFiles(data_directory.absolute())
    if files.postgres.exists():
        raise BackupError(
            f"{data_directory} holds a database already: name a new directory, or move it away"
            " 该目录已有数据库, 请换用新目录或先移走"
        )
    if files.object_server.exists():
        raise BackupError(
            f"{data_directory} holds evidence already: name a new directory, or move it away"
            " 该目录已有证据, 请换用新目录或先移走"
        )
    record = check(backup, binaries=binaries)
    secrets = _secrets(files, signing_key, secrets_from)
    key_file = secrets.get(files.signing_key, files.signing_key)
    if key_file.exists():
        _check_key(record, key_file)
    with ExitStack() as stack:
        _hold(files, stack)
        for target, source in secrets.items():
            _put_secret(source, target)
        # Beside its place: whatever ends this command, no database is there that is not marked.
        staging = files.postgres.with_name(files.postgres.name + STAGING_SUFFIX)
        objects = evidence.staging_of(files)
        for left_over in (staging, objects):
            shutil.rmtree(left_over, ignore_errors=True)
        try:
            _copy(backup, DataDirectory(staging))
            with EmbeddedPostgres(staging, binaries=binaries) as server:
                urls = _databases(record, server)
                logs = _compare(record, urls)
                _upgrade(urls)
                marked = [] if is_standing_alone else [name for name in urls if database.mark_restored(urls[name])]
                if record.evidence is not None and record.evidence.mode == "copied":
                    evidence.restore(backup / EVIDENCE_DIRECTORY, files, urls[VIDEO])
            if objects.exists():
                objects.rename(files.object_server)
            # Last: with it there is a platform to start.
            staging.rename(files.postgres)
        except (PostgresError, OSError) as error:
            raise BackupError(f"{data_directory} cannot be restored to: {error} 无法恢复到该目录") from error
        finally:
            for left_over in (staging, objects):
                shutil.rmtree(left_over, ignore_errors=True)
    return Restored(record, logs, marked, files.signing_key.exists())


def _databases(record: BackupRecord, server: EmbeddedPostgres) -> dict[str, str]:
    """Return the URLs of the services' databases that the backup holds: of all, whatever its record names.

    One that ran without some of its services when it was backed up has the databases of those as well, and their logs
    have to be compared like the others'.
    """
    held = server.query("SELECT datname FROM pg_database").splitlines()
    if missing := [name for name in record.databases if name not in SERVICES or name not in held]:
        raise BackupError(
            f"the backup holds no database {missing[0][:64]!r}, which its record names 备份中缺少其记录所列的数据库"
        )
    return {name: server.url(name) for name in SERVICES if name in held}


def _hold(files: PlatformFiles, stack: ExitStack) -> None:
    try:
        files.directory.mkdir(parents=True, exist_ok=True)
        lock = DataLock(files)
        lock.acquire()
    except (DirectoryHeldError, OSError) as error:
        raise BackupError(f"{files.directory} cannot be used: {error} 无法使用该目录") from error
    stack.callback(lock.release)


def _check_key(record: BackupRecord, key_file: Path) -> None:
    try:
        key = Signer.from_pem_file(signer_name(record.platform), key_file).verifier_key.format()
    except (NoteError, OSError) as error:
        raise BackupError(f"the signing key {key_file} cannot be read: {error} 无法读取签名密钥") from error
    for log in record.own_logs:
        if log.verifier_key != key:
            raise BackupError(
                f"{key_file} is another key than the one that the {log.stream} log of {record.platform} began with: "
                "name the key file of this platform with --signing-key"
                " 签名密钥与日志不符, 请用 --signing-key 指定本平台的密钥"
            )


def _secrets(files: PlatformFiles, signing_key: Path | None, secrets_from: Path | None) -> dict[Path, Path]:
    """Return the files that are put in place, each with where it comes from."""
    found: dict[Path, Path] = {}
    if secrets_from is not None:
        source = PlatformFiles(secrets_from)
        if not source.signing_key.is_file():
            raise BackupError(
                f"{secrets_from} holds no {source.signing_key.relative_to(secrets_from)} 该目录中没有签名密钥"
            )
        found[files.signing_key] = source.signing_key
        tokens = sorted((secrets_from / SECRETS_DIRECTORY).glob("*"))
        found |= {files.directory / SECRETS_DIRECTORY / path.name: path for path in tokens if path.is_file()}
    if signing_key is not None:
        found[files.signing_key] = signing_key
    return found


def _put_secret(source: Path, target: Path) -> None:
    if target.exists():
        if target.read_bytes() != source.read_bytes():
            raise BackupError(
                f"{target} is there and is another one than {source}: move one of them away"
                " 目标文件已存在且内容不同, 请先移走其一"
            )
        return
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    number = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "wb") as file:
        file.write(source.read_bytes())
        file.flush()
        os.fsync(file.fileno())


def _copy(backup: Path, directory: DataDirectory) -> None:
    """Copy the files of the databases; they belong to the account that the server will run under."""
    directory.acquire()
    try:
        account = choose(directory.cluster, None)
        directory.prepare(account)
        local = backup / LOCAL_SETTINGS
        if local.is_file():
            shutil.copyfile(local, directory.path / LOCAL_SETTINGS)
        shutil.rmtree(directory.unfinished_cluster, ignore_errors=True)
        shutil.copytree(backup / CLUSTER_DIRECTORY, directory.unfinished_cluster, symlinks=True)
        _give_to(account, directory.unfinished_cluster)
        directory.unfinished_cluster.rename(directory.cluster)
    finally:
        directory.release()


def _give_to(account: Account, tree: Path) -> None:
    tree.chmod(0o700)
    if account.is_switched:
        for path in (tree, *tree.rglob("*")):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _upgrade(urls: Mapping[str, str]) -> None:
    """Bring the schemas up to date: a backup of an older release knows no mark yet."""
    for name, url in urls.items():
        try:
            with translate_errors():
                upgrade(url, SERVICES[name].migrations_package)
        except (SchemaError, ServiceError) as error:
            raise BackupError(f"the database {name} cannot be brought up to date: {error} 无法升级数据库") from error


def _compare(record: BackupRecord, urls: Mapping[str, str]) -> list[LogRecord]:
    """Return where the logs stand, which is at least where they stood when the backup began."""
    found = {(log.stream, log.origin): log for name, url in urls.items() for log in database.read_logs(name, url)}
    for recorded in record.logs:
        log = found.get((recorded.stream, recorded.origin))
        is_less = log is None or log.size < recorded.size
        if is_less or (log is not None and log.size == recorded.size and log.root != recorded.root):
            raise BackupError(
                f"the {recorded.stream} log of {recorded.origin} should hold at least {recorded.size} entries and "
                f"holds {log.size if log else 0}, or other ones: the backup is not what its record says"
                " 备份内容与其记录不符"
            )
    return list(found.values())
