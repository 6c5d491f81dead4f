"""What evidence goes up by: the watches of what the upstream wants and of what the own service comes to hold, and the
word to that service that the upstream wants what it does not hold.
"""

from collections.abc import Callable, Collection
from typing import Final

import grpc

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from services.relay.evidence_queue import Wanted
from services.relay.limits import EVIDENCE_HELD_MAX, LOCAL_CALL_SECONDS_MAX
from services.relay.link_watch import LinkWatch
from services.relay.local_services import LocalService
from services.relay.upstream import Upstream
from zhichao.relay.v1 import relay_pb2
from zhichao.video.v1 import transfer_pb2

_ABSENT: Final = frozenset({Reason.INVALID_ARGUMENT, Reason.INCOMPATIBLE_VERSION, Reason.NOT_CONFIGURED})
"""What an upstream answers that has no video service after all, or is of a release that moves no evidence."""


def watch_wanted(
    take: Callable[[Upstream, transfer_pb2.WatchWantedResponse], None],
    ended: Callable[[Upstream, ServiceError | None], None],
    jitter: Callable[[], float],
) -> LinkWatch:
    """Make the watch of what the upstream wants."""

    def unpack(upstream: Upstream, response: relay_pb2.FollowWantedResponse) -> None:
        take(upstream, response.result)

    return LinkWatch("evidence-wanted", lambda upstream: upstream.follow_wanted(), unpack, ended, service_error, jitter)


def watch_held(
    service: LocalService,
    take: Callable[[Collection[bytes]], None],
    jitter: Callable[[], float],
) -> LinkWatch:
    """Make the watch of what the own service comes to hold; that it is away, senders say."""

    def unpack(_upstream: Upstream, response: transfer_pb2.WatchHeldResponse) -> None:
        take(response.digests[:EVIDENCE_HELD_MAX])

    return LinkWatch(
        "evidence-held",
        lambda _upstream: service.transfer.WatchHeld(transfer_pb2.WatchHeldRequest()),
        unpack,
        lambda _upstream, _error: None,
        service.failure,
        jitter,
    )


def want_for_upstream(service: LocalService, wanted: Wanted) -> None:
    """Tell the own service that the upstream wants what it does not hold. Raises ServiceError as it refused."""
    urgency = transfer_pb2.TransferUrgency.ValueType(wanted.urgency)
    request = transfer_pb2.WantForUpstreamRequest(digest=wanted.digest, urgency=urgency)
    try:
        service.transfer.WantForUpstream(request, timeout=LOCAL_CALL_SECONDS_MAX)
    except grpc.RpcError as error:
        raise service.failure(error) from error


def is_absent(error: ServiceError) -> bool:
    """Tell whether an upstream does not move evidence at all, which is no error."""
    return error.reason in _ABSENT
