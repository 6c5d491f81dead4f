"""The use cases of the relay: one method each, free of gRPC but for the messages that pass through as they are."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from services.common.clock import Clock
from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.reasons import Reason
from services.relay import evidence_passage
from services.relay.cosignature_feed import CosignatureFeed, CosignatureFollow
from services.relay.downstream import DownstreamLinks, LinkFromBelow
from services.relay.evidence_passage import ObjectPassage
from services.relay.follow_passage import FollowPassage
from services.relay.identity import Identity
from services.relay.limits import (
    EVIDENCE_STREAM,
    FOLLOWED_POSITIONS_MAX,
    PROTOCOL_VERSION_DOWNLINK,
    PROTOCOL_VERSIONS,
)
from services.relay.link import Link, LinkStatus
from services.relay.local_services import LocalService, LocalServices
from services.relay.passage import Passage
from services.relay.peers import Peers
from zhichao.journal.v1 import addressed_pb2, journal_pb2
from zhichao.relay.v1 import relay_pb2

SOFTWARE_VERSION_CHARACTERS_MAX: Final = 64
"""Characters taken of a peer's release: "12.34.56+dirty" and more fit."""

# What a release is written with (PEP 440); anything else is meant for the screens that it is shown on.
_SOFTWARE_VERSION: Final = re.compile(rf"[A-Za-z0-9.+!_-]{{0,{SOFTWARE_VERSION_CHARACTERS_MAX}}}")
_UNREADABLE: Final = "?"


@dataclass(frozen=True, slots=True)
class Offer:
    """What a lower platform says in a handshake."""

    platform: str
    protocol_versions: tuple[int, ...]
    software_version: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """What this platform answers."""

    protocol_version: int
    positions: list[journal_pb2.Position]
    addressed_positions: list[addressed_pb2.AddressedPosition]
    streams: list[str]
    server_time: datetime


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """The link upwards and the links from below."""

    platform: str
    link: LinkStatus
    links_from_below: list[LinkFromBelow]


