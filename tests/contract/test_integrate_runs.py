"""What docs/integrate.md tells an integrator to copy works over TLS, with a terminal's token and nothing else."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.certificates import make_certificates
from cli.platform_process import PlatformProcess
from tests.contract.documents import ROOT, code_blocks
from tests.contract.test_readme_runs import GRPCURL, ZHICHAO

DOCUMENT = ROOT / "docs" / "integrate.md"
ADDRESS = "weighing.141025.example:7702"
CALL_SECONDS_MAX = 60


@dataclass(frozen=True)
class Site:
    """What an integrator has been given: an address, an authority, a token; in a directory of their own."""

    address: str
    directory: Path


def run(arguments: list[str], directory: Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, cwd=directory, input=text, capture_output=True, text=True, timeout=CALL_SECONDS_MAX, check=False
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Start a county that other machines reach, register what the document names, and issue a terminal's token."""
    root, directory = tmp_path_factory.mktemp("county"), tmp_path_factory.mktemp("integrator")
    tls = make_certificates(root / "pki", ["141025"])["141025"]
    with PlatformProcess(
        "141025",
        root / "141025",
        tls_directory=tls,
        arguments=(
            # Only what other machines reach speaks TLS.
            "--listen",
            "0.0.0.0",  # noqa: S104 - for some seconds, and behind tokens
        ),
    ) as platform:
        (directory / "ca.crt").write_bytes((tls / "ca.crt").read_bytes())
        registering = [
            line.replace("-plaintext", f"-cacert {tls / 'ca.crt'}").replace(
                "127.0.0.1:7701", platform.address("registry")
            )
            for block in code_blocks(ROOT / "README.md", "sh")
            for line in block.text.splitlines()
            if re.search(r"RegistryService/Create(SourceUnit|WeighingPoint|Scale)$", line)
        ]
        operator = f'OPERATOR="authorization: Bearer $(cat {platform.data_directory}/secrets/operator.token)"'
        issuing = (
            f"zhichao credential create terminal --unit 141025-9001 --name gate-1 --data {platform.data_directory} "
            f"--token-out {directory / 'terminal.token'}"
        )
        script = [ZHICHAO, f"grpcurl() {{ '{GRPCURL}' \"$@\"; }}", operator, *registering, issuing]
        done = run(["sh", "-euc", "\n".join(script)], directory)
        assert done.returncode == 0, done.stderr
        yield Site(platform.address("weighing"), directory)


pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(GRPCURL is None, reason="there is no grpcurl for this machine"),
]


def test_the_calls(site: Site) -> None:
    (block,) = [block for block in code_blocks(DOCUMENT, "sh") if "grpcurl " in block.text]
    script = f"grpcurl() {{ '{GRPCURL}' \"$@\"; }}\n{block.text.replace(ADDRESS, site.address)}"

    done = run(["sh", "-euc", script], site.directory)

    assert done.returncode == 0, done.stderr
    assert "zhichao.weighing.v1.WeighingService\n" in done.stdout
    assert '"verdict": "VERDICT_COMPLIANT"' in done.stdout
    assert '"recordId": "first-1"' in done.stdout or '"record_id": "first-1"' in done.stdout


def test_the_terminal(site: Site) -> None:
    (block,) = code_blocks(DOCUMENT, "python")

    done = run([sys.executable, "-P", "-"], site.directory, block.text.replace(ADDRESS, site.address))

    assert re.fullmatch(r"entry \d+ of 141025\n", done.stdout), done.stderr


def test_the_terminal_keeps_its_queue_when_its_token_is_refused(site: Site) -> None:
    (block,) = code_blocks(DOCUMENT, "python")
    other = site.directory / "other.token"
    other.write_text(f"zhichao.nobody.{'x' * 43}\n", encoding="ascii")
    program = block.text.replace(ADDRESS, site.address).replace("terminal.token", other.name)

    done = run([sys.executable, "-P", "-"], site.directory, program)

    assert (done.returncode, done.stdout) == (1, "")
    assert "not let in: INVALID_CREDENTIALS: " in done.stderr


def test_the_terminal_sets_a_record_aside_that_is_refused(site: Site) -> None:
    (block,) = code_blocks(DOCUMENT, "python")
    program = block.text.replace(ADDRESS, site.address).replace('scale_id="scale-1"', 'scale_id="scale-9"')

    done = run([sys.executable, "-P", "-"], site.directory, program)

    assert done.returncode == 0, done.stderr
    assert re.match(r"refused [0-9a-f-]{36}: UNKNOWN_SCALE: ", done.stdout), done.stdout
