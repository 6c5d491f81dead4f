"""Settings of the enforcement service: `ZHICHAO_ENFORCEMENT_…` beside those that all services of a platform share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Self

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.settings import Address, PlatformSettings, ServiceSettings, load


class EnforcementSettings(ServiceSettings):
    """What the enforcement service has for itself."""

    model_config = SettingsConfigDict(env_prefix="ZHICHAO_ENFORCEMENT_")

    # Five above the base port of a platform, 7700; health ten above that.
    listen: Annotated[Address, Field(description="host:port or unix:/path where gRPC listens")] = "127.0.0.1:7705"
    registry_address: Annotated[Address, Field(description="host:port or unix:/path of this platform's registry")] = (
        "127.0.0.1:7701"
    )


SETTINGS: Final[tuple[type[BaseSettings], ...]] = (PlatformSettings, EnforcementSettings)
"""Every group that the enforcement service reads, for `--check-config`."""


@dataclass(frozen=True, slots=True)
class EnforcementConfig:
    """All settings of one enforcement service."""

    platform: PlatformSettings
    service: EnforcementSettings

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the settings from the environment, or from `environment` in tests. Raises SettingsError."""
        return cls(load(PlatformSettings, environment), load(EnforcementSettings, environment))
