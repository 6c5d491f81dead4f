"""Relay messages to and from what the relay works with. Pure."""

from collections.abc import Iterable

from services.journal.entries import timestamp
from services.journal.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX
from services.relay.downstream import LinkFromBelow
from services.relay.handlers import Agreement, Offer, RelayStatus
from services.relay.identity import PLATFORM_METADATA, Identity
from services.relay.limits import WINDOW_BATCHES_MAX
from services.relay.pacing import CapStatus
from services.relay.progress import LinkState, LogProgress
from zhichao.relay.v1 import relay_pb2 as pb

_STATES = {state: pb.LinkState.Value(f"LINK_STATE_{state.value}") for state in LinkState}


def offer(request: pb.HandshakeRequest) -> Offer:
    """Read what a lower platform offers."""
    return Offer(request.platform, tuple(request.protocol_versions), request.software_version)


def pushing_platform(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the platform that says it pushes; empty when none does."""
    return next((str(value) for key, value in metadata if key == PLATFORM_METADATA), "")


def handshake_response(identity: Identity, agreement: Agreement) -> pb.HandshakeResponse:
    """Return what was agreed."""
    return pb.HandshakeResponse(
        platform=identity.platform,
        protocol_version=agreement.protocol_version,
        software_version=identity.software_version,
        batch_records_max=BATCH_RECORDS_MAX,
        batch_bytes_max=BATCH_BYTES_MAX,
        window_batches_max=WINDOW_BATCHES_MAX,
        positions=agreement.positions,
        streams=agreement.streams,
        server_time=timestamp(agreement.server_time),
    )


def status_response(status: RelayStatus) -> pb.GetRelayStatusResponse:
    """Return the state of all links."""
    link = status.link
    return pb.GetRelayStatusResponse(
        platform=status.platform,
        upstream_address=link.upstream_address,
        upstream_platform=link.upstream_platform,
        state=_STATES[link.state],
        state_time=timestamp(link.state_time),
        last_error=link.last_error,
        progress=[_progress(one) for one in link.progress],
        downstream_links=[_link_from_below(one) for one in status.links_from_below],
        clock_skew_milliseconds=link.clock_skew_milliseconds,
        bandwidth=_bandwidth(link.cap) if link.cap else None,
        pushed_bytes=link.pushed_bytes,
    )


def _progress(progress: LogProgress) -> pb.LogProgress:
    refusal = progress.refusal
    return pb.LogProgress(
        stream=progress.key.stream,
        origin=progress.key.origin,
        local_size=progress.local_size,
        upstream_size=progress.upstream_size,
        lag_records=progress.lag_records,
        lag_bytes=progress.lag_bytes,
        lag_milliseconds=progress.lag_milliseconds,
        refusal_reason=refusal.reason.value if refusal else "",
        refusal_message=refusal.message if refusal else "",
    )


def _bandwidth(cap: CapStatus) -> pb.BandwidthStatus:
    return pb.BandwidthStatus(
        schedule=cap.schedule,
        bytes_per_second_max=cap.bytes_per_second,
        change_time=timestamp(cap.change_time) if cap.change_time else None,
        is_waiting=cap.is_waiting,
    )


def _link_from_below(link: LinkFromBelow) -> pb.DownstreamLink:
    return pb.DownstreamLink(
        platform=link.platform,
        software_version=link.software_version,
        handshake_time=timestamp(link.handshake_time),
        last_push_time=timestamp(link.last_push_time) if link.last_push_time else None,
        open_push_count=link.open_push_count,
    )
