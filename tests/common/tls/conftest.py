"""Certificates of a city and a county, and servers of the city that show them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cli.pki.authority import Authority
from services.common import tls as tls_module
from services.common.tls import Tls
from services.common.tls_files import TlsFiles
from tests.certificates import new_authority, platform_files, platform_tls
from tests.common.tls.servers import CITY, COUNTY, Serve, Served


@pytest.fixture(autouse=True)
def _look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files be looked at at every handshake and call: a second is for production."""
    monkeypatch.setattr(tls_module, "FILE_CHECK_SECONDS", 0.0)


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Make the authority of all platforms."""
    return new_authority()


@pytest.fixture(scope="module")
def stranger() -> Authority:
    """Make an authority of the same trust domain that nobody trusts."""
    return new_authority()


@pytest.fixture
def city(tmp_path: Path, authority: Authority) -> TlsFiles:
    """Write the files of the city."""
    return platform_files(tmp_path / CITY, authority, CITY)


@pytest.fixture
def county(tmp_path: Path, authority: Authority) -> Tls:
    """Make the TLS of a county."""
    return platform_tls(tmp_path / COUNTY, authority, COUNTY)


@pytest.fixture
def serve(city: TlsFiles) -> Iterator[Serve]:
    """Start servers of the city, stopped after the test."""
    with ExitStack() as stack:

        def start(**options: Any) -> Served:
            served = Served(Tls(city), **options)
            stack.callback(served.server.stop, 0)
            return served

        yield start
