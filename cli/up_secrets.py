"""The secrets of a platform below its data directory: made at the first start, readable by its owner only."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.platform_layout import PlatformFiles

SERVICE_TOKEN_VARIABLE: Final = "ZHICHAO_SERVICE_TOKEN_FILE"  # noqa: S105 - the name of a setting
BOOTSTRAP_TOKEN_VARIABLE: Final = "ZHICHAO_REGISTRY_BOOTSTRAP_TOKEN_FILE"  # noqa: S105 - as above


class SecretsError(Exception):
    """The secrets cannot be made or read; the text names the file and the remedy."""


@dataclass(frozen=True)
class PlatformSecrets:
    """Files with secrets that services read."""

    service_token: Path
    bootstrap_token: Path

    def environment(self) -> Mapping[str, str]:
        """Return the settings of the services that name the files."""
        return {
            SERVICE_TOKEN_VARIABLE: str(self.service_token),
            BOOTSTRAP_TOKEN_VARIABLE: str(self.bootstrap_token),
        }


def ensure(files: PlatformFiles, given: Mapping[str, str | None]) -> PlatformSecrets:
    """Make the secrets unless they are there. `given` has files that were named by settings. Raises SecretsError."""
    from services.common.access.tokens import TokenFileError, read_secret_file

    made = []
    for variable, default in (
        (SERVICE_TOKEN_VARIABLE, files.service_token),
        (BOOTSTRAP_TOKEN_VARIABLE, files.bootstrap_token),
    ):
        named = given.get(variable)
        path = Path(named).absolute() if named else default
        try:
            if not named and not path.exists():
                _make(path)
            read_secret_file(path)
        except OSError as error:
            raise SecretsError(f"{path} cannot be made: {error.strerror} 无法创建密钥文件") from error
        except TokenFileError as error:
            raise SecretsError(str(error)) from error
        made.append(path)
    return PlatformSecrets(*made)


def _make(path: Path) -> None:
    from services.common.access.tokens import new_secret

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(new_secret() + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
