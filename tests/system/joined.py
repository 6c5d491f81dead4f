"""Platforms of one machine, joined by mutual TLS as `zhichao run` joins them, with a site at the county and nothing in
between: for tests of what is shown and kept, not of faults.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psycopg

from cli.certificates import make_certificates
from cli.platform_layout import LOOPBACK, PEER_OFFSET, join, reserve_any
from cli.platform_process import PlatformProcess
from cli.simulate.registration import register_below, register_site
from cli.simulate.site import CITY, COUNTY, PROVINCE, make_site
from cli.simulate.traffic import Traffic
from tests.system.waiting import wait_until
from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc
from zhichao.registry.v1 import service_pb2_grpc as registry_grpc
from zhichao.weighing.v1 import record_pb2, service_pb2, service_pb2_grpc

WAIT_SECONDS: Final = 90.0
CALL_SECONDS: Final = 20.0
RECORDS_PER_MESSAGE: Final = 500

# Ports of a platform's block that nothing else has.
METRICS_OFFSETS: Final = {"registry": 17, "weighing": 18, "relay": 19, "enforcement": 9}


class Joined:
    """Platforms from the county up; a context manager that starts them, registers the site, and stops them."""

    def __init__(
        self,
        directory: Path,
        platforms: Sequence[str] = (COUNTY, CITY, PROVINCE),
        *,
        environments: Mapping[str, Mapping[str, str]] | None = None,
        hosts: Mapping[str, str] | None = None,
        is_metered: bool = False,
        seed: int = 0,
    ) -> None:
        """`hosts` are addresses of this machine that platforms listen on, unless all listen on the same."""
        self.directory = directory
        self._hosts = hosts or {}
        self.site = make_site(seed=seed, units=2)
        self._environments = environments or {}
        self._is_metered = is_metered
        # Some hours ago, ten trucks a second: a test takes as many as it likes, and none is weighed tomorrow.
        began = datetime.now(UTC) - timedelta(hours=6)
        traffic = Traffic(self.site, seed=seed, start_time=began, records_per_second=10)
        self._records = (emission.record for emission in traffic.emissions())
        self._certificates = make_certificates(directory / "pki", platforms)
        self._stack = ExitStack()
        self._ports: dict[str, int] = {}
        for code in platforms:
            port, reservation = reserve_any(self._host(code))
            self._ports[code] = port
            self._stack.callback(reservation.close)
        self._upstreams = dict(zip(platforms, [*platforms[1:], ""], strict=True))
        self.platforms = {code: self.process(code, directory / code) for code in platforms}

    def process(self, code: str, data_directory: Path) -> PlatformProcess:
        """Make the process of a platform on a data directory, on the ports that the others know; not started."""
        upstream = self._upstreams[code]
        metrics = {
            f"ZHICHAO_{service.upper()}_METRICS_LISTEN": join(LOOPBACK, self._ports[code] + offset)
            for service, offset in METRICS_OFFSETS.items()
            if self._is_metered
        }
        return PlatformProcess(
            code,
            data_directory,
            upstream=join(self._host(upstream), self._ports[upstream] + PEER_OFFSET) if upstream else "",
            base_port=self._ports[code],
            arguments=("--listen", self._host(code)),
            tls_directory=self._certificates[code],
            log_format="json",
            environment={"ZHICHAO_LOG_LEVEL": "info", **metrics, **self._environments.get(code, {})},
        )

    def _host(self, code: str) -> str:
        return self._hosts.get(code, LOOPBACK)

    @property
    def county(self) -> PlatformProcess:
        """The lowest platform, where records come in."""
        return self.platforms[COUNTY]

    def replace(self, code: str, process: PlatformProcess) -> None:
        """Put another process in the place of a platform that has stopped; it is stopped in the end."""
        self.platforms[code] = process

    def register(self) -> None:
        """Register each platform at the one above it, and the site at the county."""
        for lower, upper in self._upstreams.items():
            if upper:
                with self.platforms[upper].connect("registry") as channel:
                    register_below(registry_grpc.RegistryServiceStub(channel), lower, upper)
        with self.county.connect("registry") as channel:
            register_site(registry_grpc.RegistryServiceStub(channel), self.site, today=datetime.now(UTC).date())

    def take(self, count: int) -> list[record_pb2.WeighingRecord]:
        """Return records that no test has seen."""
        return list(islice(self._records, count))

    def record(self, records: Sequence[record_pb2.WeighingRecord]) -> list[service_pb2.Recorded]:
        """Send records to the county until each is recorded; return the answers."""
        answers: dict[str, service_pb2.Recorded] = {}
        with self.county.connect("weighing") as channel:
            stub = service_pb2_grpc.WeighingServiceStub(channel)

            def send() -> bool:
                missing = [one for one in records if one.record_id not in answers][:RECORDS_PER_MESSAGE]
                request = service_pb2.RecordWeighingsRequest(records=missing)
                results = stub.RecordWeighings(request, timeout=CALL_SECONDS).results
                for one, result in zip(missing, results, strict=True):
                    if result.HasField("recorded"):
                        answers[one.record_id] = result.recorded
                return len(answers) == len(records)

            wait_until(send, WAIT_SECONDS, lambda: f"only {len(answers)} of {len(records)} records are taken")
        return [answers[one.record_id] for one in records]

    def position(self, code: str, stream: str = "weighing", origin: str = COUNTY) -> journal_pb2.Position:
        """Return where a platform stands in a log of the county."""
        with self.platforms[code].connect(stream) as channel:
            stub = journal_pb2_grpc.JournalServiceStub(channel)
            answer = stub.ListPositions(journal_pb2.ListPositionsRequest(origin=origin), timeout=CALL_SECONDS)
        return answer.positions[0] if answer.positions else journal_pb2.Position()

    def wait_equal(self, *codes: str, stream: str = "weighing") -> None:
        """Wait until platforms hold the same log of the county: as much, with the same root."""

        def places() -> set[tuple[int, bytes]]:
            return {(one.size, one.root) for one in (self.position(code, stream) for code in codes)}

        wait_until(lambda: len(places()) == 1, WAIT_SECONDS, lambda: f"{codes} hold {places()}\n{self.tails()}")

    def entries(self, code: str, stream: str = "weighing", origin: str = COUNTY) -> list[bytes]:
        """Return the entries of a log as a platform's database holds them; fails unless they are dense from 1."""
        with psycopg.connect(self.platforms[code].database_url(stream)) as connection:
            rows: list[Any] = connection.execute(
                "SELECT sequence, entry FROM journal_entries WHERE origin = %s ORDER BY sequence", (origin,)
            ).fetchall()
        assert [sequence for sequence, _ in rows] == list(range(1, len(rows) + 1))
        return [bytes(entry) for _, entry in rows]

    def tails(self) -> str:
        """Return the ends of all logs, for a test that failed."""
        return "\n".join(f"--- {code}\n{process.log_tail()}" for code, process in self.platforms.items())

    def __enter__(self) -> Self:
        """Start all side by side, and register."""
        self._stack.close()
        try:
            for process in self.platforms.values():
                process.launch()
            for process in self.platforms.values():
                process.wait_until_serving()
            self.register()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all."""
        if error is not None:
            print(self.tails())
        self.close()

    def close(self) -> None:
        """Kill what still runs."""
        self._stack.close()
        for process in self.platforms.values():
            process.kill_everything()
