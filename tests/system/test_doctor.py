"""`zhichao doctor` on platforms that run: nothing is wrong with them, and when everything hangs it still tells."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.doctor.examination import CHECK_SECONDS_MAX
from cli.platform_layout import SERVICES
from cli.platform_process import PlatformProcess
from cli.simulate.site import CITY, COUNTY
from tests.system.joined import WAIT_SECONDS, Joined
from tests.system.waiting import wait_until

pytestmark = pytest.mark.system

# Beside the time of its checks: starting the interpreter on a busy machine.
START_SECONDS_MAX = 30.0


def examine(platform: PlatformProcess) -> tuple[int, dict[str, dict[str, str]]]:
    """Run the command as a person does; return its exit status and the checks by name."""
    command = [sys.executable, "-P", "-m", "cli.main", "doctor", "--data", str(platform.data_directory), "--json"]
    finished = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=CHECK_SECONDS_MAX + START_SECONDS_MAX
    )
    assert finished.stdout, finished.stderr
    document: Any = json.loads(finished.stdout)
    return finished.returncode, {check["name"]: check for check in document["checks"]}


@pytest.mark.parametrize("is_metered", [True, False])
def test_nothing_is_wrong_with_platforms_that_work(directory: Path, *, is_metered: bool) -> None:
    with Joined(directory, (COUNTY, CITY), is_metered=is_metered) as platforms:
        platforms.record(platforms.take(50))
        platforms.wait_equal(COUNTY, CITY)

        def is_well() -> bool:
            return examine(platforms.county)[1]["link"]["level"] == "ok"

        wait_until(is_well, WAIT_SECONDS, lambda: str(examine(platforms.county)))
        status, found = examine(platforms.county)

        assert [check for check in found.values() if check["level"] == "fail"] == []
        assert status == 0
        expected = {
            "platform",
            "settings",
            "signing-key",
            "certificate",
            "service-token",
            "upstream",
            "link",
            "clock upstream",
            *(f"service {name}" for name in SERVICES),
            *(
                f"{check} {name}"
                for name in SERVICES
                if SERVICES[name].has_database
                for check in ("database", "schema", "log")
            ),
            *(("versions", "credentials") if is_metered else ()),
        }
        assert {name for name in expected if found[name]["level"] != "ok"} == set()
        assert f"platform/{CITY}" in found["upstream"]["message"]
        # Its locks may not be tested yet, which it says.
        assert found["evidence-store"]["level"] in ("ok", "warn")
        assert "zhichao-evidence at http://127.0.0.1:" in found["evidence-store"]["message"]
        assert (found["versions"]["level"] == "skip") != is_metered


def test_what_hangs_is_told_in_time(directory: Path) -> None:
    with Joined(directory, (COUNTY,), is_metered=True) as platforms:
        county = platforms.county
        paused = county.pause_service("weighing")
        try:
            status, found = examine(county)
        finally:
            os.kill(paused, signal.SIGCONT)

        assert status == 1
        assert {name for name in SERVICES if found[f"service {name}"]["level"] == "fail"} == set(SERVICES)
        assert found["credentials"]["level"] == "warn"
        # What does not hang is looked at all the same.
        assert [
            found[name]["level"] for name in ("settings", "signing-key", "database weighing", "schema weighing")
        ] == ["ok"] * 4
        assert all(check["remedy"] for check in found.values() if check["level"] in ("fail", "warn"))


def test_a_platform_that_was_stopped_is_told(directory: Path) -> None:
    with Joined(directory, (COUNTY,)) as platforms:
        county = platforms.county
        assert county.terminate() == 0
        status, found = examine(county)

    assert status == 1
    assert found["platform"]["level"] == "fail"
    assert "zhichao up" in found["platform"]["remedy"]
    assert found["signing-key"]["level"] == "ok"
