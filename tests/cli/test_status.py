"""`zhichao status` and `zhichao relay` against one real platform, and against ones that are not there."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from rich.console import Console

from cli.access import CallerOptions
from cli.certificates import make_certificates
from cli.doctor import evidence_store
from cli.platform_process import PlatformProcess
from cli.relay_command import relay
from cli.status import status
from cli.status_display import NARROW_WIDTH, log_table, plain_line, platform_table
from cli.status_figures import LinkFigures, LinkLogFigures, LogFigures, PlatformFigures, ServiceFigures
from cli.status_targets import Target, TargetError, find, identify
from cli.store_figures import store_figures
from cli.verify import verify
from tests.waiting import wait_until
from zhichao.video.v1 import service_pb2 as pb

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "127.0.0.1:9"
STREAMS = ("registry", "weighing", "video", "enforcement")


@pytest.fixture(scope="module")
def platform() -> Iterator[PlatformProcess]:
    directory = Path(tempfile.mkdtemp(prefix="zhichao-test-status-"))
    try:
        # An upstream that nobody serves: the link stays down.
        certificates = make_certificates(directory / "pki", ["141025"])
        with PlatformProcess(
            "141025", directory / "141025", upstream=NOBODY, tls_directory=certificates["141025"]
        ) as process:
            yield process
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def invoke(command: Any, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, arguments)
    return result.exit_code, result.output


def token_of(platform: PlatformProcess, person: str) -> Path:
    return platform.data_directory / "secrets" / f"{person}.token"


def shown(platform: PlatformProcess, person: str = "operator") -> tuple[str, ...]:
    """Name the token to show where a platform is named by its addresses."""
    return "--token-file", str(token_of(platform, person))


def test_a_platform_is_found_by_directory_and_by_addresses(platform: PlatformProcess) -> None:
    for named in ([str(platform.data_directory)], [str(platform.data_directory.parent)]):
        (found,) = find(named)
        assert (found.platform, found.problem) == ("141025", "")
        assert found.addresses == platform.addresses
    token_file = token_of(platform, "operator")
    services = ("relay", "registry", "video", "enforcement", "weighing")
    (found,) = find([platform.address(name) for name in services], CallerOptions(token_file))
    assert found == Target("141025", addresses=platform.addresses, options=CallerOptions(token_file))
    assert list(found.addresses) == ["registry", "weighing", "video", "enforcement", "relay"]


def test_status_shows_every_log_and_service(platform: PlatformProcess) -> None:
    exit_code, output = invoke(status, str(platform.data_directory), "--json")
    assert exit_code == 0
    (document,) = json.loads(output)
    assert document["is_well"]
    assert {(log["stream"], log["origin"], log["is_own"]) for log in document["logs"]} == {
        (stream, "141025", True) for stream in STREAMS
    }
    assert [service["health"] for service in document["services"]] == ["SERVING"] * 5
    assert document["link"]["state"] == "CONNECTING"
    assert document["suspected_count"] == 0
    assert all(log["records_per_second"] == 0 for log in document["logs"])

    exit_code, output = invoke(status, str(platform.data_directory))
    assert exit_code == 0
    assert "141025" in output
    assert "connecting" in output


def test_status_shows_the_evidence_store(platform: PlatformProcess) -> None:
    def store() -> Any:
        (document,) = json.loads(invoke(status, str(platform.data_directory), "--json")[1])
        return document["store"]

    wait_until(lambda: store()["is_reachable"], "the store was asked")

    exit_code, output = invoke(status, str(platform.data_directory))

    assert exit_code == 0
    assert "141025 store 证据库 ok 正常  0 objects 0 B, lock 锁定 " in output
    assert (store()["bucket"], store()["trouble"], store()["object_count"]) == ("zhichao-evidence", "", 0)


def test_doctor_asks_the_service_as_the_operator_of_the_machine(platform: PlatformProcess, tmp_path: Path) -> None:
    found = evidence_store._status(platform.data_directory)

    assert found is not None
    assert found.bucket == "zhichao-evidence"
    assert evidence_store._status(tmp_path) is None


def test_a_store_in_trouble_is_told_and_keeps_nobody_waiting() -> None:
    full = pb.GetStoreStatusResponse(
        is_reachable=True,
        trouble=pb.STORE_TROUBLE_FULL,
        trouble_detail="no room left [x] 证据库空间已满",
        missing_count=2,
        changed_count=1,
    )
    figures = replace(busy("141025", "古县"), store=store_figures(full))
    console = Console(width=NARROW_WIDTH, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123 - closed below
    with console.file:
        console.print(platform_table([figures]))
    text = console.export_text()

    assert "141025 store: no room left [x] 证据库空间已满" in text
    assert "141025 evidence: 2 objects missing, 1 changed" in text
    assert "store=full missing=2 changed=1" in plain_line(figures)
    # What waits for all services to serve does not wait for a store: records go on without it.
    assert replace(figures, services=()).is_well


def test_what_is_not_there_is_shown_as_such(platform: PlatformProcess, tmp_path: Path) -> None:
    exit_code, output = invoke(status, platform.address("relay"), NOBODY, *shown(platform))
    assert exit_code == 1
    assert f"{NOBODY}: unreachable" in output
    with pytest.raises(TargetError):
        identify(NOBODY, CallerOptions())
    for named in (str(tmp_path), "no such thing"):
        assert invoke(status, named)[0] == 2


def test_a_stopped_platform_is_shown_as_such(platform: PlatformProcess, tmp_path: Path) -> None:
    stopped = tmp_path / "141025"
    stopped.mkdir()
    state = json.loads((platform.data_directory / "platform.json").read_text("utf-8"))
    (stopped / "platform.json").write_text(json.dumps({**state, "phase": "stopped"}), "utf-8")
    exit_code, output = invoke(status, str(stopped), "--json")
    assert exit_code == 1
    assert json.loads(output)[0]["problem"].startswith("not running")
    assert invoke(verify, str(stopped))[0] == 2


def test_a_service_that_is_away_is_named(platform: PlatformProcess, tmp_path: Path) -> None:
    state = json.loads((platform.data_directory / "platform.json").read_text("utf-8"))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        away = f"127.0.0.1:{unused.getsockname()[1]}"
        state["addresses"]["weighing"] = state["health_addresses"]["weighing"] = away
        (tmp_path / "platform.json").write_text(json.dumps(state), "utf-8")
        # The lock tells that it runs: it is the platform's own.
        (tmp_path / "platform.lock").symlink_to(platform.data_directory / "platform.lock")
        exit_code, output = invoke(status, str(tmp_path), "--json", *shown(platform))
    assert exit_code == 1
    (document,) = json.loads(output)
    assert {one["name"]: one["health"] for one in document["services"]} == {
        "registry": "SERVING",
        "weighing": "UNREACHABLE",
        "video": "SERVING",
        "enforcement": "SERVING",
        "relay": "SERVING",
    }


def test_watching_ends_with_ctrl_c(platform: PlatformProcess) -> None:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "cli.main", "status", str(platform.data_directory), "--watch"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}"},
    )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert line.startswith("141025 registry=")
    assert process.returncode == 0


def test_the_link_is_shown_in_detail(platform: PlatformProcess) -> None:
    exit_code, output = invoke(relay, "status", "--data", str(platform.data_directory))
    assert exit_code == 1
    assert NOBODY in output
    assert "connecting 连接中" in output
    exit_code, output = invoke(relay, "status", "--relay", platform.address("relay"), "--json", *shown(platform))
    assert exit_code == 1
    assert json.loads(output)["link"]["upstream_address"] == NOBODY
    assert invoke(relay, "status", "--relay", platform.address("registry"), *shown(platform))[0] == 2


def test_parked_entries_are_listed_and_replayed(platform: PlatformProcess) -> None:
    services = ("--service", platform.address("weighing"), "--service", platform.address("registry"))
    named = (*services, *shown(platform))
    assert invoke(relay, "parked", *named)[0] == 0
    with psycopg.connect(platform.database_url("weighing")) as connection:
        connection.execute(
            "INSERT INTO journal_parked"
            " SELECT origin, 1, 'zhichao.test.v1.Note', 'unknown_kind', '[not markup', now(), 1"
            " FROM journal_logs WHERE is_own"
        )
    exit_code, output = invoke(relay, "parked", *named)
    assert exit_code == 1
    assert "unknown_kind" in output
    assert "[not markup" in output
    exit_code, output = invoke(relay, "parked", "--data", str(platform.data_directory), "--json")
    (entry,) = json.loads(output)["parked"]
    assert (entry["stream"], entry["origin"], entry["sequence"]) == ("weighing", "141025", 1)
    assert invoke(relay, "parked", *named, "--origin", "141000")[0] == 0
    exit_code, output = invoke(relay, "replay", *named, "--json")
    # Entry 1 begins the log; it needs no projection.
    assert (exit_code, json.loads(output)["weighing"]) == (0, {"projected": 1, "parked": 0})
    assert invoke(relay, "parked", *named)[0] == 0


def test_a_running_platform_is_verified(platform: PlatformProcess) -> None:
    by_address = [platform.address(name) for name in STREAMS]
    for arguments in ([str(platform.data_directory)], [*by_address, *shown(platform, "auditor")]):
        exit_code, output = invoke(verify, *arguments, "--json")
        assert exit_code == 0, output
        logs = json.loads(output)["platforms"][0]["logs"]
        assert {log["stream"] for log in logs} == set(STREAMS)
        assert sum(log["proof_count"] for log in logs) == sum(log["size"] for log in logs)
        # What an auditor reads over RPC is journalled itself: the logs grow while they are read.
        assert all(log["checked"] >= log["size"] for log in logs)


def busy(platform: str, name: str) -> PlatformFigures:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    progress = LinkLogFigures("weighing", platform, 1_234_567, 1_230_000, 4_567, 1, 12.5, "HISTORY_MISMATCH", "two [x]")
    return PlatformFigures(
        platform,
        now,
        name=name,
        services=[ServiceFigures("weighing", "127.0.0.1:7702", "UNREACHABLE", "[gone")],
        logs=[
            LogFigures("registry", platform, 1_235, True, 0, "", now, 0.5),
            LogFigures("video", platform, 345_678, True, 0, "", now, 0.5),
            LogFigures("enforcement", platform, 12_345, True, 0, "", now, 0.5),
            LogFigures("weighing", platform, 1_234_568, True, 12, "", now, 4_321.0),
        ],
        link=LinkFigures("CATCHING_UP", now, "127.0.0.1:7806", "141000", "", 0.1, [progress]),
        suspected_count=1_234,
    )


@pytest.mark.parametrize("width", [NARROW_WIDTH, 120])
def test_the_tables_fit_the_screen(width: int) -> None:
    platforms = [
        busy("141025", "古县"),
        busy("141000", "临汾市"),
        PlatformFigures("140000", busy("", "").time, problem="x"),
    ]
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123 - closed below
    with console.file:
        console.print(platform_table(platforms, width=width))
        console.print(log_table(platforms[:2], width=width))
    text = console.export_text()
    assert "…" not in text
    for whole in ("141000 临汾市", "1,234,567", "4,321", "4,567", "12.5", "1,234 ", "catching up", "HISTORY_MISMATCH"):
        assert whole in text, text
    assert ("12,344" in text) == (width > NARROW_WIDTH)
    assert "345,677" in text
    assert "weighing=1234567" in plain_line(platforms[0])
