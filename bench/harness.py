"""What the measurements share: a county with registered source units, ready-made requests, clocks and tables of
results.
"""

import json
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import psycopg

from cli.platform_process import PlatformProcess
from cli.simulate.options import FAULTLESS, TrafficOptions
from cli.simulate.registration import register_site
from cli.simulate.site import Site, make_site
from cli.simulate.traffic import Traffic
from services.weighing.rows import COPY_COLUMNS
from zhichao.access.v1 import credential_pb2
from zhichao.access.v1 import service_pb2 as access_pb2
from zhichao.access.v1.service_pb2_grpc import AccessServiceStub
from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc
from zhichao.registry.v1 import service_pb2_grpc as registry_grpc
from zhichao.weighing.v1 import service_pb2

COUNTY, CITY, PROVINCE = "141025", "141000", "140000"
SEED = 20260101
SOURCE_UNITS = 40
RECORDS_PER_SECOND = 200.0
"""Pace of the made-up trucks' weigh times; it has nothing to do with how fast they are sent."""

ENTRY_COLUMNS = "origin, sequence, entry, leaf"
STREAM_METHOD = "/zhichao.weighing.v1.WeighingService/StreamWeighings"
WAIT_SECONDS_MAX = 900.0

LIMITS = credential_pb2.CallLimits(calls_per_second=10_000, burst_calls=100_000, bytes_per_second=1 << 30)
"""The highest that the registry allows: what is measured is the service, not its limits."""


@dataclass
class Result:
    """One measurement: named figures, and whether the goal was reached."""

    name: str
    goal: str
    figures: dict[str, float] = field(default_factory=dict)
    is_reached: bool | None = None
    remarks: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return {
            "name": self.name,
            "goal": self.goal,
            "reached": self.is_reached,
            "figures": {name: round(value, 4) for name, value in self.figures.items()},
            "remarks": self.remarks,
        }


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a directory for the data of one measurement."""
    with tempfile.TemporaryDirectory(prefix="zhichao-bench-", ignore_cleanup_errors=True) as directory:
        path = Path(directory)
        # Started by root, the database servers run under an account of their own and must reach each other's sockets.
        path.chmod(0o755)
        yield path


def site() -> Site:
    """Return the source units that all measurements use."""
    return make_site(seed=SEED, units=SOURCE_UNITS)


def register(platform: PlatformProcess) -> str:
    """Register the source units with a platform; return the token of an integrator of all of them, who may send at any
    speed.
    """
    register_units(platform)
    return _issue(
        platform,
        credential_pb2.Credential(
            kind=credential_pb2.PRINCIPAL_KIND_INTEGRATOR,
            display_name="bench",
            source_unit_ids=[unit.source_unit_id for unit in site().units],
            limits=LIMITS,
        ),
    )


def register_units(platform: PlatformProcess) -> None:
    """Register the source units with a platform."""
    with platform.connect("registry") as channel:
        register_site(registry_grpc.RegistryServiceStub(channel), site(), today=datetime.now(UTC).date())


def issue_viewer(platform: PlatformProcess) -> str:
    """Return the token of a person who may read everything that is no personal data, at any speed."""
    return _issue_person(platform, credential_pb2.ROLE_VIEWER)


def issue_officer(platform: PlatformProcess) -> str:
    """Return the token of a person who may see evidence, at any speed."""
    return _issue_person(platform, credential_pb2.ROLE_OFFICER)


def _issue_person(platform: PlatformProcess, role: credential_pb2.Role.ValueType) -> str:
    return _issue(
        platform,
        credential_pb2.Credential(
            kind=credential_pb2.PRINCIPAL_KIND_PERSON,
            display_name="bench",
            division_code=platform.platform,
            roles=[role],
            limits=LIMITS,
        ),
    )


def _issue(platform: PlatformProcess, credential: credential_pb2.Credential) -> str:
    with platform.connect("registry", "security") as channel:
        request = access_pb2.CreateCredentialRequest(credential=credential)
        return str(AccessServiceStub(channel).CreateCredential(request, timeout=10).token)


def make_requests(
    records: int, batch_records: int, *, seed: int = SEED, options: TrafficOptions = FAULTLESS
) -> list[bytes]:
    """Return serialised stream messages of made-up trucks, weighed up to now."""
    start = datetime.now(UTC) - timedelta(seconds=records / RECORDS_PER_SECOND + 1)
    traffic = Traffic(site(), seed=seed, start_time=start, records_per_second=RECORDS_PER_SECOND, options=options)
    emissions = traffic.emissions()
    requests = []
    for first in range(0, records, batch_records):
        count = min(batch_records, records - first)
        batch = [next(emissions).record for _ in range(count)]
        requests.append(service_pb2.StreamWeighingsRequest(records=batch).SerializeToString())
    return requests


_CLIENT = """
import grpc, pickle, sys, time
requests = pickle.load(open(sys.argv[2], "rb"))
options = [("grpc.max_receive_message_length", 1 << 26)]
if sys.argv[4]:
    authorities = grpc.ssl_channel_credentials(open(sys.argv[4], "rb").read())
    opened = grpc.secure_channel(sys.argv[1], authorities, options=options)
