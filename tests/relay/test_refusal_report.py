"""Whom the relay has refused stands in the registry's audit log: the relay has no journal of its own."""

from collections.abc import Callable

import grpc
import pytest
from structlog.testing import capture_logs

from services.common.reasons import Reason
from services.common.refused_attempts import RefusalSource
from services.common.rpc_client import connect
from services.relay.refusal_report import RefusalReport
from tests.relay.clocks import StandingClock
from tests.relay.conftest import CITY
from tests.relay.platforms import JournalHost, Platform
from zhichao.common.v1 import refusal_pb2
from zhichao.journal.v1.access_record_pb2 import AccessRecord
from zhichao.journal.v1.entry_pb2 import Entry
from zhichao.relay.v1 import relay_pb2
from zhichao.relay.v1.relay_pb2_grpc import RelayServiceStub

STRANGER = "140100"
HANDSHAKE = "zhichao.relay.v1.RelayService/Handshake"


def records(registry: JournalHost) -> list[AccessRecord]:
    """Return what a registry's log holds of accesses."""
    entries = [Entry.FromString(entry) for entry in registry.entries(CITY)]
    return [
        AccessRecord.FromString(entry.payload) for entry in entries if entry.kind == "zhichao.journal.v1.AccessRecord"
    ]


@pytest.fixture
def city(platform: Callable[..., Platform]) -> Platform:
    made = platform(CITY)
    made.start()
    return made


def test_a_platform_that_is_not_registered_is_written_down(city: Platform) -> None:
    with city.open_as_peer(STRANGER) as channel:
        for _ in range(3):
            with pytest.raises(grpc.RpcError):
                RelayServiceStub(channel).Handshake(
                    relay_pb2.HandshakeRequest(platform=STRANGER, protocol_versions=[1]), timeout=10
                )
    # A stop tells what was not yet told.
    city.stop_relay()
    (kept,) = records(city["registry"])
    assert (kept.principal, kept.method, kept.attempt_count) == (f"platform/{STRANGER}", HANDSHAKE, 3)
    assert kept.refusal_reason == refusal_pb2.ERROR_REASON_PLATFORM_NOT_REGISTERED
    assert kept.peer_address == "ipv4:127.0.0.1"
    assert kept.number == 1


def test_somebody_without_a_token_is_written_down(city: Platform) -> None:
    with connect(city.app.server.address) as channel, pytest.raises(grpc.RpcError):
        RelayServiceStub(channel).GetRelayStatus(relay_pb2.GetRelayStatusRequest(), timeout=10)
    city.stop_relay()
    (kept,) = records(city["registry"])
    assert (kept.principal, kept.attempt_count) == ("", 1)
    assert kept.refusal_reason == refusal_pb2.ERROR_REASON_NO_CREDENTIALS


def test_a_registry_that_is_away_is_told_when_it_is_back(city: Platform) -> None:
    registry = city["registry"]
    credentials = registry.access.credentials(registry.access.service_token)
    report = RefusalReport(lambda: connect(registry.address, credentials=credentials), StandingClock())
    report.note_refusal(RefusalSource("person/li", "ipv4:192.0.2.1", Reason.PERMISSION_MISSING), HANDSHAKE, "")
    registry.stop()
    with capture_logs() as lines:
        report._book.tell()
    assert [(line["event"], line["reason"]) for line in lines] == [("refused_attempts_not_told", "SERVICE_UNAVAILABLE")]
    registry.start()
    report.note_refusal(RefusalSource("person/li", "ipv4:192.0.2.1", Reason.PERMISSION_MISSING), HANDSHAKE, "")
    report._book.tell()
    assert [(kept.principal, kept.attempt_count) for kept in records(registry)] == [("person/li", 2)]
