"""What a backup says of itself (`backup.json`): whose it is, from when, and what its logs held at least."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

RECORD_FILE = "backup.json"
CLUSTER_DIRECTORY = "cluster"
LOCAL_SETTINGS = "local.conf"
MANIFEST = "backup_manifest"

# Raised when a field changes its meaning; a reader refuses a file that it does not understand.
RECORD_VERSION = 1


class BackupError(Exception):
    """A backup cannot be made, read or restored; the text says what to do."""


@dataclass(frozen=True)
class LogRecord:
    """Where one log stood when the backup began; it holds at least that."""

    database: str
    stream: str
    origin: str
    is_own: bool
    size: int
    # Merkle root at that size, hexadecimal.
    root: str
    verifier_key: str


@dataclass(frozen=True)
class EvidenceRecord:
    """What the backup holds of the evidence store, which agrees with its databases."""

    # `copied`: every object lies in the backup. `listed`: the store is backed up with its own means, and the list says
    # what has to be in its copy.
    mode: str
    object_count: int
    object_bytes: int
    # SHA-256 of the list, which has the digest of every object.
    list_sha256: str
    # Digests of objects that the store had lost or changed when the backup was made.
    missing: Sequence[str]
    # Digests of objects that it has and could not read then, though it could read others.
    unreadable: Sequence[str] = ()


@dataclass(frozen=True)
class BackupRecord:
    """One backup."""

    platform: str
    # When it began and ended, UTC.
    start_time: str
    end_time: str
    software_version: str
    postgres_version: int
    databases: Sequence[str]
    logs: Sequence[LogRecord]
    # SHA-256 of the manifest, which has the digest of every file.
    manifest_sha256: str
    version: int = RECORD_VERSION
    # None where the platform has no video service.
    evidence: EvidenceRecord | None = None

    @property
    def own_logs(self) -> list[LogRecord]:
        """The logs that the platform itself writes."""
        return [log for log in self.logs if log.is_own]

    def write(self, directory: Path) -> None:
        """Write the record durably: with it a backup is complete."""
        number = os.open(directory / RECORD_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read the record of a backup. Raises BackupError."""
        path = directory / RECORD_FILE
        try:
            document: Any = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise BackupError(f"{directory} is no backup: it has no {RECORD_FILE} 该目录不是备份") from None
        except (OSError, ValueError) as error:
            raise BackupError(f"{path} cannot be read: {error} 无法读取") from error
        if not isinstance(document, dict) or document.get("version") != RECORD_VERSION:
            raise BackupError(
                f"{path} is not of this release: restore it with the release that made it"
                " 由其他版本制作, 请用制作备份的版本恢复"
            )
        try:
            logs = [LogRecord(**log) for log in document.pop("logs")]
            evidence = document.pop("evidence", None)
            return cls(**document, logs=logs, evidence=EvidenceRecord(**evidence) if evidence is not None else None)
        except (KeyError, TypeError) as error:
            raise BackupError(f"{path} is not the record of a backup: {error} 不是备份的记录文件") from error


def manifest_digest(directory: Path) -> str:
    """Return the digest of the manifest of a backup's files. Raises BackupError."""
    return digest_of(directory / CLUSTER_DIRECTORY / MANIFEST)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal. Raises BackupError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror} 无法读取") from error
