"""The relay's settings."""

from pathlib import Path

import pytest

from services.common.settings import SettingsError, load
from services.journal.notes import new_private_key_pem
from services.relay.app import build
from services.relay.config import RelayConfig, RelaySettings
from tests.access import service_token_file


def test_a_stream_is_relayed_when_the_address_of_its_service_is_set() -> None:
    settings = load(RelaySettings, {"ZHICHAO_RELAY_WEIGHING_ADDRESS": "127.0.0.1:7702"})
    assert settings.local_addresses() == {"weighing": "127.0.0.1:7702"}
    both = load(
        RelaySettings,
        {"ZHICHAO_RELAY_WEIGHING_ADDRESS": "127.0.0.1:7702", "ZHICHAO_RELAY_REGISTRY_ADDRESS": "unix:/run/registry"},
    )
    assert both.local_addresses() == {"registry": "unix:/run/registry", "weighing": "127.0.0.1:7702"}


def test_a_relay_without_upstream_stands_alone() -> None:
    assert load(RelaySettings, {}).upstream is None
    assert load(RelaySettings, {"ZHICHAO_RELAY_UPSTREAM": ""}).upstream is None


def test_a_bad_address_is_named() -> None:
    with pytest.raises(SettingsError, match="ZHICHAO_RELAY_UPSTREAM: must be host:port"):
        load(RelaySettings, {"ZHICHAO_RELAY_UPSTREAM": "city"})


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("ZHICHAO_RELAY_PEER_LISTEN", "7707", "must be host:port"),
        ("ZHICHAO_RELAY_UPSTREAM_PLATFORM", "1410", "the upstream must have"),
        ("ZHICHAO_RELAY_REQUIRE_CLIENT_CERTIFICATE", "perhaps", "boolean"),
    ],
)
def test_a_setting_of_the_neighbours_that_is_none_is_named(variable: str, value: str, told: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable}: .*{told}"):
        load(RelaySettings, {variable: value})


def test_nobody_comes_from_below_unless_a_port_is_named() -> None:
    assert load(RelaySettings, {}).peer_listen is None


def test_a_relay_knows_who_may_do_what_from_the_registry(tmp_path: Path) -> None:
    key_file = tmp_path / "key.pem"
    key_file.write_bytes(new_private_key_pem())
    environment = {
        "ZHICHAO_PLATFORM": "141025",
        "ZHICHAO_SIGNING_KEY_FILE": str(key_file),
        "ZHICHAO_SERVICE_TOKEN_FILE": str(service_token_file(tmp_path)),
        "ZHICHAO_PLAINTEXT_LOOPBACK": "true",
    }

    with pytest.raises(SettingsError, match="ZHICHAO_RELAY_REGISTRY_ADDRESS is not set"):
        build(RelayConfig.load(environment))

    built = build(RelayConfig.load(environment | {"ZHICHAO_RELAY_REGISTRY_ADDRESS": "127.0.0.1:7701"}))
    assert built.peer_server is None


def test_the_platform_must_be_named() -> None:
    with pytest.raises(SettingsError, match="ZHICHAO_PLATFORM is not set"):
        RelayConfig.load({})
