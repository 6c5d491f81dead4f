"""Follows the cosignatures that come down from the upstream and keeps them to be handed over: those of platforms
further up, and those that a relay which was killed, or a platform that pushes nothing, did not get with its pushes.
"""

from collections.abc import Callable, Collection

from services.common.rpc_client import service_error
from services.journal.entries import is_platform_code
from services.relay.cosignatures import Cosignatures
from services.relay.limits import COSIGNATURE_NOTE_CHARACTERS_MAX
from services.relay.link_watch import LinkWatch
from services.relay.standing import LogKey
from services.relay.upstream import Upstream
from zhichao.relay.v1 import relay_pb2


def follow_cosignatures(streams: Collection[str], cosignatures: Cosignatures, jitter: Callable[[], float]) -> LinkWatch:
    """Make the watch; what it misses while the link is away it is told anew with the next connection."""
    followed = frozenset(streams)

    def take(_upstream: Upstream, response: relay_pb2.FollowCosignaturesResponse) -> None:
        for one in response.checkpoints:
            if one.stream in followed and _is_usable(one):
                cosignatures.add(LogKey(one.stream, one.origin), one.checkpoint)

    return LinkWatch(
        "follow-cosignatures",
        lambda upstream: upstream.follow_cosignatures(),
        take,
        lambda _upstream, _error: None,
        service_error,
        jitter,
    )


def _is_usable(one: relay_pb2.CosignedCheckpoint) -> bool:
    """Tell whether it can be of a log at all; whether it is true its service finds out."""
    return is_platform_code(one.origin) and len(one.checkpoint) <= COSIGNATURE_NOTE_CHARACTERS_MAX
