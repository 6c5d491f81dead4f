"""A platform whose signing key is not there, as after a restore without keys, is not given a new one."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from cli.platform_process import PlatformProcess, PlatformProcessError
from cli.simulate.site import COUNTY

pytestmark = pytest.mark.system


@pytest.fixture
def directory() -> Iterator[Path]:
    made = Path(mkdtemp(prefix="zhichao-system-"))
    # PostgreSQL runs under an account of its own when root starts it.
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_no_new_key_is_made_for_logs_that_began_with_one(directory: Path) -> None:
    """Services refuse another key, and it would lie where the right one belongs."""
    platform = PlatformProcess(COUNTY, directory)
    key = directory / "keys/signing.pem"
    with platform:
        address = platform.address("weighing")
    key.rename(key.with_suffix(".kept"))

    with pytest.raises(PlatformProcessError, match="put keys/ and secrets/ back"):
        platform.start()
    assert not key.exists()

    key.with_suffix(".kept").rename(key)
    with platform:
        assert platform.address("weighing") == address
