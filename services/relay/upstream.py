"""The relay of the platform above: the handshake, the pushes, and what comes down, over one connection; evidence has
another one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import grpc

from services.common.clock import Clock
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_client import connect, service_error
from services.common.tls import ClientTls
from services.journal.entries import is_platform_code
from services.journal.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX
from services.relay import positions
from services.relay.identity import Identity
from services.relay.limits import (
    EVIDENCE_STREAM,
    LOCAL_CALL_SECONDS_MAX,
    PROTOCOL_VERSION_DOWNLINK,
    PROTOCOL_VERSIONS,
    READ_BACK_SECONDS_MAX,
    WINDOW_BATCHES_MAX,
)
from services.relay.standing import LogKey, Standing, is_link_failure
from services.relay.window import Limits
from zhichao.journal.v1 import addressed_pb2
from zhichao.relay.v1 import relay_pb2, relay_pb2_grpc

Response_co = TypeVar("Response_co", covariant=True)


@dataclass(frozen=True, slots=True)
class UpstreamAddress:
    """Where the platform above is, by which certificates it is spoken to, and which platform it must be; empty: any."""

    address: str
    tls: ClientTls
    platform: str = ""


class PushCall(Protocol):
    """A push under way, as gRPC makes it."""

    def __iter__(self) -> Iterator[relay_pb2.PushEntriesResponse]:
        """Take the answers; grpc.RpcError when the call fails."""
        ...

    def cancel(self) -> bool:
        """End it; False when that has been."""
        ...

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Be told of its end; False when that has been."""
        ...


class FollowCall(Protocol[Response_co]):
    """A follow of what the upstream sends under way, as gRPC makes it."""

    def __iter__(self) -> Iterator[Response_co]:
        """Take what is sent; grpc.RpcError when the call fails."""
        ...

    def cancel(self) -> bool:
        """End it; False when that has been."""
        ...


class ObjectCall(Protocol):
    """A push of one object under way, as gRPC makes it."""

    def result(self) -> relay_pb2.PushObjectResponse:
        """Wait for the answer; grpc.RpcError when the call fails, grpc.FutureCancelledError when it was cancelled."""
        ...

    def cancel(self) -> bool:
        """End it; False when that has been."""
        ...


@dataclass(frozen=True, slots=True)
class Welcome:
    """What the upstream answered to a handshake."""

    platform: str
    software_version: str
    standings: dict[LogKey, Standing]
    streams: frozenset[str]
    # The upstream's clock minus ours; None when it does not tell its time.
    clock_skew_milliseconds: int | None
    protocol_version: int
    # How far the upstream holds the addressed entries of each log.
    addressed_ends: dict[LogKey, int]

    @property
    def followed_streams(self) -> frozenset[str]:
        """The streams that may be followed."""
        return self.streams if self.protocol_version >= PROTOCOL_VERSION_DOWNLINK else frozenset()

    @property
    def takes_evidence(self) -> bool:
        """Whether the upstream says which bytes of evidence it wants."""
        return EVIDENCE_STREAM in self.followed_streams