else:
    opened = grpc.insecure_channel(sys.argv[1], options=options)
with opened as channel:
    grpc.channel_ready_future(channel).result(30)
    call = channel.stream_stream(sys.argv[3], request_serializer=bytes, response_deserializer=bytes)
    metadata = [("authorization", "Bearer " + sys.stdin.read())]
    started = time.perf_counter()
    answers = sum(1 for _ in call(iter(requests), metadata=metadata))
    seconds = time.perf_counter() - started
assert answers == len(requests), (answers, len(requests))
print(seconds)
"""


def stream(
    address: str, token: str, requests: Sequence[bytes], directory: Path, *, ca_file: Path | None = None
) -> float:
    """Send requests from a process of its own and return the seconds until the last was answered.

    TLS is spoken if there is a file with the authorities that the service's certificate is checked with.
    """
    path = directory / "requests.pickle"
    path.write_bytes(pickle.dumps(list(requests)))
    output = subprocess.run(
        [sys.executable, "-c", _CLIENT, address, str(path), STREAM_METHOD, str(ca_file or "")],
        input=token,
        check=True,
        capture_output=True,
        text=True,
    )
    path.unlink()
    return float(output.stdout)


def log_size(platform: PlatformProcess, origin: str) -> int:
    """Return the size of one log of a platform's weighing service; 0 when it is not held."""
    with platform.connect("weighing") as channel:
        return size_at(channel, origin)


def size_at(channel: grpc.Channel, origin: str) -> int:
    """Return the size of one log of the service that a channel leads to; 0 when it is not held."""
    stub = journal_pb2_grpc.JournalServiceStub(channel)
    answer = stub.ListPositions(journal_pb2.ListPositionsRequest(origin=origin), timeout=10)
    return max((position.size for position in answer.positions), default=0)


def wait_until(condition: Callable[[], bool], what: str, interval_seconds: float = 0.02) -> float:
    """Return the seconds until a condition holds. Raises TimeoutError."""
    started = time.perf_counter()
    while not condition():
        if time.perf_counter() - started > WAIT_SECONDS_MAX:
            raise TimeoutError(f"{what} did not happen within {WAIT_SECONDS_MAX:.0f} s")
        time.sleep(interval_seconds)
    return time.perf_counter() - started


def copy_out(connection: psycopg.Connection[Any], query: str) -> bytes:
    """Return the rows of a query in binary COPY form."""
    with connection.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)".encode()) as copy:
        return b"".join(bytes(part) for part in copy)


def copied_rows(
    connection: psycopg.Connection[Any], first: int, last: int, batch_records: int
) -> list[tuple[bytes, bytes]]:
    """Return entries and weighings from first to last in binary COPY form, so many sequences to a pair."""
    contents = []
    for start in range(first, last + 1, batch_records):
        end = min(start + batch_records - 1, last)
        where = f"WHERE sequence BETWEEN {start} AND {end} ORDER BY sequence"
        entries = copy_out(connection, f"SELECT {ENTRY_COLUMNS} FROM journal_entries {where}")  # noqa: S608 - numbers
        weighings = copy_out(connection, f"SELECT {COPY_COLUMNS} FROM weighings {where}")  # noqa: S608 - numbers
        contents.append((entries, weighings))
    return contents


def copy_in(connection: psycopg.Connection[Any], table: str, content: bytes) -> None:
    """Write rows in binary COPY form."""
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)".encode()) as copy:
        copy.write(content)


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile of measured values."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def resident_bytes(pid: int) -> tuple[int, int]:
    """Return the resident memory of a process now and at its highest, in bytes (Linux /proc)."""
    values = {}
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        if name in {"VmRSS", "VmHWM"}:
            values[name] = int(rest.split()[0]) * 1024
    return values["VmRSS"], values["VmHWM"]


def preparing_pids(pid: int) -> list[int]:
    """Return the processes that prepare backlogs for a service (Linux /proc)."""
    return [child for child in children(pid) if b"preparing_worker" in Path(f"/proc/{child}/cmdline").read_bytes()]


def children(pid: int) -> list[int]:
    """Return the processes that a process has started (Linux /proc)."""
    lists = [thread / "children" for thread in Path(f"/proc/{pid}/task").iterdir()]
    return [int(child) for one in lists for child in one.read_text(encoding="ascii").split()]


def dump(results: Sequence[Result]) -> str:
    """Return results as JSON."""
    return json.dumps([result.to_json() for result in results], indent=2, ensure_ascii=False)
