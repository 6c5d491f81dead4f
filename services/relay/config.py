"""Settings of the relay: `ZHICHAO_RELAY_…` beside those that all services of a platform share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.settings import Address, MetricsListen, PlatformSettings, Settings, load
from services.relay.bandwidth import UNLIMITED, BandwidthSchedule, parse_schedule

_ADDRESS_SUFFIX: Final = "_address"

LocalAddress = Annotated[
    Address | None,
    Field(description="host:port or unix:/path of this platform's service; unset: its journal stays here"),
]


def _bandwidth(text: str | None) -> str | None:
    if text is not None:
        parse_schedule(text)
    return text


class RelaySettings(Settings):
    """What the relay has for itself; it has no database."""

    model_config = SettingsConfigDict(env_prefix="ZHICHAO_RELAY_")

    # Six above the base port of a platform, 7700; health ten above that.
    listen: Annotated[Address, Field(description="host:port or unix:/path where gRPC listens")] = "127.0.0.1:7706"
    health_listen: Annotated[
        Address | None, Field(description="host:port of a plain-text port that answers health checks only")
    ] = None
    metrics_listen: MetricsListen = None
    require_client_certificate: Annotated[
        bool, Field(description="whether callers need a certificate of a CA in ZHICHAO_TLS_CA_FILE besides a token")
    ] = False
    # One above the ordinary port.
    peer_listen: Annotated[
        Address | None,
        Field(
            description="host:port where the relays of platforms below connect, always by mutual TLS, such as "
            "0.0.0.0:7707; unset: nobody may"
        ),
    ] = None
    upstream: Annotated[
        Address | None,
        Field(description="host:port where the relay of the platform above listens for peers; unset: there is none"),
    ] = None
    upstream_platform: Annotated[
        str | None,
        Field(pattern=r"^[0-9]{6}$", description="platform code that the upstream must have; unset: any"),
    ] = None

    bandwidth: Annotated[
        str | None,
        AfterValidator(_bandwidth),
        Field(
            description="most bytes per second pushed upwards by time of day, China Standard Time, for example "
            "08:00-20:00=256KiB/s,20:00-08:00=unlimited; unset: unlimited"
        ),
    ] = None

    # One line for each service whose journal is relayed; what stands before `_address` is the stream.
    registry_address: LocalAddress = None
    weighing_address: LocalAddress = None
    video_address: LocalAddress = None
    enforcement_address: LocalAddress = None

    # Handshakes and status: rare and short.
    threads: Annotated[int, Field(ge=2, le=512, description="unary calls that are worked on at once")] = 8
    # A province has some 130 divisions below it, each of which pushes at most four logs and three objects of evidence
    # at once, follows up to eight streams, the cosignatures and what is wanted: 2,210. A thread that waits costs some
    # 100 kB.
    streams_max: Annotated[int, Field(ge=1, le=10_000, description="pushes and follows that may be open at once")] = (
        2_560
    )

    def bandwidth_schedule(self) -> BandwidthSchedule:
        """Return the cap on what is pushed upwards by time of day."""
        return parse_schedule(self.bandwidth) if self.bandwidth else UNLIMITED

    def local_addresses(self) -> Mapping[str, str]:
        """Return the addresses of this platform's services by stream."""
        addresses: dict[str, str] = {}
        for name in type(self).model_fields:
            address: str | None = getattr(self, name) if name.endswith(_ADDRESS_SUFFIX) else None
            if address:
                addresses[name.removesuffix(_ADDRESS_SUFFIX)] = address
        return addresses


SETTINGS: Final[tuple[type[BaseSettings], ...]] = (PlatformSettings, RelaySettings)
"""Every group that the relay reads, for `--check-config`."""


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """All settings of one relay."""

    platform: PlatformSettings
    service: RelaySettings

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the settings from the environment, or from `environment` in tests. Raises SettingsError."""
        return cls(load(PlatformSettings, environment), load(RelaySettings, environment))
