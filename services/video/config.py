"""Settings of the video service: `ZHICHAO_VIDEO_…` beside those that all services of a platform share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.settings import Address, PlatformSettings, ServiceSettings, load

EAGER_NOTHING: Final = "nothing"
"""That a platform wants nothing without being asked; an empty setting is one that is not set."""

EAGER_WORDS: Final = ("photos", "suspected", "sampled", "all")
"""What a platform may want from below without being asked: every photo, all that proves a suspected overload, a sample
of the clips, everything."""


def _store_url(value: str) -> str:
    parts = urlsplit(value)
    try:
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
        raise ValueError("must be http://host:port or https://host:port like http://127.0.0.1:9000")
    return f"{parts.scheme}://{parts.netloc}"


def _eager(value: str) -> str:
    words = [word.strip() for word in value.split(",") if word.strip()]
    if words == [EAGER_NOTHING]:
        return EAGER_NOTHING
    if unknown := [word for word in words if word not in EAGER_WORDS]:
        raise ValueError(f"{unknown[0][:32]!r} is none of {', '.join(EAGER_WORDS)}, or {EAGER_NOTHING!r} alone")
    return ",".join(words)


# Where an S3 store is reached.
StoreUrl = Annotated[str, AfterValidator(_store_url)]


class VideoSettings(ServiceSettings):
    """What the video service has for itself."""

    model_config = SettingsConfigDict(env_prefix="ZHICHAO_VIDEO_")

    # Three above the base port of a platform, 7700; health ten above that.
    listen: Annotated[Address, Field(description="host:port or unix:/path where gRPC listens")] = "127.0.0.1:7703"
    registry_address: Annotated[Address, Field(description="host:port or unix:/path of this platform's registry")] = (
        "127.0.0.1:7701"
    )
    weighing_address: Annotated[
        Address, Field(description="host:port or unix:/path of this platform's weighing service")
    ] = "127.0.0.1:7702"

    # The evidence store

    s3_endpoint: Annotated[StoreUrl, Field(description="http://host:port or https://host:port of the evidence store")]
    s3_public_endpoint: Annotated[
        StoreUrl | None,
        Field(
            description="the same store as callers reach it, for links and uploads straight to it; unset: neither "
            "is offered"
        ),
    ] = None
    s3_bucket: Annotated[
        # What S3 allows a bucket, without dots, which break certificates.
        str,
        Field(pattern=r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", description="the bucket that holds the evidence"),
    ] = "zhichao-evidence"
    s3_region: Annotated[
        str, Field(pattern=r"^[a-zA-Z0-9-]{1,64}$", description="the region that requests are signed for")
    ] = "us-east-1"
    s3_access_key_file: Annotated[Path, Field(description="file with the access key of the evidence store")]
    s3_secret_key_file: Annotated[Path, Field(description="file with the secret key of the evidence store")]
    s3_ca_file: Annotated[
        Path | None,
        Field(description="file with the certificates (PEM) of the store's authority; unset: the system's"),
    ] = None
    s3_path_style: Annotated[
        bool, Field(description="whether the bucket stands in the path and not in the host name of addresses")
    ] = True
    # A store in the same room answers in a millisecond; one over a mobile network in a second.
    s3_connect_timeout_seconds: Annotated[
        float, Field(gt=0, le=60, description="how long a connection to the store may take to come about")
    ] = 3.0
    s3_read_timeout_seconds: Annotated[
        float, Field(gt=0, le=600, description="how long the store may be silent within an answer")
    ] = 30.0
    s3_retries: Annotated[
        int, Field(ge=0, le=10, description="how often a request that failed on the way to the store is made again")
    ] = 2
    object_lock: Annotated[
        Literal["require", "use", "off"],
        Field(
            description="whether objects are locked in the store until their retention ends: `require` refuses uploads "
            "while the self-test does not find locks enforced, `use` locks where the store can, `off` never"
        ),
    ] = "use"

    # Uploads

    spool_directory: Annotated[
        Path, Field(description="directory on a local disk for uploads under way; nobody else may write there")
    ]
    # Sixteen uploads of 2 GiB at once.
    spool_bytes_max: Annotated[
        int, Field(ge=1 << 20, description="most bytes that uploads under way may take on that disk")
    ] = 32 << 30
    # The day that the contract promises.
    upload_keep_hours: Annotated[
        float, Field(gt=0, le=24 * 30, description="how long what was received of an upload that broke off is kept")
    ] = 24.0
    retention_file: Annotated[
        Path | None,
        Field(description="JSON file with the retention classes of this platform; unset: those that are shipped"),
    ] = None

    # The longest public holidays take eight days: a line that broke before them is mended, and what came meanwhile is
    # down, before a grace of two weeks is over.
    delete_grace_days: Annotated[
        int,
        Field(
            ge=0,
            le=365,
            description="how long evidence is kept after the end of its retention, so that holds from above arrive: "
            "longer than the longest outage of the link",
        ),
    ] = 14

    # Completeness

    # Sites on mobile networks send a clip of a minute in some minutes (docs/operate/evidence.md).
    clip_in_time_minutes: Annotated[
        int, Field(ge=1, le=24 * 60, description="how soon after the weighing a clip has to be sealed to be in time")
    ] = 30
    # The lower end of what sites are asked for, 30 to 90 days.
    recording_days: Annotated[
        int, Field(ge=1, le=3650, description="how many days sites have to keep their recordings")
    ] = 30

    # Bytes from below

    eager: Annotated[
        str,
        AfterValidator(_eager),
        Field(
            description="what is wanted from platforms below without being asked for: any of photos, suspected, "
            "sampled, all, separated by commas, or nothing"
        ),
    ] = "photos,suspected,sampled"
    sample_permille: Annotated[
        int, Field(ge=0, le=1000, description="of a thousand clips, how many `sampled` wants")
    ] = 50

    # Scrubbing

    # 0.7 TB a day, a twentieth of what one disk reads.
    scrub_bytes_per_second: Annotated[
        int, Field(ge=0, description="how fast stored objects are read again and compared; 0: never")
    ] = 8 << 20

    def eager_words(self) -> frozenset[str]:
        """Return what is wanted from below without being asked for, as in EAGER_WORDS."""
        return frozenset(self.eager.split(",")) - {EAGER_NOTHING, ""}


SETTINGS: Final[tuple[type[BaseSettings], ...]] = (PlatformSettings, VideoSettings)
"""Every group that the video service reads, for `--check-config`."""


@dataclass(frozen=True, slots=True)
class VideoConfig:
    """All settings of one video service."""

    platform: PlatformSettings
    service: VideoSettings

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the settings from the environment, or from `environment` in tests. Raises SettingsError."""
        return cls(load(PlatformSettings, environment), load(VideoSettings, environment))
