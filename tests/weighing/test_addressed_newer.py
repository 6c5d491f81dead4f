"""A registry of a newer release says things that this release does not know."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import structlog

from services.common.database import create_engine
from services.common.rpc_client import connect
from services.weighing.addressed_follower import AddressedFollower
from services.weighing.directory import Directory
from tests.registry.harness import TIMEOUT_SECONDS
from tests.weighing.harness import PLATFORM, wait_until
from zhichao.common.v1 import refusal_pb2
from zhichao.journal.v1 import addressed_pb2, journal_pb2, journal_pb2_grpc

NEWER_REASON = 9_999


class NewerRegistry(journal_pb2_grpc.JournalServiceServicer):
    """Refuses one log for a reason of its own release and says that there is nothing else."""

    def ReadAddressedEntries(
        self, request: journal_pb2.ReadAddressedEntriesRequest, context: grpc.ServicerContext
    ) -> Iterator[journal_pb2.ReadAddressedEntriesResponse]:
        refusal = refusal_pb2.Refusal(message="of a newer release")
        refusal.reason = NEWER_REASON  # type: ignore[assignment]  # a number that the enum does not have
        yield journal_pb2.ReadAddressedEntriesResponse(
            refusal=addressed_pb2.AddressedRefusal(origin="141000", refusal=refusal)
        )
        yield journal_pb2.ReadAddressedEntriesResponse(ends=addressed_pb2.AddressedEnds())


@pytest.fixture
def channel(socket_directory: Path) -> Iterator[grpc.Channel]:
    server = grpc.server(ThreadPoolExecutor(2))
    address = f"unix:{socket_directory / 'newer.sock'}"
    journal_pb2_grpc.add_JournalServiceServicer_to_server(NewerRegistry(), server)  # type: ignore[abstract]  # the rest is not called
    server.add_insecure_port(address)
    server.start()
    with connect(address) as opened:
        yield opened
    server.stop(0).wait(TIMEOUT_SECONDS)


def test_a_reason_of_a_newer_release_refuses_its_log_and_no_other(channel: grpc.Channel, database_url: str) -> None:
    engine = create_engine(database_url, pool_size=1, application_name="test")
    follower = AddressedFollower(engine, Directory("order-62-2016", PLATFORM), PLATFORM)
    with structlog.testing.capture_logs() as logs:
        follower.start(channel)
        try:
            wait_until(lambda: follower.progress >= 2, "what comes after the refusal is taken")
        finally:
            follower.stop()
            engine.dispose()
    assert follower.refused_count == 1
    told = [one for one in logs if one["event"] == "addressed_entries_refused"]
    assert (told[0]["origin"], told[0]["reason"]) == ("141000", f"REASON_{NEWER_REASON}")
