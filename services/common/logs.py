"""One place that decides how log events look: JSON lines for machines, coloured lines for people. Events of libraries
that use the standard `logging` take the same way.
"""

import json
import logging
import sys
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import structlog

from services.common.request import request_context

LogFormat = Literal["json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]

# A value under a key that contains one of these never reaches a log line.
SECRET_KEY_PARTS = ("password", "token", "secret", "database_url", "private_key", "authorization", "cookie")
# Nor does one under a key that is named like a field with personal data (docs/permissions.md).
PERSONAL_KEY_PARTS = ("driver", "phone_number", "license_number", "display_name", "person_name", "officer_name")
# `name` alone is a person's, too; `log_name` and the like are not.
PERSONAL_KEY = "name"
DROPPED = "***"

# Libraries that are chatty below this level without being asked.
_QUIET_LIBRARIES = ("alembic", "sqlalchemy", "psycopg", "grpc", "asyncio", "urllib3")

_EventDict = MutableMapping[str, Any]


def configure(
    format: LogFormat = "json",
    level: LogLevel = "info",
    stream: TextIO | None = None,
) -> None:
    """Send every log event of this process to `stream` (standard error unless told) in one format.

    May be called again; the last call holds. Standard output stays free for what a command prints.
    """
    target = stream if stream is not None else sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.types.Processor] = [add_request_id, structlog.stdlib.ExtraAdder(), drop_secrets, _add_time]
    own: list[structlog.types.Processor] = [_add_level, add_request_id, drop_secrets, _add_time]
    last: list[structlog.types.Processor]
    if format == "json":
        last = [_add_exception_text, render_json]
    else:
        last = [
            structlog.dev.ConsoleRenderer(
                colors=target.isatty(),
                # Without the values of variables, which rich would print: they hold records and settings.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    structlog.configure(
        processors=[*own, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(target),
        # Loggers live in modules and are made before this call; a cache would freeze what they found then.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    logging.captureWarnings(True)


def add_request_id(_logger: object, _method: str, event: _EventDict) -> _EventDict:
    """Put the id of the call being served on every event that is logged while serving it."""
    if "request_id" not in event and (request_id := request_context().request_id):
        event["request_id"] = request_id
    return event


def drop_secrets(_logger: object, _method: str, event: _EventDict) -> _EventDict:
    """Replace values under keys that are named like secrets."""
    for key in event:
        if _is_secret(key):
            event[key] = DROPPED
    return event


def render_json(_logger: object, _method: str, event: _EventDict) -> str:
    """Render one event as one line of JSON with the time, the level and the event first."""
    line = {"time": event.pop("time", None), "level": event.pop("level", None), "event": event.pop("event", None)}
    line.update(event)
    return _encode(line)


_encode: Callable[[object], str] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode

# Keys are constants in the code, so this holds as many as there are log calls; strangers' keys are bounded below.
_secret_keys: dict[str, bool] = {}
_SECRET_KEYS_MAX = 4096


def _is_secret(key: str) -> bool:
    known = _secret_keys.get(key)
    if known is None:
        lower = key.lower()
        # `page_token` and the like are tokens too: dropping too much costs less than logging a credential.
        known = lower == PERSONAL_KEY or any(part in lower for part in SECRET_KEY_PARTS + PERSONAL_KEY_PARTS)
        if len(_secret_keys) < _SECRET_KEYS_MAX:
            _secret_keys[key] = known
    return known


def _add_level(_logger: object, method: str, event: _EventDict) -> _EventDict:
    event["level"] = "error" if method == "exception" else method
    return event


def _add_time(_logger: object, _method: str, event: _EventDict) -> _EventDict:
    event["time"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event


def _add_exception_text(logger: Any, method: str, event: _EventDict) -> _EventDict:
    if "exc_info" in event:
        return structlog.processors.format_exc_info(logger, method, event)
    return event
