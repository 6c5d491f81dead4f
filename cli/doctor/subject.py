"""The platform that the doctor looks at: what its processes were told, as far as that can be found out from outside."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from cli import platform_state
from cli.platform_layout import SERVICES, PlatformFiles
from cli.platform_state import PlatformState
from cli.postgres import processes
from services.common.settings import PREFIX, SECRETS_DIR_VARIABLE

PLATFORM_VARIABLE: Final = "ZHICHAO_PLATFORM"


class SubjectError(Exception):
    """There is no platform to look at; the text says what to name."""


@dataclass(frozen=True)
class Subject:
    """One platform on this machine, or in this container."""

    platform: str
    # The settings of its processes: variables with our prefix.
    environment: Mapping[str, str]
    # Services to look at.
    services: tuple[str, ...]
    data_directory: Path | None = None
    state: PlatformState | None = None
    # Whether `zhichao up` holds the data directory now; None where no `up` is involved.
    is_running: bool | None = None
    health_addresses: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    database_urls: Mapping[str, str] = field(default_factory=dict)
    metrics_addresses: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_directory(cls, directory: Path, environment: Mapping[str, str]) -> Self:
        """Take the platform of a data directory, running or not. Raises SubjectError."""
        try:
            state = platform_state.read(directory)
            running = platform_state.find_running(directory)
        except (OSError, ValueError) as error:
            raise SubjectError(f"{PlatformFiles(directory).state}: {error} 无法读取平台状态文件") from error
        if state is None:
            raise SubjectError(f"{directory} holds no platform 目录中没有平台")
        variables = _ours(environment)
        if running is not None:
            variables |= _told(running)
        variables = {**_kept(variables), **variables}
        variables[PLATFORM_VARIABLE] = state.platform
        if state.signing_key_file:
            variables["ZHICHAO_SIGNING_KEY_FILE"] = state.signing_key_file
        services = tuple(name for name in SERVICES if name in state.addresses) or tuple(SERVICES)
        return cls(
            state.platform,
            variables,
            services,
            data_directory=directory,
            state=state,
            is_running=running is not None,
            health_addresses=running.health_addresses if running else {},
            addresses=running.addresses if running else {},
            database_urls={**_variables(variables, services, "DATABASE_URL"), **(running or state).database_urls},
            metrics_addresses=_variables(variables, services, "METRICS_LISTEN") if running else {},
        )

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Self:
        """Take the platform that this environment configures, as in a container. Raises SubjectError."""
        platform = environment.get(PLATFORM_VARIABLE, "")
        if not platform:
            raise SubjectError(f"{PLATFORM_VARIABLE} is not set 未设置")
        variables = _ours(environment)
        variables = {**_kept(variables), **variables}
        services = tuple(
            name for name in SERVICES if any(one.startswith(f"{PREFIX}{name.upper()}_") for one in variables)
        )
        return cls(
            platform,
            variables,
            services,
            health_addresses=_variables(variables, services, "HEALTH_LISTEN"),
            addresses=_variables(variables, services, "LISTEN"),
            database_urls=_variables(variables, services, "DATABASE_URL"),
            metrics_addresses=_variables(variables, services, "METRICS_LISTEN"),
        )


def _ours(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(PREFIX)}


def _kept(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that lie in the secrets directory, one file each; what cannot be read is left out."""
    directory = variables.get(SECRETS_DIR_VARIABLE, "")
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for path in sorted(Path(directory).iterdir()) if directory else ():
            name = path.name.upper()
            if name.startswith(PREFIX):
                with contextlib.suppress(OSError, UnicodeDecodeError):
                    found[name] = path.read_text("utf-8").strip()
    return found


def _told(state: PlatformState) -> dict[str, str]:
    """Return the variables that the service processes of a running platform were started with.

    Only their own account and root may read them; anybody else looks with what is set where they are.
    """
    found: dict[str, str] = {}
    for process in state.processes.values():
        if not process.pid or processes.identity(process.pid) != process.identity:
            continue
        try:
            content = (processes.PROC / str(process.pid) / "environ").read_bytes()
        except OSError:
            continue
        pairs = (os.fsdecode(one).partition("=") for one in content.split(b"\0"))
        found |= {name: value for name, separator, value in pairs if separator and name.startswith(PREFIX)}
    return found


def _variables(variables: Mapping[str, str], services: tuple[str, ...], suffix: str) -> dict[str, str]:
    named = {name: variables.get(f"{PREFIX}{name.upper()}_{suffix}", "") for name in services}
    return {name: _reached(value) for name, value in named.items() if value}


def _reached(value: str) -> str:
    """Return where something that listens everywhere is reached from its own machine."""
    for everywhere, loopback in (("0.0.0.0:", "127.0.0.1:"), ("[::]:", "[::1]:")):
        if value.startswith(everywhere):
            return loopback + value.removeprefix(everywhere)
    return value
