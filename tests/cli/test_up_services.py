"""`zhichao up` with the services themselves, as it is run; the mechanics are in `test_up` with stand-ins."""

import json
from pathlib import Path

import pytest

from cli.certificates import make_certificates
from cli.platform_process import PlatformProcess
from cli.up_options import ExitCode

pytestmark = pytest.mark.system


@pytest.mark.parametrize("is_split", [False, True])
def test_a_county_starts_survives_and_stops(tmp_path: Path, *, is_split: bool) -> None:
    with PlatformProcess("141025", tmp_path / "county", is_split=is_split, log_format="json") as platform:
        former = platform.kill_service("weighing")
        platform.wait_restarted("weighing", former)
        database = platform.kill_postgres()
        platform.wait_postgres_restarted(database)
        assert platform.terminate() == ExitCode.STOPPED, platform.log_tail()


def test_a_city_and_a_county_below_it(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "pki", ["141000", "141025"])
    with PlatformProcess("141000", tmp_path / "city", tls_directory=certificates["141000"]) as city:
        upstream = city.peer_address
        with PlatformProcess(
            "141025", tmp_path / "county", upstream=upstream, tls_directory=certificates["141025"]
        ) as county:
            assert county.state.upstream == upstream
            # A county starts and stops whether or not its city is there.
            city.kill_everything()
            assert county.terminate() == ExitCode.STOPPED, county.log_tail()


def test_every_log_line_is_json_when_asked(tmp_path: Path) -> None:
    platform = PlatformProcess("141025", tmp_path / "county", log_format="json").start()
    # A panel for people goes to standard output, which here is the same file.
    lines = [line for line in platform.log_text().splitlines() if line.startswith("{")]
    platform.stop()
    assert {"postgres_started", "service_process_started"} <= {json.loads(line)["event"] for line in lines}


def test_starts_again_after_everything_was_killed(tmp_path: Path) -> None:
    platform = PlatformProcess("141025", tmp_path / "county", is_split=True).start()
    platform.kill_everything()
    with platform.start():
        assert platform.state.phase == "serving"
