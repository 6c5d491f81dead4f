"""The use cases of the relay: one method each, free of gRPC but for the messages that pass through as they are."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from services.common.clock import Clock
from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.reasons import Reason
from services.relay.downstream import DownstreamLinks, LinkFromBelow
from services.relay.identity import Identity
from services.relay.limits import PROTOCOL_VERSIONS
from services.relay.link import Link, LinkStatus
from services.relay.local_services import LocalServices
from services.relay.passage import Passage
from zhichao.journal.v1 import journal_pb2
from zhichao.relay.v1 import relay_pb2

_PLATFORM: Final = re.compile(r"[0-9]{6}")

SOFTWARE_VERSION_CHARACTERS_MAX: Final = 64
"""Characters kept of a peer's release: "12.34.56+dirty" and more fit."""


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
        self, identity: Identity, services: LocalServices, link: Link, links_from_below: DownstreamLinks, clock: Clock
    ) -> None:
        self.identity = identity
        self._services = services
        self._link = link
        self._links_from_below = links_from_below
        self._clock = clock

    def shake_hands(self, offer: Offer) -> Agreement:
        """Agree with a lower platform and tell where this one stands.

        Raises ServiceError INVALID_ARGUMENT, ORIGIN_NOT_ALLOWED for this platform itself, INCOMPATIBLE_VERSION, and
        SERVICE_UNAVAILABLE naming the first own service that does not answer.
        """
        if not _PLATFORM.fullmatch(offer.platform):
            raise invalid([FieldViolation("platform", "must be a six-digit platform code")])
        if offer.platform == self.identity.platform:
            raise ServiceError(
                Reason.ORIGIN_NOT_ALLOWED,
                f"this is platform {offer.platform} itself: its upstream must be another one",
                metadata={"platform": offer.platform},
            )
        shared = set(offer.protocol_versions) & set(PROTOCOL_VERSIONS)
        if not shared:
            raise ServiceError(
                Reason.INCOMPATIBLE_VERSION,
                f"platform {offer.platform} speaks protocol versions {_listed(offer.protocol_versions)}, "
                f"{self.identity.platform} speaks {_listed(PROTOCOL_VERSIONS)}: upgrade the upper platform first",
                metadata={"protocol_versions": _listed(PROTOCOL_VERSIONS)},
            )
        positions = self._positions()
        self._links_from_below.shook_hands(offer.platform, offer.software_version[:SOFTWARE_VERSION_CHARACTERS_MAX])
        return Agreement(max(shared), positions, self._services.streams, self._clock.now())

    def push(
        self, requests: Iterator[relay_pb2.PushEntriesRequest], platform: str
    ) -> Iterator[relay_pb2.PushEntriesResponse]:
        """Pass the batches of one log to the service that they are for, and its answers back.

        Raises ServiceError as that service does, INVALID_ARGUMENT for a stream that is not taken here, and
        SERVICE_UNAVAILABLE when the service does not answer.
        """
        first = next(requests, None)
        if first is None:
            return
        service = self._services.find(first.stream)
        if service is None:
            accepted = ", ".join(self._services.streams) or "none"
            raise invalid([FieldViolation("stream", f"{first.stream[:64]!r} is not taken here; these are: {accepted}")])
        if first.batch.origin == self.identity.platform:
            raise ServiceError(
                Reason.ORIGIN_NOT_ALLOWED,
                f"{self.identity.platform} is this platform itself; its log is written here and nowhere else",
                metadata={"origin": first.batch.origin},
            )
        yield from Passage(service, first, requests, platform, self._links_from_below).answers()

    def status(self) -> RelayStatus:
        """Return the state of all links."""
        return RelayStatus(self.identity.platform, self._link.status(), self._links_from_below.all())

    def _positions(self) -> list[journal_pb2.Position]:
        # All are asked before the first answer is waited for.
        answers = [service.ask_positions() for service in self._services]
        return [position for answer in answers for position in answer()]


def _listed(versions: tuple[int, ...]) -> str:
    return ", ".join(map(str, versions[:16])) or "none"
