"""What the READMEs tell a newcomer to copy does what they say, against a platform that runs."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.platform_process import PlatformProcess
from tests.contract.documents import ROOT, CodeBlock, code_blocks

READMES = ("README.md", "README.zh-CN.md")
CALL_SECONDS_MAX = 60

GRPCURL = shutil.which("grpcurl", path=str(Path(sys.executable).parent)) or shutil.which("grpcurl")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    with PlatformProcess("141025", tmp_path_factory.mktemp("readme") / "141025") as running:
        yield running


def _blocks(name: str, language: str, containing: str) -> list[CodeBlock]:
    found = [block for block in code_blocks(ROOT / name, language) if containing in block.text]
    assert found, f"{name} has no {language} block with {containing}"
    return found


def _at(platform: PlatformProcess, text: str) -> str:
    """Put the addresses of the platform in place of those of the default ports."""
    for service, port in (("registry", 7701), ("weighing", 7702), ("relay", 7706)):
        text = text.replace(f"127.0.0.1:{port}", platform.address(service))
    return text


ZHICHAO = f'zhichao() {{ "{sys.executable}" -P -m cli.main "$@"; }}'
"""The command for a shell, as the environment has it on the path."""


@pytest.fixture(autouse=True)
def _started_here(platform: PlatformProcess, tmp_path: Path) -> None:
    """Let the platform lie where it would if it had been started in the directory that the commands are given in."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "141025").symlink_to(platform.data_directory)


def _run(arguments: list[str], directory: Path, text: str | None = None) -> str:
    done = subprocess.run(
        arguments, cwd=directory, input=text, capture_output=True, text=True, timeout=CALL_SECONDS_MAX, check=False
    )
    assert done.returncode == 0, f"{shlex.join(arguments)[:200]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.system
@pytest.mark.skipif(GRPCURL is None, reason="there is no grpcurl for this machine")
@pytest.mark.parametrize("name", READMES)
def test_grpcurl_calls(name: str, platform: PlatformProcess, tmp_path: Path) -> None:
    # The blocks for the county that runs here; another one registers it at the city.
    blocks = [block.text for block in _blocks(name, "sh", "grpcurl ") if "var/141000" not in block.text]

    said = _run(
        ["sh", "-euc", _at(platform, f"{ZHICHAO}\ngrpcurl() {{ '{GRPCURL}' \"$@\"; }}\n" + "\n".join(blocks))], tmp_path
    )

    shown = json.loads(_blocks(name, "json", "recorded")[0].text)
    recorded, _ = json.JSONDecoder().raw_decode(said, said.index('{\n  "recorded"'))
    assert recorded["recorded"]["judgement"] == shown["recorded"]["judgement"]


@pytest.mark.system
@pytest.mark.parametrize("name", READMES)
def test_python_program(name: str, platform: PlatformProcess, tmp_path: Path) -> None:
    (block,) = _blocks(name, "python", "GetInclusionProof")

    said = _run([sys.executable, "-P", "-"], tmp_path, _at(platform, block.text))

    assert re.fullmatch(
        r"entry \d+ of 141025: VERDICT_SUSPECTED, 6600 kg above 49000 kg by order-62-2016\n"
        r"proven in the journal of \d+ entries with \d+ digests\n",
        said,
    )


@pytest.mark.system
@pytest.mark.parametrize("name", READMES)
def test_import_and_looks(name: str, platform: PlatformProcess, tmp_path: Path) -> None:
    # The unit that the table's weighings belong to is registered by the program above it.
    (program,) = _blocks(name, "python", "GetInclusionProof")
    _run([sys.executable, "-P", "-"], tmp_path, _at(platform, program.text))
    (block,) = _blocks(name, "sh", "zhichao import weighings")

    _run(
        ["sh", "-euc", f"{ZHICHAO}\n{_at(platform, block.text)}"],
        tmp_path,
    )

    directory = str(platform.data_directory)
    assert "141025" in _run([sys.executable, "-P", "-m", "cli.main", "status", directory], tmp_path)
    assert "141025" in _run([sys.executable, "-P", "-m", "cli.main", "verify", directory], tmp_path)
