"""The figures of the relay: the link upwards, how far it is behind, the platforms below. All are read at a scrape."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from services.common.metrics import Gauge, Metrics, Sample
from services.relay.downlink import DownlinkStatus
from services.relay.downstream import LinkFromBelow
from services.relay.evidence_link import EvidenceStatus
from services.relay.follows import AddressedProgress, FollowState
from services.relay.link import LinkStatus
from services.relay.progress import LinkState, LogProgress
from services.relay.stalls import Direction

_STATE: Final = Gauge("zhichao_relay_link_state", "1 for the state in which the link upwards is.", ("state",))
_STATE_TIME: Final = Gauge("zhichao_relay_link_state_timestamp_seconds", "Since when the link is in its state.")
_LAG_ENTRIES: Final = Gauge("zhichao_relay_lag_entries", "Entries that the upstream has not acknowledged.", ("stream",))
_LAG_BYTES: Final = Gauge("zhichao_relay_lag_bytes", "Bytes that the upstream has not acknowledged.", ("stream",))
_LAG_SECONDS: Final = Gauge("zhichao_relay_lag_seconds", "Age of the oldest entry that waits.", ("stream",))
_REFUSED: Final = Gauge(
    "zhichao_relay_refused_logs", "Logs that do not advance until a person acts.", ("direction", "stream", "reason")
)
_STALLED: Final = Gauge("zhichao_relay_stalled_logs", "Logs that wait and do not advance.", ("direction",))
_FOLLOWING: Final = Gauge("zhichao_relay_following", "1 where what comes down in a stream is followed.", ("stream",))
_BEHIND: Final = Gauge(
    "zhichao_relay_addressed_behind_logs", "Logs of platforms above of which something has not come down.", ("stream",)
)
_PUSHED: Final = Gauge("zhichao_relay_pushed_bytes_total", "Bytes of entries pushed upwards.")
_CAPPED: Final = Gauge("zhichao_relay_bandwidth_waiting", "1 while entries wait for the bandwidth cap.")
_EVIDENCE_FOLLOWING: Final = Gauge(
    "zhichao_relay_evidence_following", "1 while it is known which bytes of evidence the upstream wants."
)
_EVIDENCE_OBJECTS: Final = Gauge(
    "zhichao_relay_evidence_waiting_objects", "Objects that the upstream wants of this subtree and does not have."
)
_EVIDENCE_BYTES: Final = Gauge("zhichao_relay_evidence_waiting_bytes", "Bytes of them that it does not have.")
_EVIDENCE_DECLINED: Final = Gauge(
    "zhichao_relay_evidence_declined_objects", "Objects of them that are not held here yet."
)
_EVIDENCE_PUSHED_OBJECTS: Final = Gauge(
    "zhichao_relay_evidence_pushed_objects_total", "Objects that the upstream has taken, complete and checked."
)
_EVIDENCE_PUSHED_BYTES: Final = Gauge("zhichao_relay_evidence_pushed_bytes_total", "Bytes of evidence pushed upwards.")
_EVIDENCE_CAPPED: Final = Gauge(
    "zhichao_relay_evidence_bandwidth_waiting", "1 while evidence waits for the bandwidth cap, or for entries."
)
_SKEW: Final = Gauge("zhichao_relay_clock_skew_seconds", "Clock of the upstream minus ours at the last handshake.")
_HANDSHAKE: Final = Gauge(
    "zhichao_relay_downstream_handshake_timestamp_seconds", "Last handshake of a platform below.", ("platform",)
)
_PUSH: Final = Gauge(
    "zhichao_relay_downstream_push_timestamp_seconds",
    "When the last batch of a platform below was committed.",
    ("platform",),
)
_OPEN: Final = Gauge(
    "zhichao_relay_downstream_open_batches", "Batches being received from a platform below.", ("platform",)
)


class LinkUpwards(Protocol):
    """What is asked of the link."""

    def status(self) -> LinkStatus:
        """Return what people see of it."""
        ...


class LinksFromBelow(Protocol):
    """What is asked of the links from below."""

    def all(self) -> list[LinkFromBelow]:
        """Return them; their number is bounded."""
        ...


def add_relay_metrics(metrics: Metrics, link: LinkUpwards, below: LinksFromBelow) -> None:
    """Add the figures of a relay."""
    metrics.gauges(
        "link",
        [
            *(_STATE, _STATE_TIME, _LAG_ENTRIES, _LAG_BYTES, _LAG_SECONDS, _REFUSED, _STALLED, _SKEW),
            *(_FOLLOWING, _BEHIND, _PUSHED, _CAPPED),
            *(_EVIDENCE_FOLLOWING, _EVIDENCE_OBJECTS, _EVIDENCE_BYTES, _EVIDENCE_DECLINED),
            *(_EVIDENCE_PUSHED_OBJECTS, _EVIDENCE_PUSHED_BYTES, _EVIDENCE_CAPPED),
        ],
        lambda: _link_samples(link.status()),
    )
    metrics.gauges("downstream", [_HANDSHAKE, _PUSH, _OPEN], lambda: _downstream_samples(below.all()))


def _link_samples(status: LinkStatus) -> Mapping[str, Sequence[Sample]]:
    skew = status.clock_skew_milliseconds
    return {
        _STATE.name: [Sample((state.value,), float(state is status.state)) for state in LinkState],
        _STATE_TIME.name: [Sample((), status.state_time.timestamp())],
        **_lag_samples(status.progress),
        _REFUSED.name: _refused_samples(status.progress, status.downlink.progress),
        _STALLED.name: [
            Sample((direction.value,), sum(one.log_count for one in status.alarms if one.direction is direction))
            for direction in Direction
        ],
        **_downlink_samples(status.downlink),
        **_evidence_samples(status.evidence),
        _PUSHED.name: [Sample((), status.pushed_bytes)],
        _CAPPED.name: [] if status.cap is None else [Sample((), float(status.cap.is_waiting))],
        _SKEW.name: [] if skew is None else [Sample((), skew / 1000)],
    }


def _lag_samples(progress: Iterable[LogProgress]) -> Mapping[str, Sequence[Sample]]:
    entries: defaultdict[str, int] = defaultdict(int)
    sizes: defaultdict[str, int] = defaultdict(int)
    milliseconds: defaultdict[str, int] = defaultdict(int)
    for log in progress:
        stream = log.key.stream
        entries[stream] += log.lag_records
        sizes[stream] += log.lag_bytes
        milliseconds[stream] = max(milliseconds[stream], log.lag_milliseconds)
    return {
        _LAG_ENTRIES.name: [Sample((stream,), count) for stream, count in entries.items()],
        _LAG_BYTES.name: [Sample((stream,), count) for stream, count in sizes.items()],
        _LAG_SECONDS.name: [Sample((stream,), count / 1000) for stream, count in milliseconds.items()],
    }


def _refused_samples(upward: Iterable[LogProgress], downward: Iterable[AddressedProgress]) -> list[Sample]:
    refused = Counter(
        (direction.value, log.key.stream, log.refusal.reason.value)
        for direction, logs in ((Direction.UPWARD, upward), (Direction.DOWNWARD, downward))
        for log in logs
        if log.refusal is not None
    )
    return [Sample(labels, count) for labels, count in refused.items()]


def _downlink_samples(downlink: DownlinkStatus) -> Mapping[str, Sequence[Sample]]:
    behind = Counter({follow.stream: 0 for follow in downlink.follows})
    behind.update(log.key.stream for log in downlink.progress if log.through_sequence < log.upstream_sequence)
    return {
        _FOLLOWING.name: [
            Sample((follow.stream,), float(follow.state is FollowState.FOLLOWING)) for follow in downlink.follows
        ],
        _BEHIND.name: [Sample((stream,), count) for stream, count in behind.items()],
    }


def _evidence_samples(evidence: EvidenceStatus) -> Mapping[str, Sequence[Sample]]:
    return {
        _EVIDENCE_FOLLOWING.name: [Sample((), float(evidence.state is FollowState.FOLLOWING))],
        _EVIDENCE_OBJECTS.name: [Sample((), evidence.waiting_objects)],
        _EVIDENCE_BYTES.name: [Sample((), evidence.waiting_bytes)],
        _EVIDENCE_DECLINED.name: [Sample((), evidence.declined_objects)],
        _EVIDENCE_PUSHED_OBJECTS.name: [Sample((), evidence.pushed_objects)],
        _EVIDENCE_PUSHED_BYTES.name: [Sample((), evidence.pushed_bytes)],
        _EVIDENCE_CAPPED.name: [Sample((), float(evidence.is_waiting))],
    }


def _downstream_samples(links: Iterable[LinkFromBelow]) -> Mapping[str, Sequence[Sample]]:
    known = list(links)
    pushed = [(link.platform, link.last_push_time) for link in known if link.last_push_time is not None]
    return {
        _HANDSHAKE.name: [Sample((link.platform,), link.handshake_time.timestamp()) for link in known],
        _PUSH.name: [Sample((platform,), moment.timestamp()) for platform, moment in pushed],
        _OPEN.name: [Sample((link.platform,), link.open_push_count) for link in known],
    }
