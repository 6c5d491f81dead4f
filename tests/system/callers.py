"""Calls services of one platform as its operator does, with what a test asks most."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

import grpc

from cli.access import CallerOptions, caller_access, open_channel
from cli.platform_process import PlatformProcess
from cli.simulate.registration import register_below, register_site
from cli.simulate.site import Site
from cli.simulate.traffic import Traffic
from tests.system.waiting import wait_until
from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc
from zhichao.registry.v1 import resources_pb2
from zhichao.registry.v1 import service_pb2 as registry_pb2
from zhichao.registry.v1 import service_pb2_grpc as registry_grpc
from zhichao.relay.v1 import relay_pb2, relay_pb2_grpc
from zhichao.weighing.v1 import service_pb2 as weighing_pb2
from zhichao.weighing.v1 import service_pb2_grpc as weighing_grpc

CALL_SECONDS: Final = 15.0
SECONDS_MAX: Final = 90.0
RECORDS: Final = 400


class Caller:
    """One platform: with the operator's token of its machine, if it has a data directory that holds one."""

    def __init__(self, addresses: Mapping[str, str], data_directory: Path | None = None) -> None:
        self._addresses = addresses
        self._data_directory = data_directory

    @classmethod
    def of(cls, process: PlatformProcess) -> Self:
        """Call a platform that runs on this machine."""
        return cls(process.addresses, process.data_directory)

    def open(self, service: str) -> grpc.Channel:
        return open_channel(
            self._addresses[service], caller_access(CallerOptions(), self._data_directory, ("operator",))
        )

    def positions(self, stream: str) -> dict[str, tuple[int, bytes]]:
        """Return size and root of every log of a stream by origin."""
        with self.open(stream) as channel:
            stub = journal_pb2_grpc.JournalServiceStub(channel)
            answer = stub.ListPositions(journal_pb2.ListPositionsRequest(), timeout=CALL_SECONDS)
        return {one.origin: (one.size, one.root) for one in answer.positions}

    def relay(self) -> relay_pb2.GetRelayStatusResponse:
        with self.open("relay") as channel:
            stub = relay_pb2_grpc.RelayServiceStub(channel)
            return stub.GetRelayStatus(relay_pb2.GetRelayStatusRequest(), timeout=CALL_SECONDS)

    def register(self, site: Site) -> None:
        with self.open("registry") as channel:
            register_site(registry_grpc.RegistryServiceStub(channel), site, today=datetime.now(UTC).date())

    def register_below(self, lower: str, upper: str) -> None:
        with self.open("registry") as channel:
            register_below(registry_grpc.RegistryServiceStub(channel), lower, upper)

    def weigh(self, site: Site, seed: int) -> None:
        """Record what some trucks weighed; all of it is taken once the service knows the site."""
        traffic = Traffic(site, seed=seed, start_time=datetime.now(UTC), records_per_second=10)
        emissions = traffic.emissions()
        records = [next(emissions).record for _ in range(RECORDS)]
        with self.open("weighing") as channel:
            stub = weighing_grpc.WeighingServiceStub(channel)
            request = weighing_pb2.RecordWeighingsRequest(records=records)

            def is_taken() -> bool:
                answer = stub.RecordWeighings(request, timeout=CALL_SECONDS)
                return all(result.HasField("recorded") for result in answer.results)

            wait_until(is_taken, SECONDS_MAX, "the weighing service does not take the records")

    def publish(self, rule_set_id: str) -> None:
        """Publish a rule set of a city, which is addressed to all below it."""
        with self.open("registry") as channel:
            stub = registry_grpc.RegistryServiceStub(channel)
            held = stub.ListRuleSets(registry_pb2.ListRuleSetsRequest(page_size=1), timeout=CALL_SECONDS).rule_sets[0]
            published = resources_pb2.RuleSet()
            published.CopyFrom(held)
            published.ClearField("info")
            published.rule_set_id = rule_set_id
            published.jurisdiction = ""
            stub.CreateRuleSet(registry_pb2.CreateRuleSetRequest(rule_set=published), timeout=CALL_SECONDS)

    def parked(self, stream: str) -> set[str]:
        """Return the kinds that are held and not understood."""
        with self.open(stream) as channel:
            stub = journal_pb2_grpc.JournalServiceStub(channel)
            answer = stub.ListParkedEntries(journal_pb2.ListParkedEntriesRequest(page_size=1_000), timeout=CALL_SECONDS)
        return {one.kind for one in answer.parked_entries}

    def replay(self, stream: str) -> int:
        """Project what is parked; return how many entries stay parked."""
        with self.open(stream) as channel:
            stub = journal_pb2_grpc.JournalServiceStub(channel)
            return stub.ReplayParkedEntries(journal_pb2.ReplayParkedEntriesRequest(), timeout=CALL_SECONDS).parked_count
