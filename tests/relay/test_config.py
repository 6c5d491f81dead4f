"""The relay's settings."""

import pytest

from services.common.settings import SettingsError, load
from services.relay.config import RelayConfig, RelaySettings


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


def test_the_platform_must_be_named() -> None:
    with pytest.raises(SettingsError, match="ZHICHAO_PLATFORM is not set"):
        RelayConfig.load({})
