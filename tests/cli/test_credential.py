"""`zhichao credential` and `zhichao whoami` against a real registry."""

import json
import re
import stat
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from cli.platform_layout import PlatformFiles
from cli.platform_state import DataLock, PlatformState, write
from cli.token_file import read_token
from tests.conftest import Databases
from tests.registry import examples
from tests.registry.calls import create
from tests.registry.harness import RunningRegistry

NOBODY = "unix:/nonexistent/registry.sock"


@pytest.fixture(scope="module")
def registry(databases: Databases) -> Iterator[RunningRegistry]:
    """Run a registry with two units, whose clock shows today as the command line's does."""
    with tempfile.TemporaryDirectory(prefix="zc-") as directory:
        running = RunningRegistry(databases, Path(directory), "141025", datetime.now(UTC))
        for number in (1, 2):
            create(running, examples.source_unit(source_unit_id=f"u-{number}", credit_code=""))
        yield running
        running.close()


@pytest.fixture
def admin_file(registry: RunningRegistry, tmp_path: Path) -> Path:
    """Return the token file of the security administrator."""
    path = tmp_path / "admin.token"
    path.write_text(f"{registry.admin_token}\n")
    return path


def last_document(output: str) -> Any:
    """Read what a command printed last."""
    return json.loads(output.splitlines()[-1])


