"""A registry of a newer release says things that this release does not know."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from services.common.database import create_engine
from services.common.rpc_client import connect
from services.weighing.addressed_follower import AddressedFollower
from services.weighing.directory import Directory
from tests.common.conftest import Events, events  # noqa: F401 - a fixture
from tests.registry.harness import TIMEOUT_SECONDS
from tests.waiting import wait_until
from tests.weighing.harness import PLATFORM
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
def server(socket_directory: Path) -> Iterator[grpc.Server]:
    made = grpc.server(ThreadPoolExecutor(2))
    journal_pb2_grpc.add_JournalServiceServicer_to_server(NewerRegistry(), made)  # type: ignore[abstract]  # the rest is not called
    made.add_insecure_port(f"unix:{socket_directory / 'newer.sock'}")
    made.start()
    yield made
    made.stop(0).wait(TIMEOUT_SECONDS)


@pytest.fixture
def follower(server: grpc.Server, socket_directory: Path, database_url: str) -> Iterator[AddressedFollower]:
    engine = create_engine(database_url, pool_size=1, application_name="test")
    made = AddressedFollower(engine, Directory("order-62-2016", PLATFORM), PLATFORM)
    with connect(f"unix:{socket_directory / 'newer.sock'}") as channel:
        made.start(channel)
        yield made
        made.stop()
    engine.dispose()


def test_a_reason_of_a_newer_release_refuses_its_log_and_no_other(
    follower: AddressedFollower,
    events: Events,  # noqa: F811 - the fixture
) -> None:
    wait_until(lambda: follower.progress >= 2, "what comes after the refusal is taken")
    wait_until(lambda: events.named("addressed_entries_refused"), "it is told")
    told = events.named("addressed_entries_refused")[0]
    assert (told["origin"], told["reason"]) == ("141000", f"REASON_{NEWER_REASON}")
    assert follower.refused_count == 1


def test_a_log_that_is_left_alone_is_counted_while_the_registry_is_away(
    follower: AddressedFollower,
    server: grpc.Server,
    events: Events,  # noqa: F811 - the fixture
) -> None:
    wait_until(lambda: follower.refused_count == 1, "the refusal is taken")
    server.stop(0).wait(TIMEOUT_SECONDS)
    wait_until(lambda: len(events.named("follow_interrupted")) >= 3, "the registry is missed")
    assert follower.refused_count == 1
