"""A service takes TLS or plain text as its settings say, and does not start by mistake."""

from pathlib import Path

import pytest

from services.common.reasons import Reason
from services.common.rpc_client import connect
from services.common.rpc_server import ListenError, RpcServer
from services.common.settings import PlatformSettings, ServiceSettings, SettingsError, load
from services.common.tls import TrustedAuthorities
from services.common.tls_files import TlsFiles
from tests.access import Access
from tests.certificates import files_in, tls_environment
from tests.common.served import WAIT_SECONDS
from tests.common.tls.servers import CITY, once_of, refusal


class Settings(ServiceSettings):
    """Settings of a service of the tests."""

    model_config = ServiceSettings.model_config | {"env_prefix": "ZHICHAO_TEST_"}


def made(environment: dict[str, str]) -> RpcServer:
    variables = {
        "ZHICHAO_PLATFORM": CITY,
        "ZHICHAO_TEST_DATABASE_URL": "postgresql://localhost/a",
        "ZHICHAO_TEST_LISTEN": "127.0.0.1:0",
    } | environment
    settings = load(Settings, variables)
    return RpcServer.for_service("test", load(PlatformSettings, variables), settings, Access(CITY).control)


def test_a_service_without_files_does_not_start_in_plain_text() -> None:
    with pytest.raises(
        SettingsError, match=r"ZHICHAO_TEST_LISTEN is 127\.0\.0\.1:0, which takes TLS: set ZHICHAO_TLS_"
    ):
        made({})


def test_a_service_speaks_plain_text_when_asked_to() -> None:
    server = made({"ZHICHAO_PLAINTEXT_LOOPBACK": "true"})
    server.start()
    with connect(server.address) as channel:
        error = refusal(lambda: once_of(channel)(b"", timeout=WAIT_SECONDS))
    server.stop(0)
    # Refused in plain text, as nobody who is known.
    assert error.reason is not Reason.SERVICE_UNAVAILABLE


def test_a_service_speaks_tls_as_its_files_say(city: TlsFiles, tmp_path: Path) -> None:
    server = made(tls_environment(tmp_path / CITY))
    server.start()
    with connect(server.address, tls=TrustedAuthorities(files_in(tmp_path / CITY).ca)) as channel:
        error = refusal(lambda: once_of(channel)(b"", timeout=WAIT_SECONDS))
    server.stop(0)
    assert error.reason is not Reason.SERVICE_UNAVAILABLE


def test_certificates_are_not_asked_for_in_plain_text() -> None:
    with pytest.raises(SettingsError, match="ZHICHAO_TEST_REQUIRE_CLIENT_CERTIFICATE needs TLS"):
        made({"ZHICHAO_PLAINTEXT_LOOPBACK": "true", "ZHICHAO_TEST_REQUIRE_CLIENT_CERTIFICATE": "true"})


def test_a_server_that_asks_for_certificates_has_tls() -> None:
    with pytest.raises(ListenError, match="takes TLS"):
        RpcServer("test", "127.0.0.1:0", Access().control, require_client_certificate=True)