class RelayHandlers:
    """What RelayService does."""

    def __init__(
        self,
        identity: Identity,
        services: LocalServices,
        link: Link,
        links_from_below: DownstreamLinks,
        feed: CosignatureFeed,
        peers: Peers,
        clock: Clock,
    ) -> None:
        self.identity = identity
        self._feed = feed
        self._peers = peers
        self._services = services
        self._link = link
        self._links_from_below = links_from_below
        self._clock = clock

    def shake_hands(self, offer: Offer, platform: str) -> Agreement:
        """Agree with a lower platform, `platform` by its certificate, and tell where this one stands.

        Raises ServiceError OUTSIDE_SCOPE for an offer in another's name, INCOMPATIBLE_VERSION, and SERVICE_UNAVAILABLE
        naming the first own service that does not answer.
        """
        self._peers.check_handshake(platform, offer.platform)
        shared = set(offer.protocol_versions) & set(PROTOCOL_VERSIONS)
        if not shared:
            raise ServiceError(
                Reason.INCOMPATIBLE_VERSION,
                f"platform {offer.platform} speaks protocol versions {_listed(offer.protocol_versions)}, "
                f"{self.identity.platform} speaks {_listed(PROTOCOL_VERSIONS)}: upgrade the upper platform first",
                metadata={"protocol_versions": _listed(PROTOCOL_VERSIONS)},
            )
        version = max(shared)
        positions, addressed = self._positions(version)
        release = offer.software_version if _SOFTWARE_VERSION.fullmatch(offer.software_version) else _UNREADABLE
        self._links_from_below.shook_hands(offer.platform, release, version)
        return Agreement(version, positions, addressed, self._services.streams, self._clock.now())

    def push(
        self, requests: Iterator[relay_pb2.PushEntriesRequest], platform: str
    ) -> Iterator[relay_pb2.PushEntriesResponse]:
        """Pass the batches of one log to the service that they are for, and its answers back.

        Raises ServiceError as that service does, ORIGIN_NOT_ALLOWED for a log that is not the platform's to push,
        INVALID_ARGUMENT for a stream that is not taken here, and SERVICE_UNAVAILABLE when the service does not answer.
        """
        first = next(requests, None)
        if first is None:
            return
        service = self._service(first.stream)
        self._peers.check_origin(platform, first.batch.origin)
        yield from Passage(service, first, requests, platform, self._links_from_below).answers()

    def follow_addressed(
        self, request: relay_pb2.FollowAddressedRequest, platform: str
    ) -> Iterator[relay_pb2.FollowAddressedResponse]:
        """Pass what is addressed to a platform below from the service that holds it, until the call ends.

        Raises ServiceError as `push`.
        """
        service = self._service(request.stream)
        if len(request.positions) > FOLLOWED_POSITIONS_MAX:
            raise invalid(
                [FieldViolation("positions", f"has {len(request.positions)} items, more than {FOLLOWED_POSITIONS_MAX}")]
            )
        yield from FollowPassage(service, request, platform, self._links_from_below).answers()

    def follow_cosignatures(self, platform: str) -> Iterator[relay_pb2.FollowCosignaturesResponse]:
        """Tell a platform below of cosignatures of its logs and of those below it, until the call ends."""
        yield from CosignatureFollow(self._feed, self._services, partial(self._peers.covers, platform)).answers()

    def read_own(
        self, request: relay_pb2.ReadOwnEntriesRequest, platform: str
    ) -> Iterator[relay_pb2.ReadOwnEntriesResponse]:
        """Read back what a platform below has pushed, to the end of what is held. Raises ServiceError as `push`."""
        service = self._service(request.stream)
        read = journal_pb2.ReadEntriesRequest(
            origin=platform, first_sequence=request.first_sequence, batch_records_max=request.batch_records_max
        )
        for response in service.stream_down(service.journal.ReadEntries, read):
            yield relay_pb2.ReadOwnEntriesResponse(batch=response.batch)

    def follow_wanted(self, platform: str) -> Iterator[relay_pb2.FollowWantedResponse]:
        """Tell a platform below which evidence is wanted of it, until the call ends. Raises ServiceError as `push`."""
        yield from evidence_passage.wanted(self._service(EVIDENCE_STREAM), platform)

    def push_object(
        self, requests: Iterator[relay_pb2.PushObjectRequest], platform: str
    ) -> relay_pb2.PushObjectResponse:
        """Pass the bytes of one object to the service of evidence, and its answer back. Raises as `push`."""
        service = self._service(EVIDENCE_STREAM)
        answer = ObjectPassage(service, requests, platform, self._links_from_below).answer()
        return relay_pb2.PushObjectResponse(result=answer)

    def decline_object(self, digest: bytes, platform: str, *, is_gone: bool) -> None:
        """Pass on that a platform below does not hold an object. Raises ServiceError as `push`."""
        evidence_passage.decline(self._service(EVIDENCE_STREAM), platform, digest, is_gone=is_gone)

    def status(self) -> RelayStatus:
        """Return the state of all links."""
        return RelayStatus(self.identity.platform, self._link.status(), self._links_from_below.all())

    def _service(self, stream: str) -> LocalService:
        service = self._services.find(stream)
        if service is None:
            accepted = ", ".join(self._services.streams) or "none"
            raise invalid([FieldViolation("stream", f"{stream[:64]!r} is not taken here; these are: {accepted}")])
        return service

    def _positions(
        self, protocol_version: int
    ) -> tuple[list[journal_pb2.Position], list[addressed_pb2.AddressedPosition]]:
        # All are asked before the first answer is waited for.
        answers = [service.ask_positions() for service in self._services]
        is_followed = protocol_version >= PROTOCOL_VERSION_DOWNLINK
        held = [service.ask_addressed_positions() for service in self._services] if is_followed else []
        return (
            [position for answer in answers for position in answer()],
            [position for answer in held for position in answer()],
        )


def _listed(versions: tuple[int, ...]) -> str:
    return ", ".join(map(str, versions[:16])) or "none"