class Shell:
    """The command line as the security administrator uses it."""

    def __init__(self, registry: RunningRegistry, token_file: Path | None) -> None:
        self.registry = registry
        self._options = ["--registry", registry.address]
        self._options += ["--token-file", str(token_file)] if token_file is not None else []

    def run(self, *arguments: str, **environment: str) -> Result:
        words = arguments if arguments[0] == "whoami" else ("credential", *arguments)
        return CliRunner().invoke(main, [*words, *self._options], env=environment)

    def done(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.output

    def document(self, *arguments: str) -> Any:
        return last_document(self.done(*arguments, "--json"))

    def refused(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 1, result.output
        return result.output


@pytest.fixture
def shell(registry: RunningRegistry, admin_file: Path) -> Shell:
    return Shell(registry, admin_file)


def test_a_terminal_is_issued_shown_listed_and_used(registry: RunningRegistry, shell: Shell, tmp_path: Path) -> None:
    output = shell.done("create", "terminal", "--id", "t-1", "--unit", "u-1", "--name", "东门终端", "--days", "90")
    (token,) = re.findall(r"zhichao\.t-1\.[A-Za-z0-9_-]{43}", output)
    assert "shown this once 令牌仅显示一次" in output
    assert "valid 有效" in output

    listed = shell.done("list", "--unit", "u-1")
    assert "t-1" in listed
    assert token not in listed
    shown = shell.document("show", "t-1")
    assert (shown["kind"], shown["source_unit_ids"], shown["state"]) == ("terminal", ["u-1"], "valid")
    assert "secrets" not in shown

    path = tmp_path / "t.token"
    path.write_text(token)
    who = Shell(registry, path).document("whoami")
    assert (who["principal"], who["kind"], who["source_unit_ids"]) == ("terminal/t-1", "terminal", ["u-1"])
    assert "WEIGHING_RECORD" in who["permissions"]
    assert "terminal/t-1" in Shell(registry, path).done("whoami")


def test_a_token_goes_into_a_file_of_its_owner_alone(registry: RunningRegistry, shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "operator.token"
    arguments = [
        "create",
        "person",
        "--division",
        "141025",
        "--role",
        "registrar",
        "--role",
        "officer",
        "--name",
        "示例甲",
    ]

    output = shell.done(*arguments, "--id", "p-1", "--token-out", str(path))

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = read_token(path)
    assert token.startswith("zhichao.p-1.")
    assert token.rpartition(".")[2] not in output
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []
    document = shell.document(*arguments, "--id", "p-2", "--token-out", str(tmp_path / "p-2.token"))
    assert document["token_file"] == str(tmp_path / "p-2.token")
    assert "token" not in document
    assert document["credential"]["roles"] == ["registrar", "officer"]


def test_nothing_is_issued_for_a_file_that_cannot_be_written(shell: Shell, tmp_path: Path) -> None:
    taken = tmp_path / "taken.token"
    taken.write_text("something else")
    for path in (taken, tmp_path / "nowhere" / "x.token"):
        output = shell.refused(
            "create", "terminal", "--id", "t-9", "--unit", "u-1", "--name", "甲", "--token-out", str(path)
        )
        assert str(path) in output
    assert "t-9" not in shell.done("list", "--all")
    assert taken.read_text() == "something else"


def test_a_refused_issue_leaves_no_file(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "x.token"
    output = shell.refused("create", "terminal", "--unit", "u-9", "--name", "甲", "--token-out", str(path))
    assert "source unit u-9 is not registered" in output
    assert "REFERENCE_NOT_FOUND" in output
    assert "尚未登记源头单位" in output
    assert [one.name for one in tmp_path.iterdir()] == ["admin.token"]


def test_every_bad_field_is_told(shell: Shell) -> None:
    output = shell.refused("create", "terminal", "--id", "A", "--unit", "u 1")
    for field in ("credential.credential_id", "credential.display_name", "credential.source_unit_ids[0]"):
        assert field in output


def test_fields_are_changed(shell: Shell) -> None:
    shell.done("create", "integrator", "--id", "i-1", "--unit", "u-1", "--name", "示例集成商")
    updated = shell.document("update", "i-1", "--unit", "u-1", "--unit", "u-2", "--calls-per-second", "40")
    assert updated["source_unit_ids"] == ["u-1", "u-2"]
    assert updated["limits"] == {"calls_per_second": 40}
    result = shell.run("update", "i-1")
    assert (result.exit_code, "nothing changes" in result.output) == (2, True)


def test_a_rotation_may_replace_the_file(registry: RunningRegistry, shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "t.token"
    shell.done("create", "terminal", "--id", "t-2", "--unit", "u-2", "--name", "西门", "--token-out", str(path))
    former = read_token(path)

    document = shell.document("rotate", "t-2", "--token-out", str(path))

    assert read_token(path) != former
    assert document["former_token_ends"]
    assert Shell(registry, path).document("whoami")["principal"] == "terminal/t-2"
    assert "zhichao.t-2." in shell.done("rotate", "t-2", "--overlap-days", "0")
    assert "INVALID_CREDENTIALS" in Shell(registry, path).refused("whoami")


def test_a_revocation_is_told_with_the_file_of_the_token(
    registry: RunningRegistry, shell: Shell, tmp_path: Path
) -> None:
    path = tmp_path / "t.token"
    shell.done("create", "terminal", "--id", "t-3", "--unit", "u-2", "--name", "西门", "--token-out", str(path))
    assert "revoked 已吊销" in shell.done("revoke", "t-3", "--reason", "终端遗失")
    output = Shell(registry, path).refused("whoami")
    assert "CREDENTIAL_REVOKED" in output
    assert str(path) in output
    assert "t-3" not in shell.done("list")
    assert [one["revoke_reason"] for one in shell.document("list", "--all") if one["credential_id"] == "t-3"] == [
        "终端遗失"
    ]


def test_one_for_certificates_gets_its_name(shell: Shell) -> None:
    document = shell.document(
        "create", "integrator", "--id", "i-2", "--unit", "u-1", "--name", "甲", "--certificate-only"
    )
    assert document["certificate_uri"] == "spiffe://zhichao/platform/141025/credential/i-2"
    assert "token" not in document


def test_without_a_token_it_is_said_how_to_name_one(registry: RunningRegistry) -> None:
    output = Shell(registry, None).refused("list")
    assert "NO_CREDENTIALS" in output
    assert "--token-file" in output


@pytest.mark.parametrize("content", ["", "nonsense", "zhichao.x.short", "a" * 10_000])
def test_a_file_without_a_token_is_told_and_not_repeated(
    registry: RunningRegistry, tmp_path: Path, content: str
) -> None:
    path = tmp_path / "x.token"
    path.write_text(content)
    output = Shell(registry, path).refused("whoami")
    assert str(path) in output
    assert not content or content not in output


def test_the_token_file_may_come_from_the_environment(registry: RunningRegistry, admin_file: Path) -> None:
    result = Shell(registry, None).run("whoami", ZHICHAO_TOKEN_FILE=str(admin_file))
    assert "person/admin" in result.output


def test_another_machine_takes_an_authority(admin_file: Path, tmp_path: Path) -> None:
    options = ["--registry", "192.0.2.1:7701", "--token-file", str(admin_file)]
    result = CliRunner().invoke(main, ["whoami", *options])
    assert (result.exit_code, "--ca" in result.output) == (1, True)
    (tmp_path / "ca.crt").write_text("none")
    result = CliRunner().invoke(main, ["whoami", *options, "--ca", str(tmp_path / "ca.crt")])
    assert (result.exit_code, "holds no certificate" in result.output) == (1, True)


def test_a_registry_that_is_away_is_told(admin_file: Path) -> None:
    result = CliRunner().invoke(main, ["whoami", "--registry", NOBODY, "--token-file", str(admin_file)])
    assert (result.exit_code, "SERVICE_UNAVAILABLE" in result.output) == (1, True)


def test_a_local_platform_brings_its_own_tokens(
    registry: RunningRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `zhichao up` leaves a data directory: state, lock, and the tokens of the machine's people."""
    directory = tmp_path / "var" / "141025"
    files = PlatformFiles(directory)
    (directory / "secrets").mkdir(parents=True)
    (directory / "secrets" / "security.token").write_text(registry.admin_token)
    (directory / "secrets" / "operator.token").write_text(registry.operator_token)
    state = PlatformState("141025", "serving", 1, str(directory), addresses={"registry": registry.address})
    write(files.state, state)
    monkeypatch.chdir(tmp_path)
    lock = DataLock(files)
    lock.acquire()
    try:
        listed = CliRunner().invoke(main, ["credential", "list", "--data", str(directory)])
        assert (listed.exit_code, "operator" in listed.output) == (0, True)
        # By directory, by the address that it has, and as the one that runs here.
        for words in (["--data", str(directory)], ["--registry", registry.address], []):
            who = CliRunner().invoke(main, ["whoami", *words, "--json"])
            assert last_document(who.output)["principal"] == "person/operator"
    finally:
        lock.release()
    gone = CliRunner().invoke(main, ["whoami", "--data", str(directory)])
    assert (gone.exit_code, "not running" in gone.output) == (1, True)


def test_a_secret_alone_is_that_of_the_first_administrator(tmp_path: Path) -> None:
    path = tmp_path / "bootstrap.token"
    path.write_text("a" * 43 + "\n")
    assert read_token(path) == "zhichao.bootstrap." + "a" * 43


def test_data_and_address_exclude_each_other(shell: Shell, tmp_path: Path) -> None:
    result = shell.run("list", "--data", str(tmp_path))
    assert (result.exit_code, "not both" in result.output) == (2, True)
