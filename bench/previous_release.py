"""The release before calls were checked, as a yardstick: its files from the history, and a county that runs them."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

from bench.harness import COUNTY
from cli.platform_process import PlatformProcess

ROOT: Final = Path(__file__).resolve().parent.parent

VERSION: Final = "0.1.0"
COMMIT: Final = "2e7d1a04d20ec3b6867c4ecb0920fecb525239d2"
"""Of the tag v0.1.0. Written down, because a clone has the history more often than the tags."""

SERVICES: Final = ("registry", "weighing", "relay")
"""What that release had."""

_GIT_SECONDS_MAX: Final = 60.0

_START: Final = """
import os, sys
sys.path[:0] = {path!r}
os.environ["PYTHONPATH"] = os.pathsep.join({path!r})
from cli.main import main
main()
"""
"""Its own files come before those of today, which are installed; so they do for what it starts."""


class NoPreviousReleaseError(Exception):
    """The release is not in this checkout."""


def unpack(directory: Path) -> Path:
    """Write the files of the release below a directory and return their root. Raises NoPreviousReleaseError."""
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", COMMIT], capture_output=True, check=False, timeout=_GIT_SECONDS_MAX
    )
    if packed.returncode != 0:
        raise NoPreviousReleaseError(
            f"release {VERSION} (commit {COMMIT}) is not in this checkout: fetch the whole history "
            "(git fetch --unshallow --tags)"
        )
    root = directory / f"zhichao-{VERSION}"
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as files:
        files.extractall(root, filter="data")
    return root


def county(root: Path, data_directory: Path) -> PlatformProcess:
    """Make a county of the release, not started yet. It asks nobody who they are."""
    path = [str(root), str(root / "gen")]
    return PlatformProcess(
        COUNTY,
        data_directory,
        services=SERVICES,
        log_format="json",
        command=(sys.executable, "-P", "-c", _START.format(path=path)),
        environment={"PYTHONPATH": os.pathsep.join(path)},
    )
