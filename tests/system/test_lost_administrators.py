"""A platform whose security administrator has lost the token: `zhichao credential recover` beside it while it runs, and
while it does not, with real processes.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.platform_process import PlatformProcess, PlatformProcessError
from cli.simulate.site import COUNTY
from cli.up_options import ExitCode
from tests.system.levels import copy_directory
from tests.system.waiting import wait_until

pytestmark = pytest.mark.system

COMMAND_SECONDS_MAX = 60.0
NOTICED_SECONDS_MAX = 30.0
WHY = "令牌随旧电脑遗失"


def zhichao(*words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in a process of its own."""
    command = [sys.executable, "-P", "-m", "cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS_MAX)


def document(*words: str) -> Any:
    """Run a command that must succeed; return the document that it prints last."""
    finished = zhichao(*words, "--json")
    assert finished.returncode == 0, f"{words}: {finished.stdout}{finished.stderr}"
    return json.loads(finished.stdout.splitlines()[-1])


def recover(data: Path) -> list[str]:
    revoked: list[str] = document("credential", "recover", "--data", str(data), "--reason", WHY, "--yes")["revoked"]
    return revoked


def test_the_way_back_while_it_runs_and_while_it_does_not(directory: Path, database_template: Path) -> None:
    data, stolen = directory / "county", directory / "stolen.token"
    data.mkdir()
    copy_directory(database_template, data / "postgres")
    secrets = data / "secrets"
    with PlatformProcess(COUNTY, data, services=("registry",)) as platform:
        shutil.move(secrets / "security.token", stolen)
        bootstrap = ("--data", str(data), "--token-file", str(secrets / "bootstrap.token"))
        assert "CREDENTIAL_REVOKED" in zhichao("whoami", *bootstrap).stderr

        (first,) = recover(data)

        wait_until(
            lambda: zhichao("whoami", *bootstrap).returncode == 0, NOTICED_SECONDS_MAX, "the bootstrap token is refused"
        )
        assert "CREDENTIAL_REVOKED" in zhichao("whoami", "--data", str(data), "--token-file", str(stolen)).stderr
        administrator = ("--role", "security-administrator", "--division", COUNTY, "--name", "示例甲")
        issued = document(
            *("credential", "create", "person", "--id", "security-2", *bootstrap, *administrator),
            *("--token-out", str(directory / "second.token")),
        )
        assert issued["credential"]["credential_id"] == "security-2"
        shown = document("credential", "show", first, "--data", str(data), "--token-file", issued["token_file"])
        assert (shown["state"], shown["revoke_reason"]) == ("revoked", WHY)
        assert "bootstrap_token_accepted" in platform.log_file.read_text()
        assert platform.terminate() == ExitCode.STOPPED

    # Lost again: the platform does not even start, and says what to do.
    (directory / "second.token").unlink()
    with pytest.raises(PlatformProcessError, match="credential recover"):
        PlatformProcess(COUNTY, data, services=("registry",)).start()
    assert recover(data) == ["security-2"]
    with PlatformProcess(COUNTY, data, services=("registry",)):
        assert document("whoami", "--data", str(data), "--token-file", str(secrets / "security.token"))["principal"]
        # There is somebody: nothing is taken from anybody who has not asked for it.
        asked = zhichao("credential", "recover", "--data", str(data), "--reason", WHY)
        assert asked.returncode != 0
        assert document("whoami", "--data", str(data), "--token-file", str(secrets / "security.token"))["principal"]
