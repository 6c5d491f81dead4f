"""The figures of one platform at one moment: what it holds, how fast that grows, how far its links are. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

from cli.platform_layout import SERVICES
from cli.relay_figures import (
    AddressedFigures,
    AlarmFigures,
    BandwidthFigures,
    EvidenceFigures,
    FollowFigures,
    SentFigures,
)
from cli.store_figures import StoreFigures


@dataclass(frozen=True)
class ServiceFigures:
    """One service."""

    name: str
    address: str
    # SERVING, NOT_SERVING, or UNREACHABLE.
    health: str
    problem: str = ""

    @property
    def is_serving(self) -> bool:
        """Whether it works."""
        return self.health == "SERVING"


@dataclass(frozen=True)
class LogFigures:
    """One log held."""

    stream: str
    origin: str
    size: int
    is_own: bool
    parked_count: int
    root: str
    last_write_time: datetime | None
    records_per_second: float | None = None

    @property
    def record_count(self) -> int:
        """Records held: entries without the one that begins the log."""
        return max(self.size - 1, 0)


@dataclass(frozen=True)
class DownstreamFigures:
    """One lower platform that dials here."""

    platform: str
    software_version: str
    handshake_time: datetime | None
    last_push_time: datetime | None
    open_push_count: int
    protocol_version: int = 0
    followed_streams: Sequence[str] = ()
    # What was sent down to it.
    sent: Sequence[SentFigures] = ()
    # Objects of evidence that came from it.
    received_objects: int = 0
    last_object_time: datetime | None = None


@dataclass(frozen=True)
class LinkLogFigures:
    """How far one log is on the link upwards."""

    stream: str
    origin: str
    local_size: int
    upstream_size: int
    lag_records: int
    lag_bytes: int
    lag_seconds: float
    refusal_reason: str
    refusal_message: str
    # Not written to until it was compared with the upstream's: it was restored.
    is_recovering: bool = False


@dataclass(frozen=True)
class LinkFigures:
    """The link upwards and those from below."""

    # A LinkState without prefix.
    state: str
    state_time: datetime | None
    upstream_address: str
    upstream_platform: str
    last_error: str
    clock_skew_seconds: float | None
    progress: Sequence[LinkLogFigures] = ()
    downstream: Sequence[DownstreamFigures] = ()
    # 0 before the first handshake.
    protocol_version: int = 0
    follows: Sequence[FollowFigures] = ()
    # What has come down.
    addressed: Sequence[AddressedFigures] = ()
    alarms: Sequence[AlarmFigures] = ()
    bandwidth: BandwidthFigures | None = None
    pushed_bytes: int = 0
    # None without an upstream, and from a relay of an older release.
    evidence: EvidenceFigures | None = None

    @property
    def has_upstream(self) -> bool:
        """Whether there is one to carry to."""
        return self.state != "NO_UPSTREAM"

    @property
    def lag_records(self) -> int:
        """Entries that wait, over all logs."""
        return sum(one.lag_records for one in self.progress)

    @property
    def lag_seconds(self) -> float:
        """Age of the oldest entry that waits."""
        return max((one.lag_seconds for one in self.progress), default=0.0)


@dataclass(frozen=True)
class PlatformFigures:
    """One platform at one moment."""

    platform: str
    time: datetime
    name: str = ""
    data_directory: str = ""
    # Why nothing is known at all; empty otherwise.
    problem: str = ""
    services: Sequence[ServiceFigures] = ()
    logs: Sequence[LogFigures] = ()
    link: LinkFigures | None = None
    suspected_count: int | None = None
    # More totals than were read.
    is_suspected_partial: bool = False
    suspected_since: date | None = None
    # None where the video service does not answer.
    store: StoreFigures | None = None

    @property
    def is_well(self) -> bool:
        """Whether every service of it answers and serves."""
        return not self.problem and all(service.is_serving for service in self.services)

    @property
    def streams(self) -> list[str]:
        """Streams held, in the order of the services."""
        held = {log.stream for log in self.logs}
        return [name for name in SERVICES if name in held] + sorted(held - set(SERVICES))

    @property
    def parked_count(self) -> int:
        """Entries held but not projected."""
        return sum(log.parked_count for log in self.logs)

    def record_count(self, stream: str) -> int | None:
        """Return the records of a stream over all origins; None when the stream is not known here."""
        sizes = [log.record_count for log in self.logs if log.stream == stream]
        return sum(sizes) if sizes else None

    def records_per_second(self, stream: str | None = None) -> float | None:
        """Return the growth of a stream, or of all; None before the second look."""
        rates = [log.records_per_second for log in self.logs if stream in (None, log.stream)]
        known = [rate for rate in rates if rate is not None]
        return sum(known) if known else None


def as_document(figures: PlatformFigures) -> Mapping[str, Any]:
    """Return plain values for JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, datetime | date):
            return value.isoformat()
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items()}
        return [plain(one) for one in value] if isinstance(value, list | tuple) else value

    document: dict[str, Any] = plain(asdict(figures))
    document["is_well"] = figures.is_well
    return document
