"""`zhichao evidence store` against a real video service with a real store, well and in trouble."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from cli.main import main
from cli.store_display import store_facts, store_line, store_trouble_lines, volume_text
from cli.store_figures import StoreFigures, store_figures
from services.common.access.permissions import Role
from services.video.object_store import StoreFullError
from tests.video.conftest import county, county_registry, day, evidence_store, video_of
from tests.video.harness import RunningVideo
from tests.waiting import wait_until
from zhichao.video.v1 import service_pb2 as pb

__all__ = ["county", "county_registry", "day", "evidence_store", "video_of"]
# Fixtures of the video tests, which pytest finds by their names here.


@pytest.fixture
def told(county: RunningVideo, tmp_path: Path) -> Any:
    """Return the command as somebody runs it who may look: its exit status and what it writes."""
    token_file = tmp_path / "person.token"
    token_file.write_text(county.access.person(Role.VIEWER))

    def run(*options: str, address: str = county.address) -> tuple[int, str]:
        arguments = ["evidence", "store", "--video", address, "--token-file", str(token_file), *options]
        result = CliRunner().invoke(main, arguments, env={"COLUMNS": "250"})
        return result.exit_code, result.output

    return run


def document(output: str) -> Any:
    """Read the JSON; log lines of the service, which runs in this process, stand before it."""
    return json.loads(output.splitlines()[-1])


def test_a_store_that_is_well_is_shown_whole(county: RunningVideo, told: Any) -> None:
    size = county.sealed().evidence.size_bytes
    wait_until(lambda: document(told("--json")[1])["reconcile_time"], "store and tables are compared")

    exit_code, output = told()
    in_json = document(told("--json")[1])

    assert exit_code == 0
    for words in (f"{county.bucket} at {county.store_server.url}", "ok 正常", "enforced 有效", "Orphans 无清单文件"):
        assert words in output
    assert "Trouble" not in output
    expected = {"is_well": True, "object_count": 1, "object_bytes": size, "trouble": "", "lock_state": "enforced"}
    assert {name: in_json[name] for name in expected} == expected
    assert in_json["oldest_check_time"].startswith(f"{county.clock.now():%Y-%m-%d}")


def test_a_store_in_trouble_is_told_with_its_cause(county: RunningVideo, told: Any) -> None:
    county.app.store_watch._writes.refused(StoreFullError("no room left in bucket 证据库空间已满"))

    exit_code, output = told()

    assert exit_code == 1
    assert "full 已满" in output
    assert "no room left in bucket 证据库空间已满" in output
    exit_code, output = told("--json")
    assert (exit_code, document(output)["trouble"], document(output)["is_reachable"]) == (1, "full", True)


def test_what_is_lost_is_no_success(county: RunningVideo, told: Any) -> None:
    held = county.sealed()
    county.query("UPDATE objects SET state = 4, damage = 11 WHERE digest = %s", held.evidence.digest)

    exit_code, output = told()

    assert exit_code == 1
    assert "1 missing 缺失, 0 changed 损坏" in output


def test_a_service_that_is_away_is_no_success(told: Any) -> None:
    exit_code, output = told(address="127.0.0.1:9")

    assert exit_code == 1
    assert "127.0.0.1:9" in output


def figures(**changes: Any) -> StoreFigures:
    """Make what a large store says of itself."""
    values: dict[str, Any] = {
        "endpoint": "http://127.0.0.1:7708",
        "bucket": "zhichao-evidence",
        "is_reachable": True,
        "lock_state": pb.LOCK_STATE_NOT_ENFORCED,
        "object_count": 12_345_678,
        "object_bytes": 999_900_000_000_000,
    }
    return store_figures(pb.GetStoreStatusResponse(**(values | changes)))


@pytest.mark.parametrize("trouble", pb.StoreTrouble.values())
def test_the_line_of_a_store_fits_a_narrow_screen(trouble: int) -> None:
    line = store_line("141025", figures(trouble=trouble))

    assert line.cell_len <= 80
    assert ("12,345,678 objects 999.9 TB" in line.plain) == (trouble == pb.STORE_TROUBLE_UNSPECIFIED)


def test_a_trouble_of_a_newer_release_is_told_by_its_number() -> None:
    newer = figures(trouble=99, trouble_detail="something new")

    assert not newer.is_well
    assert store_line("141025", newer).plain == "141025 store 证据库 99"
    assert list(store_trouble_lines("141025", newer)) == [
        "141025 store: something new",
        "141025 store: takes locks and deletes all the same 对象锁定无效",
    ]


def test_a_store_that_nobody_has_asked_yet_is_not_said_to_be_well() -> None:
    starting = figures(is_reachable=False, lock_state=0)

    assert "not asked yet 未检查" in store_line("141025", starting).plain
    console = Console(width=80)
    with console.capture() as captured:
        console.print(store_facts(starting))
    assert "not tested 未自检" in captured.get()


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (442_000_000_000, "442.0 GB"),
        (4_800_000_000_000_000, "4,800.0 TB"),
    ],
)
def test_volumes_are_written_for_people(count: int, text: str) -> None:
    assert volume_text(count) == text
