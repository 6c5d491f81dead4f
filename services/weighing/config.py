"""Settings of the weighing service: `ZHICHAO_WEIGHING_…` beside those that all services of a platform share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Self

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.settings import Address, PlatformSettings, ServiceSettings, load


class WeighingSettings(ServiceSettings):
    """What the weighing service has for itself."""

    model_config = SettingsConfigDict(env_prefix="ZHICHAO_WEIGHING_")

    # Two above the base port of a platform, 7700; health ten above that.
    listen: Annotated[Address, Field(description="host:port or unix:/path where gRPC listens")] = "127.0.0.1:7702"
    registry_address: Annotated[Address, Field(description="host:port or unix:/path of this platform's registry")] = (
        "127.0.0.1:7701"
    )
    rule_set_id: Annotated[
        str, Field(pattern=r"^[a-z0-9-]{1,64}$", description="the rule set that judges where a source unit names none")
    ] = "order-62-2016"
    preparing_processes: Annotated[
        int,
        Field(
            ge=0,
            le=16,
            description="processes that check and judge backlogs beside the service's own, each with some 40 MB while "
            "there is a backlog; 0 for none",
        ),
    ] = 1


SETTINGS: Final[tuple[type[BaseSettings], ...]] = (PlatformSettings, WeighingSettings)
"""Every group that the weighing service reads, for `--check-config`."""


@dataclass(frozen=True, slots=True)
class WeighingConfig:
    """All settings of one weighing service."""

    platform: PlatformSettings
    service: WeighingSettings

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the settings from the environment, or from `environment` in tests. Raises SettingsError."""
        return cls(load(PlatformSettings, environment), load(WeighingSettings, environment))
