"""Relay messages to and from what the relay works with. Pure."""

from services.journal.entries import timestamp
from services.journal.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX
from services.relay.downstream import AddressedSent, LinkFromBelow
from services.relay.evidence_link import EvidenceStatus
from services.relay.follows import AddressedProgress, FollowState, StreamFollow
from services.relay.handlers import Agreement, Offer, RelayStatus
from services.relay.identity import Identity
from services.relay.limits import WINDOW_BATCHES_MAX
from services.relay.pacing import CapStatus
from services.relay.progress import LinkState, LogProgress
from services.relay.stalls import Direction, StallAlarm, StallCause
from services.relay.standing import LogKey
from zhichao.relay.v1 import relay_pb2 as pb

_STATES = {state: pb.LinkState.Value(f"LINK_STATE_{state.value}") for state in LinkState}
_FOLLOW_STATES = {state: pb.FollowState.Value(f"FOLLOW_STATE_{state.value}") for state in FollowState}
_CAUSES = {cause: pb.StallCause.Value(f"STALL_CAUSE_{cause.value}") for cause in StallCause}


def offer(request: pb.HandshakeRequest) -> Offer:
    """Read what a lower platform offers."""
    return Offer(request.platform, tuple(request.protocol_versions), request.software_version)


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
        addressed_positions=agreement.addressed_positions,
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
        protocol_version=link.protocol_version,
        addressed_progress=[_addressed_progress(one) for one in link.downlink.progress],
        follows=[_stream_follow(one) for one in link.downlink.follows] if link.upstream_address else [],
        alarms=[_alarm(one) for one in link.alarms],
        evidence_progress=_evidence(link.evidence) if link.upstream_address else None,
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
        is_recovering=progress.is_recovering,
    )


def _addressed_progress(progress: AddressedProgress) -> pb.AddressedProgress:
    refusal = progress.refusal
    return pb.AddressedProgress(
        stream=progress.key.stream,
        origin=progress.key.origin,
        through_sequence=progress.through_sequence,
        upstream_sequence=progress.upstream_sequence,
        last_batch_time=timestamp(progress.last_batch_time) if progress.last_batch_time else None,
        refusal_reason=refusal.reason.value if refusal else "",
        refusal_message=refusal.message if refusal else "",
    )


def _stream_follow(follow: StreamFollow) -> pb.StreamFollow:
    return pb.StreamFollow(stream=follow.stream, state=_FOLLOW_STATES[follow.state], detail=follow.detail)


def _alarm(alarm: StallAlarm) -> pb.StallAlarm:
    return pb.StallAlarm(
        is_downward=alarm.direction is Direction.DOWNWARD,
        start_time=timestamp(alarm.start_time),
        logs=[
            pb.StalledLog(
                stream=one.key.stream,
                origin=one.key.origin,
                start_time=timestamp(one.start_time),
                cause=_CAUSES[one.cause],
                detail=one.detail,
            )
            for one in alarm.logs
        ],
        log_count=alarm.log_count,
    )


def _evidence(evidence: EvidenceStatus) -> pb.EvidenceProgress:
    return pb.EvidenceProgress(
        state=_FOLLOW_STATES[evidence.state],
        detail=evidence.detail,
        waiting_objects=evidence.waiting_objects,
        waiting_bytes=evidence.waiting_bytes,
        open_push_count=evidence.open_push_count,
        declined_objects=evidence.declined_objects,
        pushed_objects=evidence.pushed_objects,
        pushed_bytes=evidence.pushed_bytes,
        last_object_time=timestamp(evidence.last_object_time) if evidence.last_object_time else None,
        last_error=evidence.last_error,
        is_waiting=evidence.is_waiting,
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
        followed_streams=sorted(stream for stream, count in link.follow_counts.items() if count),
        addressed_sent=[_addressed_sent(key, sent) for key, sent in sorted(link.sent.items())],
        protocol_version=link.protocol_version,
        received_objects=link.received_objects,
        last_object_time=timestamp(link.last_object_time) if link.last_object_time else None,
    )


def _addressed_sent(key: LogKey, sent: AddressedSent) -> pb.AddressedSent:
    return pb.AddressedSent(
        stream=key.stream,
        origin=key.origin,
        asked_sequence=sent.asked_sequence,
        sent_sequence=sent.sent_sequence,
        last_batch_time=timestamp(sent.last_batch_time) if sent.last_batch_time else None,
        refusal_reason=sent.refusal_reason,
    )
