"""`zhichao platform` and `zhichao division` against a real registry of the city 141000."""

import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from tests.conftest import Databases
from tests.registry.harness import RunningRegistry

CITY = "141000"


@pytest.fixture(scope="module")
def registry(databases: Databases) -> Iterator[RunningRegistry]:
    with tempfile.TemporaryDirectory(prefix="zc-") as directory:
        running = RunningRegistry(databases, Path(directory), CITY, datetime.now(UTC))
        yield running
        running.close()


class Shell:
    """The command line as the city's operator uses it."""

    def __init__(self, registry: RunningRegistry, token_file: Path) -> None:
        self._options = ["--registry", registry.address, "--token-file", str(token_file)]

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, *self._options])

    def done(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.output

    def document(self, *arguments: str) -> Any:
        return json.loads(self.done(*arguments, "--json"))


@pytest.fixture
def shell(registry: RunningRegistry, tmp_path: Path) -> Shell:
    path = tmp_path / "operator.token"
    path.write_text(f"{registry.operator_token}\n")
    return Shell(registry, path)


def test_a_platform_is_registered_listed_moved_and_ended(shell: Shell) -> None:
    made = shell.document("platform", "register", "141025", "--name", "古县", "--upstream", CITY)
    assert (made["platform_code"], made["upstream_code"], made["info"]["origin"]) == ("141025", CITY, CITY)
    # The same again changes nothing.
    assert shell.document("platform", "register", "141025", "--name", "古县", "--upstream", CITY) == made
    assert [one["platform_code"] for one in shell.document("platform", "list", "--below", CITY)] == ["141025"]
    assert "古县" in shell.done("platform", "list")

    moved = shell.document("platform", "update", "141025", "--upstream", "140600", "--until", "2099-01-01")
    assert (moved["name"], moved["upstream_code"], moved["valid_until"]) == ("古县", "140600", "2099-01-01")
    assert shell.document("platform", "list", "--below", CITY) == []
    assert "no platforms 无平台" in shell.done("platform", "list", "--below", CITY)
    assert "valid_until" not in shell.document("platform", "update", "141025", "--until", "none")


def test_a_division_is_recorded_listed_and_put_below_another_one(shell: Shell) -> None:
    made = shell.document(
        "division", "register", "141091", "--name", "示例开发区", "--level", "county", "--below", CITY, "--extra-zone"
    )
    assert (made["division_code"], made["parent_code"], made["is_extra_zone"]) == ("141091", CITY, True)
    assert "141091" in [one["division_code"] for one in shell.document("division", "list", "--below", CITY)]
    assert "county 县" in shell.done("division", "list", "--below", CITY)

    moved = shell.document("division", "update", "141091", "--below", "141025")
    assert (moved["name"], moved["parent_code"]) == ("示例开发区", "141025")
    assert shell.document("division", "list", "--below", "141025", "--on", "2026-07-01") == [moved]


def test_more_than_asked_for_is_said(shell: Shell) -> None:
    for code in ("141026", "141027", "141028"):
        shell.done("platform", "register", code, "--name", code, "--upstream", CITY)

    assert "more than 2: raise --limit" in shell.done("platform", "list", "--limit", "2")
    assert len(shell.document("platform", "list", "--limit", "2")) == 2


@pytest.mark.parametrize(
    ("arguments", "exit_code", "told"),
    [
        (("platform", "register", "14102", "--name", "x"), 1, "(INVALID_ARGUMENT)"),
        (("platform", "update", "149999", "--name", "x"), 1, "(NOT_FOUND)"),
        (("platform", "update", "149999"), 2, "nothing changes: name what should"),
        (("platform", "update", "149999", "--until", "tomorrow"), 2, "does not match the format '%Y-%m-%d'"),
        (("division", "update", "149999", "--below", CITY), 1, "(NOT_FOUND)"),
        (("division", "register", "141099", "--name", "x", "--level", "village"), 2, "'village' is not one of"),
    ],
)
def test_what_is_wrong_is_said(shell: Shell, arguments: tuple[str, ...], exit_code: int, told: str) -> None:
    result = shell.run(*arguments)

    assert result.exit_code == exit_code, result.output
    assert told in result.output
