"""The upper side of what comes down: who is sent what, by the certificate and by nothing that the caller says."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import grpc
import pytest

from services.common.access.limits import STREAMS_MAX
from services.common.access.permissions import PrincipalKind
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from services.relay.downstream import DownstreamLinks
from services.relay.limits import FOLLOWED_POSITIONS_MAX
from tests.relay.clocks import StandingClock
from tests.relay.conftest import CITY, COUNTY
from tests.relay.platforms import WAIT_SECONDS, Platform, assert_same_log, eventually
from zhichao.journal.v1 import addressed_pb2, journal_pb2
from zhichao.relay.v1 import relay_pb2
from zhichao.relay.v1.relay_pb2_grpc import RelayServiceStub

Make = Callable[..., Platform]

OTHER_COUNTY = "141026"


@pytest.fixture
def city(platform: Make) -> Platform:
    made = platform(CITY)
    made.start()
    return made


@pytest.fixture
def stub(city: Platform) -> Iterator[RelayServiceStub]:
    """Connect as the county does."""
    with city.open_as_peer(COUNTY) as channel:
        yield RelayServiceStub(channel)


def follow(stub: RelayServiceStub, stream: str = "registry", *positions: addressed_pb2.AddressedPosition) -> Any:
    request = relay_pb2.FollowAddressedRequest(stream=stream, positions=positions)
    return stub.FollowAddressed(request, timeout=WAIT_SECONDS)


def refusal(call: Any) -> ServiceError:
    with pytest.raises(grpc.RpcError) as failed:
        list(call)
    return service_error(failed.value)


def shake_hands(stub: RelayServiceStub, platform: str = COUNTY) -> relay_pb2.HandshakeResponse:
    request = relay_pb2.HandshakeRequest(platform=platform, protocol_versions=[1, 2], software_version="0.2.0")
    return stub.Handshake(request, timeout=WAIT_SECONDS)


def entry_count(answers: list[relay_pb2.FollowAddressedResponse]) -> int:
    """Return how many entries were sent, without entry 1 of the log."""
    steps = [step for answer in answers for step in answer.result.batch.steps]
    return sum(entry.sequence > 1 for step in steps for entry in step.entries)


def test_the_certificate_says_who_is_sent_what(city: Platform, stub: RelayServiceStub) -> None:
    city["registry"].write(b"for the county", audience=COUNTY)
    city["registry"].write(b"for all", audience=CITY)
    assert entry_count(list(islice(follow(stub), 1))) == 2
    with city.open_as_peer(OTHER_COUNTY) as channel:
        assert entry_count(list(islice(follow(RelayServiceStub(channel)), 1))) == 1


def test_own_entries_are_those_of_the_certificate(platform: Make, city: Platform, stub: RelayServiceStub) -> None:
    county = platform(COUNTY, upstream=city.address)
    county.start()
    county["weighing"].write_many(1_500)
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    request = relay_pb2.ReadOwnEntriesRequest(stream="weighing", first_sequence=500, batch_records_max=300)
    batches = [one.batch for one in stub.ReadOwnEntries(request, timeout=WAIT_SECONDS)]
    assert [entry for batch in batches for entry in batch.entries] == county["weighing"].entries(COUNTY)[499:]
    with city.open_as_peer(OTHER_COUNTY) as channel:
        other = RelayServiceStub(channel).ReadOwnEntries(request, timeout=WAIT_SECONDS)
        assert refusal(other).reason is Reason.UNKNOWN_LOG


def test_what_does_not_fit_is_refused(city: Platform, stub: RelayServiceStub) -> None:
    assert refusal(follow(stub, "video")).reason is Reason.INVALID_ARGUMENT
    read = stub.ReadOwnEntries(relay_pb2.ReadOwnEntriesRequest(stream="video", first_sequence=1), timeout=WAIT_SECONDS)
    assert refusal(read).reason is Reason.INVALID_ARGUMENT
    many = [addressed_pb2.AddressedPosition(origin=CITY)] * (FOLLOWED_POSITIONS_MAX + 1)
    error = refusal(follow(stub, "registry", *many))
    assert (error.reason, error.field_violations[0].field) == (Reason.INVALID_ARGUMENT, "positions")
    # What the service behind refuses passes as it is, and nothing of it is shown.
    shake_hands(stub)
    error = refusal(follow(stub, "registry", addressed_pb2.AddressedPosition(origin="nonsense", through_sequence=-1)))
    assert error.reason is Reason.INVALID_ARGUMENT
    assert list(city.status().downstream_links[0].addressed_sent) == []


def test_a_service_that_is_away_is_named(city: Platform, stub: RelayServiceStub) -> None:
    city["weighing"].stop()
    error = refusal(follow(stub, "weighing"))
    assert (error.reason, error.metadata["stream"]) == (Reason.SERVICE_UNAVAILABLE, "weighing")


def test_a_follow_ends_when_either_the_service_or_the_relay_stops(city: Platform, stub: RelayServiceStub) -> None:
    call = follow(stub, "weighing")
    next(call)
    city["weighing"].stop()
    assert refusal(call).is_retryable
    call = follow(stub, "registry")
    next(call)
    city.stop_relay()
    assert refusal(call).reason is Reason.SHUTTING_DOWN


def test_a_handshake_tells_how_far_addressed_entries_are_held_and_for_whom_not(
    city: Platform, stub: RelayServiceStub
) -> None:
    sequence = city["registry"].write(b"for the county", audience=COUNTY)
    answer = shake_hands(stub)
    assert answer.protocol_version == 2
    held = {one.stream: one for one in answer.addressed_positions if one.origin == CITY}
    assert held["registry"].through_sequence == sequence
    assert list(held["registry"].audiences) == []
    # A caller of the first protocol is not burdened with it.
    old = stub.Handshake(relay_pb2.HandshakeRequest(platform=COUNTY, protocol_versions=[1]), timeout=WAIT_SECONDS)
    assert (old.protocol_version, list(old.addressed_positions)) == (1, [])


def test_a_follower_that_leaves_is_forgotten(city: Platform, stub: RelayServiceStub) -> None:
    shake_hands(stub)
    call = follow(stub, "registry")
    next(call)
    eventually(lambda: list(city.status().downstream_links[0].followed_streams) == ["registry"], "the follow")
    call.cancel()
    eventually(lambda: list(city.status().downstream_links[0].followed_streams) == [], "its end")


def test_no_platform_takes_all_the_streams_of_a_relay(city: Platform, stub: RelayServiceStub) -> None:
    """Behind each of them stands one of a service, which terminals of this platform need as well."""
    most = STREAMS_MAX[PrincipalKind.PLATFORM]
    peer_server = city.app.peer_server
    assert peer_server is not None
    nothing = relay_pb2.FollowCosignaturesRequest()
    calls = [stub.FollowCosignatures(nothing, timeout=60) for _ in range(most)]
    eventually(lambda: sum(peer_server._gate._streams.values()) == most, "as many as there may be are open")

    assert refusal(stub.FollowCosignatures(nothing, timeout=WAIT_SECONDS)).reason is Reason.TOO_MANY_REQUESTS
    with city.open_as_peer(OTHER_COUNTY) as channel:
        assert shake_hands(RelayServiceStub(channel), OTHER_COUNTY).platform == CITY
        next(follow(RelayServiceStub(channel), "registry"))
    for call in calls:
        call.cancel()


def test_a_refusal_of_a_newer_service_passes_and_is_noted() -> None:
    refusal = journal_pb2.ReadAddressedEntriesResponse()
    refusal.refusal.origin = CITY
    refusal.refusal.refusal.reason = 9_999  # type: ignore[assignment]  # a number that the enum does not have
    links = DownstreamLinks(StandingClock())
    links.shook_hands(COUNTY, "0.2.0", 2)
    links.follow_began(COUNTY, "registry", [])
    links.sent(COUNTY, "registry", refusal)
    (link,) = links.all()
    assert [sent.refusal_reason for sent in link.sent.values()] == ["REASON_9999"]
