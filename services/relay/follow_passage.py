"""One follow from below on its way to the service that it is for: positions up, steps down, in order and never held.

What slows the follower down slows the service's reading down: nothing is read ahead of what the connection takes.
"""

from collections.abc import Iterator

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.request import request_context
from services.relay.downstream import DownstreamLinks
from services.relay.local_services import LocalService
from zhichao.journal.v1 import journal_pb2
from zhichao.relay.v1 import relay_pb2


class FollowPassage:
    """One follow. Used once."""

    def __init__(
        self,
        service: LocalService,
        request: relay_pb2.FollowAddressedRequest,
        platform: str,
        links: DownstreamLinks,
    ) -> None:
        self._service = service
        self._request = request
        self._platform = platform
        self._links = links

    def answers(self) -> Iterator[relay_pb2.FollowAddressedResponse]:
        """Yield what the service sends for the platform. Raises ServiceError as the service refused, reason and all."""
        stream = self._service.stream
        read = journal_pb2.ReadAddressedEntriesRequest(
            platform=self._platform, positions=self._request.positions, follow=True
        )
        has_begun = False
        try:
            for response in self._service.stream_down(self._service.journal.ReadAddressedEntries, read):
                if not has_begun:
                    # The service has looked at the positions by now.
                    self._links.follow_began(self._platform, stream, self._request.positions)
                    has_begun = True
                yield relay_pb2.FollowAddressedResponse(result=response)
                self._links.sent(self._platform, stream, response)
        finally:
            if has_begun:
                self._links.follow_ended(self._platform, stream)
        if request_context().is_active():
            raise ServiceError(
                Reason.SHUTTING_DOWN,
                f"the {stream} service of the upper platform stops",
                metadata={"stream": stream},
                retry_after_seconds=1.0,
            )
