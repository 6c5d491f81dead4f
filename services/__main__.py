"""Runs any set of services in one process: `python -m services registry weighing relay [--check-config]`; brings their
schemas up to date beforehand: `python -m services migrate registry weighing [--wait]`.
"""

import ctypes
import gc
import importlib
import sys
from collections.abc import Sequence
from typing import Any, Final

from pydantic_settings import BaseSettings

from services import lean, migrate  # noqa: F401 - lean comes first, and does all when it is imported
from services.common import logs
from services.common.database import SchemaError
from services.common.errors import ServiceError
from services.common.lifecycle import Service, run_until_signal
from services.common.rpc_server import ListenError
from services.common.settings import PlatformSettings, SettingsError, check_config, load
from services.journal.log_writer import LogIdentityError

SERVICES: Final = ("registry", "weighing", "video", "enforcement", "relay")
"""Services that can be named, in the order in which they are started; the order is a convenience and not needed."""

SWITCH_INTERVAL_SECONDS: Final = 0.0001
"""How long one thread may keep the interpreter while others want it. At Python's default of 5 ms the thread that
commits waits that long after every answer of the database (docs/benchmarks.md, streamed weighings)."""

COLLECT_AFTER_OBJECTS: Final = 50_000
"""New objects between two looks for garbage. At Python's default of 700 the collector walks the records of a
batch dozens of times and takes a quarter of the time of a backlog (docs/benchmarks.md); next to nothing here refers to
itself."""

COLLECT_ALL_AFTER_LOOKS: Final = 50
"""Looks at the young objects between two looks at the old ones, of which most live as long as the process."""

MAPPED_BYTES_MIN: Final = 256 * 1024
"""What is at least so large, as a chunk of an upload, is given back to the system as soon as it is free. By itself the
C library keeps more and more of it: 15 to 40 MB with sixteen uploads at once (tests/video/test_memory.py)."""

ARENAS_MAX: Final = 2
"""Areas in which the C library makes room for small things; it would have eight for each core, each with holes."""

MIGRATE: Final = "migrate"
"""The first argument that asks for the schemas instead of the services."""

_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

_USAGE: Final = (
    f"usage: python -m services [--check-config] {{{','.join(SERVICES)}}} …\n"
    f"       python -m services {MIGRATE} [{migrate.WAIT_OPTION}] SERVICE …\n"
)


def main(arguments: list[str]) -> int:
    """Run until SIGTERM or SIGINT; 0 after a clean stop, 1 when it cannot start, 2 for bad settings or arguments."""
    names = [argument for argument in arguments if not argument.startswith("-")]
    options = set(arguments) - set(names)
    is_migrating = names[:1] == [MIGRATE]
    if is_migrating:
        names = names[1:]
    allowed = {migrate.WAIT_OPTION} if is_migrating else {"--check-config"}
    if not names or not set(names) <= set(SERVICES) or not options <= allowed:
        sys.stderr.write(_USAGE)
        return 2
    wanted = [name for name in SERVICES if name in names]
    if is_migrating:
        logs.configure("json", "info")
        return migrate.main(wanted, is_waiting=bool(options))
    try:
        if options:
            return _check(wanted)
        platform = load(PlatformSettings)
        logs.configure(platform.log_format, platform.log_level)
        if wanted == ["video"]:
            # Where records are judged besides, their batches are better off without: they come again and again.
            tune_allocator()
        services = [*_tracing(platform), *(_build(name) for name in wanted)]
        tune_interpreter()
        run_until_signal(services, grace_seconds=platform.stop_grace_seconds)
    except (SettingsError, SchemaError, LogIdentityError, ListenError, ServiceError) as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, SettingsError) else 1
    return 0


def tune_interpreter() -> None:
    """Set what the interpreter does behind the program's back to suit a server; called once everything is imported."""
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS, COLLECT_ALL_AFTER_LOOKS, COLLECT_ALL_AFTER_LOOKS)


def tune_allocator() -> None:
    """Let the C library keep little of what big bytes took on their way; for a process that passes many of them on.

    Called before there are threads, for which it would have made room already.
    Does nothing where the C library is not that of GNU, whose numbers these are (mallopt(3)).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES_MIN)
        mallopt(_M_ARENA_MAX, ARENAS_MAX)


def _check(names: Sequence[str]) -> int:
    groups: dict[type[BaseSettings], None] = {}
    for name in names:
        groups.update(dict.fromkeys(_module(name, "config").SETTINGS))
    is_well, text = check_config(tuple(groups))
    sys.stdout.write(f"{text}\n")
    return 0 if is_well else 2


def _tracing(platform: PlatformSettings) -> list[Service]:
    """Return what sends traces away, if they are wanted; only then OpenTelemetry is imported."""
    if platform.traces_endpoint is None:
        return []
    export = importlib.import_module("services.common.tracing_export").TraceExport
    stage: Service = export(platform.traces_endpoint, platform.traces_ratio, platform.platform, platform.tls_ca_file)
    return [stage]


def _build(name: str) -> Service:
    config = getattr(_module(name, "config"), f"{name.capitalize()}Config")
    service: Service = _module(name, "app").build(config.load())
    return service


def _module(name: str, part: str) -> Any:
    # Imported by name: a process pays only for the services that it runs.
    return importlib.import_module(f"services.{name}.{part}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
