"""Settings of the registry: `ZHICHAO_REGISTRY_…` beside those that all services of a platform share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.settings import Address, PlatformSettings, ServiceSettings, load


class RegistrySettings(ServiceSettings):
    """What the registry has for itself."""

    model_config = SettingsConfigDict(env_prefix="ZHICHAO_REGISTRY_")

    # One above the base port of a platform, 7700; health ten above that.
    listen: Annotated[Address, Field(description="host:port or unix:/path where gRPC listens")] = "127.0.0.1:7701"
    bootstrap_token_file: Annotated[
        Path | None,
        Field(
            description="file with the secret of the first security administrator, accepted only as long as there is "
            "no other one"
        ),
    ] = None


SETTINGS: Final[tuple[type[BaseSettings], ...]] = (PlatformSettings, RegistrySettings)
"""Every group that the registry reads, for `--check-config`."""


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """All settings of one registry."""

    platform: PlatformSettings
    service: RegistrySettings

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the settings from the environment, or from `environment` in tests. Raises SettingsError."""
        return cls(load(PlatformSettings, environment), load(RegistrySettings, environment))
