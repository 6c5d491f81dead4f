"""Which one platform a command means: the one named, or the one that runs here."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import click
import pytest

from cli.access import CallerOptions
from cli.one_platform import NotReachedError, one_platform
from cli.platform_layout import PlatformFiles
from cli.platform_state import DataLock, PlatformState, write

NOBODY = ("127.0.0.1:9", "127.0.0.1:10")

Begin = Callable[..., Path]


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """Leave data directories below var/run as `zhichao up` does, of platforms that run and of such that have run."""
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:

        def make(code: str, *, runs: bool) -> Path:
            directory = tmp_path / "var" / "run" / code
            directory.mkdir(parents=True)
            files = PlatformFiles(directory)
            write(files.state, PlatformState(code, "serving" if runs else "stopped", 1, str(directory)))
            if runs:
                lock = DataLock(files)
                lock.acquire()
                stack.callback(lock.release)
            return directory

        yield make


@pytest.mark.parametrize("named", [[], ["var/run"]])
def test_the_one_that_runs_is_meant_beside_others_that_have_run(begin: Begin, named: list[str]) -> None:
    for code in ("140000", "141000", "141025"):
        begin(code, runs=code == "141000")

    assert one_platform(named, CallerOptions()).platform == "141000"


@pytest.mark.parametrize("named", [[], ["var/run"]])
def test_of_several_that_run_one_has_to_be_named(begin: Begin, named: list[str]) -> None:
    county = begin("141025", runs=True)
    begin("141000", runs=True)

    with pytest.raises(click.UsageError, match="141000, 141025 run here: name one with --data"):
        one_platform(named, CallerOptions())
    assert one_platform([str(county)], CallerOptions()).platform == "141025"


def test_one_that_does_not_run_is_told(begin: Begin) -> None:
    begin("141000", runs=True)
    county = begin("141025", runs=False)

    with pytest.raises(NotReachedError, match="141025: not running"):
        one_platform([str(county)], CallerOptions())


def test_an_address_of_nobody_is_told_before_that_it_is_another_platform() -> None:
    with pytest.raises(NotReachedError, match=f"{NOBODY[0]}: unreachable"):
        one_platform(NOBODY, CallerOptions())


def test_where_nothing_was_started_something_has_to_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(click.UsageError, match="no platform was started here"):
        one_platform([], CallerOptions())
