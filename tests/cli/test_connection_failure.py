"""What a command says when there is no connection: the address, the likely cause, and what to do, in both languages."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner

from cli.connection_failure import explain
from cli.main import main
from services.common.rpc_threads import CallExecutor
from tests.certificates import new_authority, platform_files

COUNTY = "141025"


def called(*words: str) -> str:
    """Ask who one is; fails unless that is refused with one line for a person and one with what to do."""
    shown = CliRunner().invoke(main, ["whoami", *words])
    assert shown.exit_code == 1, shown.output
    return shown.output


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    return platform_files(tmp_path / COUNTY, new_authority(), COUNTY).ca


@pytest.fixture
def plaintext() -> Iterator[str]:
    """Serve nothing, in plain text."""
    server = grpc.server(CallExecutor(1, "plain"))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[str]:
    """Serve nothing, over TLS of an authority of its own."""
    files = platform_files(tmp_path / "other", new_authority(), COUNTY)
    server = grpc.server(CallExecutor(1, "encrypted"))
    pair = (files.key.read_bytes(), files.certificate.read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_nobody_listens() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        told = called("--registry", address)

    assert address in told
    assert "nothing listens there" in told
    assert "无服务监听" in told


def test_tls_to_a_port_with_plain_text(plaintext: str, ca_file: Path) -> None:
    assert "that port speaks plain text: leave --ca" in called("--registry", plaintext, "--ca", str(ca_file))


def test_plain_text_to_a_port_with_tls(encrypted: str) -> None:
    assert "that port speaks TLS: name its authority with --ca" in called("--registry", encrypted)


def test_the_wrong_authority(encrypted: str, ca_file: Path) -> None:
    assert "its certificate is not of the authority in --ca" in called("--registry", encrypted, "--ca", str(ca_file))


@pytest.mark.parametrize(
    "address", ["registry", "7701", ":7701", "registry:", "http://registry:7701", "registry:77011x"]
)
def test_what_is_no_address(address: str) -> None:
    assert f"{address}: give host:port" in called("--registry", address)


def test_what_is_not_known_gets_no_advice() -> None:
    assert explain("the moon is in the wrong phase", is_plaintext=True) == ""
