"""Reads a relay's answer about its links into figures. Pure."""

from datetime import UTC, datetime
from typing import Any

from cli.relay_figures import (
    AddressedFigures,
    AlarmFigures,
    BandwidthFigures,
    EvidenceFigures,
    FollowFigures,
    SentFigures,
    StalledFigures,
)
from cli.status_figures import DownstreamFigures, LinkFigures, LinkLogFigures
from zhichao.relay.v1 import relay_pb2


def link_figures(answer: relay_pb2.GetRelayStatusResponse) -> LinkFigures:
    """Return what a relay says of its links."""
    has_skew = answer.HasField("clock_skew_milliseconds")
    return LinkFigures(
        state=relay_pb2.LinkState.Name(answer.state).removeprefix("LINK_STATE_"),
        state_time=_time(answer, "state_time"),
        upstream_address=answer.upstream_address,
        upstream_platform=answer.upstream_platform,
        last_error=answer.last_error,
        clock_skew_seconds=answer.clock_skew_milliseconds / 1000 if has_skew else None,
        progress=[_log(one) for one in answer.progress],
        downstream=[_downstream(one) for one in answer.downstream_links],
        protocol_version=answer.protocol_version,
        follows=[
            FollowFigures(one.stream, relay_pb2.FollowState.Name(one.state).removeprefix("FOLLOW_STATE_"), one.detail)
            for one in answer.follows
        ],
        addressed=[
            AddressedFigures(
                stream=one.stream,
                origin=one.origin,
                through_sequence=one.through_sequence,
                upstream_sequence=one.upstream_sequence,
                last_batch_time=_time(one, "last_batch_time"),
                refusal_reason=one.refusal_reason,
                refusal_message=one.refusal_message,
            )
            for one in answer.addressed_progress
        ],
        alarms=[_alarm(one) for one in answer.alarms],
        bandwidth=_bandwidth(answer.bandwidth) if answer.HasField("bandwidth") else None,
        pushed_bytes=answer.pushed_bytes,
        evidence=_evidence(answer.evidence_progress) if answer.HasField("evidence_progress") else None,
    )


def _log(one: relay_pb2.LogProgress) -> LinkLogFigures:
    return LinkLogFigures(
        stream=one.stream,
        origin=one.origin,
        local_size=one.local_size,
        upstream_size=one.upstream_size,
        lag_records=one.lag_records,
        lag_bytes=one.lag_bytes,
        lag_seconds=one.lag_milliseconds / 1000,
        refusal_reason=one.refusal_reason,
        refusal_message=one.refusal_message,
        is_recovering=one.is_recovering,
    )


def _downstream(one: relay_pb2.DownstreamLink) -> DownstreamFigures:
    return DownstreamFigures(
        platform=one.platform,
        software_version=one.software_version,
        handshake_time=_time(one, "handshake_time"),
        last_push_time=_time(one, "last_push_time"),
        open_push_count=one.open_push_count,
        protocol_version=one.protocol_version,
        followed_streams=list(one.followed_streams),
        sent=[
            SentFigures(
                stream=sent.stream,
                origin=sent.origin,
                asked_sequence=sent.asked_sequence,
                sent_sequence=sent.sent_sequence,
                last_batch_time=_time(sent, "last_batch_time"),
                refusal_reason=sent.refusal_reason,
            )
            for sent in one.addressed_sent
        ],
        received_objects=one.received_objects,
        last_object_time=_time(one, "last_object_time"),
    )


def _alarm(one: relay_pb2.StallAlarm) -> AlarmFigures:
    return AlarmFigures(
        is_downward=one.is_downward,
        start_time=_time(one, "start_time"),
        log_count=one.log_count,
        logs=[
            StalledFigures(
                stream=log.stream,
                origin=log.origin,
                start_time=_time(log, "start_time"),
                cause=relay_pb2.StallCause.Name(log.cause).removeprefix("STALL_CAUSE_"),
                detail=log.detail,
            )
            for log in one.logs
        ],
    )


def _evidence(one: relay_pb2.EvidenceProgress) -> EvidenceFigures:
    return EvidenceFigures(
        state=relay_pb2.FollowState.Name(one.state).removeprefix("FOLLOW_STATE_"),
        detail=one.detail,
        waiting_objects=one.waiting_objects,
        waiting_bytes=one.waiting_bytes,
        open_push_count=one.open_push_count,
        declined_objects=one.declined_objects,
        pushed_objects=one.pushed_objects,
        pushed_bytes=one.pushed_bytes,
        last_object_time=_time(one, "last_object_time"),
        last_error=one.last_error,
        is_waiting=one.is_waiting,
    )


def _bandwidth(one: relay_pb2.BandwidthStatus) -> BandwidthFigures:
    return BandwidthFigures(
        schedule=one.schedule,
        bytes_per_second_max=one.bytes_per_second_max if one.HasField("bytes_per_second_max") else None,
        change_time=_time(one, "change_time"),
        is_waiting=one.is_waiting,
    )


def _time(message: Any, name: str) -> datetime | None:
    return getattr(message, name).ToDatetime(tzinfo=UTC) if message.HasField(name) else None
