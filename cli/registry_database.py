"""The registry's database of a platform, for whoever has the machine that it runs on: by data directory, or by the
settings of the registry's own environment, as in its pod.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cli import platform_state
from cli.platform_layout import SERVICES, PlatformFiles
from cli.platform_state import DataLock, DirectoryHeldError, PlatformState
from cli.up_options import SIGNING_KEY_VARIABLE, database_variable

if TYPE_CHECKING:
    from services.common.settings import PlatformSettings

PLATFORM_VARIABLE: Final = "ZHICHAO_PLATFORM"

_REGISTRY: Final = "registry"


class RegistryDatabaseError(Exception):
    """The database cannot be found or opened; the text says what to do."""


@dataclass(frozen=True)
class RegistryDatabase:
    """Whose registry it is, with the key file of the platform, and where its database is."""

    platform: "PlatformSettings"
    url: str
    # Empty when the settings of the environment say where it is.
    data_directory: str = ""


@contextmanager
def registry_database(data_directory: Path | None, binaries: Path | None = None) -> Iterator[RegistryDatabase]:
    """Give the database: of the platform that runs on the directory, or with a server that is started for this; without
    a directory that of the environment's settings. Raises RegistryDatabaseError.
    """
    if data_directory is None:
        yield _configured()
        return
    files = PlatformFiles(data_directory.absolute())
    try:
        state = platform_state.find_running(files.directory)
        is_running = state is not None
        state = state or platform_state.read(files.directory)
    except (OSError, ValueError) as error:
        raise RegistryDatabaseError(f"{data_directory}: {error}") from error
    if state is None:
        raise RegistryDatabaseError(f"{data_directory} holds no platform 该目录没有平台")
    if is_running or not (files.postgres / "cluster").is_dir():
        yield RegistryDatabase(_settings(state, files), _known_url(state), str(files.directory))
        return
    with _started(files, binaries) as url:
        yield RegistryDatabase(_settings(state, files), url, str(files.directory))


def _configured() -> RegistryDatabase:
    from services.common.settings import check_config
    from services.registry.config import SETTINGS, RegistryConfig

    # All that is missing at once.
    is_well, problems = check_config(SETTINGS)
    if not is_well:
        raise RegistryDatabaseError(
            "name the platform with --data, or run this with the settings of its registry, as in its pod "
            f"请用 --data 指定平台, 或在登记服务的环境中运行:\n{problems}"
        )
    config = RegistryConfig.load()
    return RegistryDatabase(config.platform, config.service.database_url)


def _settings(state: PlatformState, files: PlatformFiles) -> "PlatformSettings":
    from services.common.settings import PlatformSettings, load

    key_file = state.signing_key_file or str(files.signing_key)
    return load(PlatformSettings, {PLATFORM_VARIABLE: state.platform, SIGNING_KEY_VARIABLE: key_file})


def _known_url(state: PlatformState) -> str:
    """Return where the database is: in the state of a platform with its own server, or in the environment."""
    url = state.database_urls.get(_REGISTRY) or os.environ.get(database_variable(_REGISTRY), "")
    if not url:
        raise RegistryDatabaseError(
            f"where the registry's database of {state.platform} is, is not known: its server is starting, or was given "
            f"to `zhichao up`; set {database_variable(_REGISTRY)} as it was there 请设置登记服务的数据库地址"
        )
    return url


@contextmanager
def _started(files: PlatformFiles, binaries: Path | None) -> Iterator[str]:
    from cli.postgres import EmbeddedPostgres, PostgresError

    lock = DataLock(files)
    try:
        # Nobody starts the platform meanwhile.
        lock.acquire()
        try:
            with EmbeddedPostgres(files.postgres, binaries=binaries) as server:
                if _REGISTRY not in server.query("SELECT datname FROM pg_database").split():
                    raise RegistryDatabaseError(f"{files.directory} holds no registry 该目录没有登记服务数据库")
                _upgrade(server.url(_REGISTRY))
                yield server.url(_REGISTRY)
        finally:
            lock.release()
    except (DirectoryHeldError, PostgresError) as error:
        raise RegistryDatabaseError(str(error)) from error


def _upgrade(url: str) -> None:
    """Bring the schema to this release, as the next `zhichao up` would."""
    from services.common.database import SchemaError, translate_errors, upgrade
    from services.common.errors import ServiceError

    try:
        with translate_errors():
            upgrade(url, SERVICES[_REGISTRY].migrations_package)
    except (SchemaError, ServiceError) as error:
        raise RegistryDatabaseError(
            f"the registry's database cannot be brought up to date 登记服务数据库升级失败: {error}"
        ) from error
