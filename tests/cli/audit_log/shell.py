"""The command line as an auditor uses it, and what it leaves."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from click.testing import CliRunner

from cli.main import main
from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry
from zhichao.access.v1 import service_pb2 as access


def look(registry: RunningRegistry, count: int, purpose: str = "") -> None:
    """Leave access records."""
    metadata = (("x-purpose", quote(purpose)),) if purpose else ()
    for _ in range(count):
        registry.access.ListCredentials(
            access.ListCredentialsRequest(source_unit_id="u-1"), timeout=TIMEOUT_SECONDS, metadata=metadata
        )


class Shell:
    """The command line as the auditor uses it."""

    def __init__(self, registry: RunningRegistry, token_file: Path) -> None:
        self.token_file = token_file
        self._access = ("--service", registry.address, "--token-file", str(token_file))

    def run(self, command: str, *words: object) -> tuple[int, str]:
        options = () if command == "verify" else self._access
        result = CliRunner().invoke(main, ["audit-log", command, *map(str, words), *options])
        return result.exit_code, result.output

    def done(self, command: str, *words: object) -> str:
        exit_code, output = self.run(command, *words)
        assert exit_code == 0, output
        return output

    def verified(self, path: Path, *words: object) -> tuple[int, Any]:
        exit_code, output = self.run("verify", path, "--json", *words)
        return exit_code, json.loads(output.splitlines()[-1])


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
