"""Brings the schemas of services up to date ahead of the services themselves, with the role that owns the tables:
`python -m services migrate registry weighing`; with `--wait` it changes nothing and waits until that has been done.
"""

import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final

import structlog

from services.common.database import READ_VERSION, SchemaError, check, grant, missing, translate_errors, upgrade
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.settings import ServiceSettings, SettingsError, load, schema_settings

WAIT_OPTION: Final = "--wait"

UNREACHABLE_SECONDS_MAX: Final = 120.0
"""How long a database that does not answer is waited for before migrating: one that is made anew together with its
platform starts in about a minute. Then the command fails, and whoever runs it tries again."""

WAIT_SECONDS_MAX: Final = 900.0
"""How long `--wait` waits: ten minutes for another migration and its locks (services.common.database.schema), and a
database that starts meanwhile. Then it fails with what is missing, so that somebody sees it."""

LOOK_SECONDS: Final = 2.0
"""Between two looks at a database; a look is a connection and a few small queries."""

_log = structlog.get_logger()


def main(names: Sequence[str], *, is_waiting: bool) -> int:
    """Migrate the named services, or wait for it; 0 when all schemas are there, 1 when not, 2 for bad settings.

    Reads only what a schema needs of each service's settings, so that a job needs neither the platform's code nor a
    key. A service without a database is a bad argument.
    """
    try:
        services = [_Schema(name) for name in names]
        for service in services:
            _until_done(
                service.look if is_waiting else service.migrate,
                seconds_max=WAIT_SECONDS_MAX if is_waiting else UNREACHABLE_SECONDS_MAX,
                is_waiting=is_waiting,
            )
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (SchemaError, ServiceError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


class _Schema:
    """The schema of one service, as its settings name it."""

    def __init__(self, name: str) -> None:
        config: Any = import_module(f"services.{name}.config")
        service: Any = config.SETTINGS[-1]
        if not issubclass(service, ServiceSettings):
            raise SettingsError(f"{name} has no database: there is nothing to migrate")
        settings = load(schema_settings(service))
        self._url = settings.database_url
        self._runtime_role = settings.runtime_role
        self._migrations = f"services.{name}.migrations"
        self._tables = f"services.{name}.tables"
        self._name = name

    def migrate(self) -> None:
        """Bring it up to date, and grant the rights."""
        upgrade(self._url, self._migrations)
        if self._runtime_role:
            grant(self._url, self._runtime_role, self._tables)

    def look(self) -> None:
        """Raise SchemaError unless a service of this release can run on it with the role of this process."""
        lacking = missing(self._url, self._tables)
        if READ_VERSION in lacking:
            raise SchemaError(
                f"the tables of {self._name} are not there yet, or this role may not read them: migrate with "
                f"ZHICHAO_{self._name.upper()}_RUNTIME_ROLE set to the role that the service runs with"
            )
        check(self._url, self._migrations)
        if lacking:
            raise SchemaError(
                f"the role of {self._name} lacks {', '.join(lacking)}: migrate with "
                f"ZHICHAO_{self._name.upper()}_RUNTIME_ROLE set to it"
            )


def _until_done(step: Callable[[], None], *, seconds_max: float, is_waiting: bool) -> None:
    """Repeat a step while its database is away, and while its schema is not there if that is waited for."""
    ends_at = time.monotonic() + seconds_max
    told = ""
    while True:
        try:
            with translate_errors():
                return step()
        except (SchemaError, ServiceError) as error:
            is_worth_waiting = is_waiting if isinstance(error, SchemaError) else _is_away(error)
            if not is_worth_waiting or time.monotonic() >= ends_at:
                raise
            cause = f"{error} {error.__cause__ or ''}".strip()
            if cause != told:
                told = cause
                _log.info("schema_awaited", cause=cause)
        time.sleep(LOOK_SECONDS)


def _is_away(error: ServiceError) -> bool:
    return error.reason is Reason.DATABASE_UNAVAILABLE
