"""A registry whose audit log holds some records, of which some were begun by somebody cunning."""

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.audit_log.shell import Shell, look
from tests.conftest import Databases
from tests.registry.harness import RunningRegistry


@pytest.fixture(scope="module")
def registry(databases: Databases) -> Iterator[RunningRegistry]:
    """Run a registry with a clock that comes close to that of the command line."""
    with tempfile.TemporaryDirectory(prefix="zc-") as directory:
        running = RunningRegistry(databases, Path(directory), "141025", datetime.now(UTC) - timedelta(hours=1))
        look(running, 12)
        look(running, 1, purpose="=HYPERLINK(1)")
        look(running, 1, purpose='检查, "7"; ‘x’')
        yield running
        running.close()


@pytest.fixture(scope="module")
def shell(registry: RunningRegistry, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Give the auditor a token."""
    token_file = tmp_path_factory.mktemp("auditor") / "auditor.token"
    token_file.write_text(registry._issue(registry.access, "auditor", "AUDITOR") + "\n")
    return Shell(registry, token_file)


@pytest.fixture
def exported(shell: Shell, tmp_path: Path) -> Path:
    """Export everything; return the file."""
    path = tmp_path / "audit.jsonl"
    shell.done("export", path)
    return path