class Upstream:
    """One connection to the upstream. After a failure a new one is made: it connects at once, and old calls end.

    When the certificates are renewed, calls that begin after that show the new ones; see `has_renewed`.
    """

    def __init__(self, upstream: UpstreamAddress, identity: Identity, clock: Clock) -> None:
        self.address = upstream.address
        self._tls = upstream.tls
        self._bundle = upstream.tls.current()
        self._platform = upstream.platform
        self._identity = identity
        self._clock = clock
        self._channel = connect(upstream.address, tls=upstream.tls)
        self._stub = relay_pb2_grpc.RelayServiceStub(self._channel)
        # Bytes of evidence have a connection of their own: an entry never waits behind what is on its way in the other.
        self._evidence_channel = connect(upstream.address, tls=upstream.tls)
        self._evidence_stub = relay_pb2_grpc.RelayServiceStub(self._evidence_channel)
        # Agreed on in the handshake.
        self.protocol_version = 0
        self.limits = Limits(BATCH_RECORDS_MAX, BATCH_BYTES_MAX, WINDOW_BATCHES_MAX)

    def shake_hands(self, timeout_seconds: float) -> Welcome:
        """Agree with the upstream on version and limits, and learn where it stands. May be called again.

        Raises ServiceError; INCOMPATIBLE_VERSION also when the answer names a version that was not offered, and
        ORIGIN_NOT_ALLOWED when this platform itself answers.
        """
        request = relay_pb2.HandshakeRequest(
            platform=self._identity.platform,
            protocol_versions=PROTOCOL_VERSIONS,
            software_version=self._identity.software_version,
            verifier_key=self._identity.verifier_key,
        )
        asked = self._clock.now()
        try:
            response = self._stub.Handshake(request, timeout=timeout_seconds)
        except grpc.RpcError as error:
            raise self._named(service_error(error)) from error
        except ValueError as error:
            raise _closed() from error
        answered = self._clock.now()
        if response.protocol_version not in PROTOCOL_VERSIONS:
            raise ServiceError(
                Reason.INCOMPATIBLE_VERSION,
                f"the upstream {self.address} chose protocol version {response.protocol_version}, unknown here",
            )
        if not is_platform_code(response.platform):
            raise ServiceError(
                Reason.INVALID_ARGUMENT,
                f"the upstream {self.address} does not say which platform it is: {response.platform[:16]!r}",
            )
        if response.platform == self._identity.platform:
            raise ServiceError(
                Reason.ORIGIN_NOT_ALLOWED,
                f"the upstream {self.address} is platform {response.platform}, this one itself",
            )
        if self._platform and response.platform != self._platform:
            raise ServiceError(
                Reason.ORIGIN_NOT_ALLOWED,
                f"the upstream {self.address} is platform {response.platform[:16]}, and not {self._platform} as "
                "ZHICHAO_RELAY_UPSTREAM_PLATFORM says",
            )
        self.protocol_version = response.protocol_version
        self.limits = Limits(
            _agreed(BATCH_RECORDS_MAX, response.batch_records_max),
            _agreed(BATCH_BYTES_MAX, response.batch_bytes_max),
            _agreed(WINDOW_BATCHES_MAX, response.window_batches_max),
        )
        upstream_time = positions.moment(response.server_time) if response.HasField("server_time") else None
        # The upstream read its clock about half-way between our two readings.
        skew = upstream_time - (asked + (answered - asked) / 2) if upstream_time else None
        return Welcome(
            platform=response.platform,
            software_version=response.software_version,
            standings=positions.by_log(response.positions),
            streams=frozenset(response.streams),
            clock_skew_milliseconds=round(skew.total_seconds() * 1000) if skew is not None else None,
            protocol_version=response.protocol_version,
            addressed_ends=positions.addressed_ends(response.addressed_positions),
        )

    def push_entries(self, requests: Iterator[relay_pb2.PushEntriesRequest]) -> PushCall:
        """Open a push of one log. Raises ServiceError when the connection was given up meanwhile."""
        try:
            return self._stub.PushEntries(requests)
        except ValueError as error:
            raise _closed() from error

    def follow_addressed(
        self, stream: str, held: Sequence[addressed_pb2.AddressedPosition]
    ) -> FollowCall[relay_pb2.FollowAddressedResponse]:
        """Open a follow of what is addressed to this platform. Raises ServiceError as `push_entries`."""
        try:
            return self._stub.FollowAddressed(relay_pb2.FollowAddressedRequest(stream=stream, positions=held))
        except ValueError as error:
            raise _closed() from error

    def follow_cosignatures(self) -> FollowCall[relay_pb2.FollowCosignaturesResponse]:
        """Open a follow of cosignatures. Raises ServiceError as `push_entries`."""
        try:
            return self._stub.FollowCosignatures(relay_pb2.FollowCosignaturesRequest())
        except ValueError as error:
            raise _closed() from error

    def follow_wanted(self) -> FollowCall[relay_pb2.FollowWantedResponse]:
        """Open a follow of which evidence is wanted. Raises ServiceError as `push_entries`."""
        try:
            return self._stub.FollowWanted(relay_pb2.FollowWantedRequest())
        except ValueError as error:
            raise _closed() from error

    def push_object(self, requests: Iterator[relay_pb2.PushObjectRequest]) -> ObjectCall:
        """Open a push of one object. Raises ServiceError as `push_entries`."""
        try:
            return self._evidence_stub.PushObject.future(requests)
        except ValueError as error:
            raise _closed() from error

    def decline_object(self, digest: bytes, *, is_gone: bool) -> None:
        """Say that an object is not held here. Raises ServiceError."""
        request = relay_pb2.DeclineObjectRequest(digest=digest, is_gone=is_gone)
        try:
            # The upper relay asks its own service, as with a handshake.
            self._stub.DeclineObject(request, timeout=2 * LOCAL_CALL_SECONDS_MAX)
        except grpc.RpcError as error:
            raise self._named(service_error(error)) from error
        except ValueError as error:
            raise _closed() from error

    def read_own_entries(self, stream: str, first_sequence: int) -> Iterator[relay_pb2.ReadOwnEntriesResponse]:
        """Yield entries of this platform that the upstream holds, to their end. Raises ServiceError."""
        request = relay_pb2.ReadOwnEntriesRequest(stream=stream, first_sequence=first_sequence)
        try:
            call = self._stub.ReadOwnEntries(request, timeout=READ_BACK_SECONDS_MAX)
        except ValueError as error:
            raise _closed() from error
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._named(service_error(error)) from error
        finally:
            call.cancel()

    def _named(self, error: ServiceError) -> ServiceError:
        """Say who does not answer; refusals of the upstream itself stay as they are."""
        if not is_link_failure(error):
            return error
        return ServiceError(error.reason, f"the upstream {self.address} does not answer: {error.message}")

    def has_renewed(self) -> bool:
        """Tell, once, that the certificates were renewed since the calls under way began."""
        before, self._bundle = self._bundle, self._tls.current()
        return self._bundle is not before

    def close(self) -> None:
        """Close the connections; calls under way end."""
        self._channel.close()
        self._evidence_channel.close()


def _closed() -> ServiceError:
    # gRPC says it with a ValueError.
    return ServiceError(Reason.SERVICE_UNAVAILABLE, "this connection to the upstream was given up")


def _agreed(ours: int, theirs: int) -> int:
    """Return the smaller limit; a peer that names none or nonsense gets the smallest that works."""
    return max(min(ours, theirs), 1)
