"""Log lines: one JSON object per event whoever logs it, and no secrets."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog

from services.common import logs
from services.common.request import RequestContext, use_request_context


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, structlog.get_config())
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    structlog.configure(**before[2])
    logging.captureWarnings(False)


def lines(stream: io.StringIO) -> list[Any]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def configured(**options: Any) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(stream=stream, **options)
    return stream


def test_one_json_line_per_event() -> None:
    stream = configured()

    structlog.get_logger().info("weighing_recorded", unit="u1", plate="晋A", count=3)

    (line,) = lines(stream)
    assert datetime.fromisoformat(line.pop("time")).utcoffset() == timedelta(0)
    assert list(line.items()) == [
        ("level", "info"),
        ("event", "weighing_recorded"),
        ("unit", "u1"),
        ("plate", "晋A"),
        ("count", 3),
    ]


def test_value_that_json_does_not_know() -> None:
    stream = configured()

    structlog.get_logger().info("thing_seen", thing={1}, file=io.StringIO)

    assert lines(stream)[0]["thing"] == "{1}"


def test_standard_logging_takes_the_same_way() -> None:
    stream = configured()

    logging.getLogger("library").warning("disk %s is %d %% full", "a", 90, extra={"api_token": "abc"})

    (line,) = lines(stream)
    assert (line["level"], line["logger"], line["event"]) == ("warning", "library", "disk a is 90 % full")
    assert line["api_token"] == "***"


def test_warnings_are_captured() -> None:
    stream = configured()

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old way", stacklevel=1)

    assert "old way" in lines(stream)[0]["event"]


def test_exception_stays_on_one_line() -> None:
    stream = configured()

    try:
        raise ValueError("three\nlines\nlong")
    except ValueError:
        structlog.get_logger().exception("thing_failed")

    (line,) = lines(stream)
    assert line["level"] == "error"
    assert "ValueError: three" in line["exception"]


@pytest.mark.parametrize("key", ["password", "api_token", "DATABASE_URL", "client_secret", "Authorization"])
def test_secrets_are_dropped(key: str) -> None:
    stream = configured()

    structlog.get_logger().info("connected", **{key: "hunter2"})

    assert lines(stream)[0][key] == "***"


def test_level() -> None:
    stream = configured(level="warning")

    structlog.get_logger().info("unimportant_seen")
    logging.getLogger("library").info("unimportant")
    structlog.get_logger().warning("important_seen")

    assert [line["event"] for line in lines(stream)] == ["important_seen"]


def test_request_id_of_the_call_is_added() -> None:
    stream = configured()

    with use_request_context(RequestContext("abc")):
        structlog.get_logger().info("thing_seen")
    structlog.get_logger().info("thing_seen")

    assert [line.get("request_id") for line in lines(stream)] == ["abc", None]


def test_console_is_for_people() -> None:
    stream = configured(format="console")

    structlog.get_logger().info("weighing_recorded", unit="u1", password="hunter2")

    assert "weighing_recorded" in stream.getvalue()
    assert "unit=u1" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_console_shows_no_local_variables() -> None:
    stream = configured(format="console")

    try:
        local = "hunter" + "2"
        raise ValueError(len(local))
    except ValueError:
        structlog.get_logger().exception("thing_failed")

    assert "ValueError: 7" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()
