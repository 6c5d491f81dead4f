"""Measurement 6: what it costs that every call is checked, and encrypted: today's services against those of the release
that did neither, on the same machine in the same minutes.

Everything that came since is in it – permissions, limits, masks, metrics, traces, services – so it is an upper bound.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import grpc

from bench import harness, previous_release
from bench.harness import COUNTY, Result
from bench.stream_ingest import BATCH_RECORDS, STATIC_SCALES
from cli.certificates import make_certificates
from cli.platform_process import PlatformProcess
from services.common.access.tokens import bearer
from zhichao.weighing.v1 import service_pb2, service_pb2_grpc

COST_MAX: Final = 1.10
"""The goal: a tenth."""

PER_SECOND: Final = 50.0
"""Calls of each county; three take turns."""

WARM_CALLS: Final = 100
WARM_BATCHES: Final = 5

BEFORE: Final = "before"
TOKEN: Final = "token"  # noqa: S105 - the name of a county
TLS: Final = "tls"


@dataclass(frozen=True)
class Site:
    """A county's weighing service as those who weigh reach it."""

    address: str
    token: str = ""
    ca_file: Path | None = None

    def connect(self) -> grpc.Channel:
        """Open gRPC's own channel, as an integrator's program does: ours asks for renewed certificates at every call,
        which is not what is measured. The caller closes it.
        """
        if self.ca_file is None:
            return grpc.insecure_channel(self.address)
        return grpc.secure_channel(self.address, grpc.ssl_channel_credentials(self.ca_file.read_bytes()))

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call shows."""
        return bearer(self.token) if self.token else ()

    def stream(self, requests: list[bytes], directory: Path) -> float:
        """Return the seconds that a stream of requests takes."""
        return harness.stream(self.address, self.token, requests, directory, ca_file=self.ca_file)


def run(records: int = 500_000, rounds: int = 5, seconds: float = 20.0) -> Result:
    """Let three counties take turns: of the release before, of today with tokens on loopback, and of today with TLS.

    First single weighings at an even pace, then rounds of streams; ratios of streams are taken round by round.
    """
    result = Result("security_cost", f"time per call and per streamed record at most {COST_MAX} of the release before")
    with harness.scratch() as directory, counties(directory) as sites:
        _measure_calls(result, sites, seconds)
        _measure_streams(result, sites, records // rounds, rounds, directory)
    ratios = [value for name, value in result.figures.items() if name.endswith("_cost")]
    result.is_reached = max(ratios) <= COST_MAX
    result.remarks.append(f"the release before is {previous_release.VERSION}")
    return result


@contextmanager
def counties(directory: Path) -> Iterator[Mapping[str, Site]]:
    """Run the three counties with the same source units."""
    root = previous_release.unpack(directory)
    folder = make_certificates(directory / "pki", [COUNTY])[COUNTY]
    # On loopback `zhichao up` speaks plain text; on every address it does not.
    everywhere = ("--listen", "0.0.0.0")  # noqa: S104 - with TLS and tokens, for the minutes of the measurement
    processes = {
        BEFORE: previous_release.county(root, directory / BEFORE),
        TOKEN: PlatformProcess(COUNTY, directory / TOKEN, log_format="json"),
        TLS: PlatformProcess(COUNTY, directory / TLS, log_format="json", tls_directory=folder, arguments=everywhere),
    }
    with ExitStack() as stack:
        for process in processes.values():
            stack.enter_context(process)
        sites = {}
        for name, process in processes.items():
            if name == BEFORE:
                harness.register_units(process)
                sites[name] = Site(process.address("weighing"))
            else:
                token = harness.register(process)
                sites[name] = Site(process.address("weighing"), token, folder / "ca.crt" if name == TLS else None)
        yield sites


def _measure_calls(result: Result, sites: Mapping[str, Site], seconds: float) -> None:
    count = int(seconds * PER_SECOND)
    messages = [
        service_pb2.StreamWeighingsRequest.FromString(one) for one in harness.make_requests(count + WARM_CALLS, 1)
    ]
    measured: dict[str, list[float]] = {name: [] for name in sites}
    with ExitStack() as stack:
        calls: dict[str, Callable[[int], None]] = {}
        for name, site in sites.items():
            stub = service_pb2_grpc.WeighingServiceStub(stack.enter_context(site.connect()))
            calls[name] = partial(_record, stub, site.metadata, messages)
        for number in range(WARM_CALLS):
            for call in calls.values():
                call(number)
        names = list(calls)
        begun = time.perf_counter()
        for number in range(count):
            for turn in range(len(names)):
                # Another one begins each time, and each comes after the same pause: a call right behind another one
                # finds the processor awake.
                name = names[(number + turn) % len(names)]
                time.sleep(max(begun + (number + turn / len(names)) / PER_SECOND - time.perf_counter(), 0))
                started = time.perf_counter()
                calls[name](WARM_CALLS + number)
                measured[name].append((time.perf_counter() - started) * 1000)
    for name, values in measured.items():
        result.figures[f"{name}_call_p50_milliseconds"] = harness.percentile(values, 50)
        result.figures[f"{name}_call_p99_milliseconds"] = harness.percentile(values, 99)
    for name in (TOKEN, TLS):
        result.figures[f"{name}_call_cost"] = harness.percentile(measured[name], 50) / harness.percentile(
            measured[BEFORE], 50
        )


def _record(
    stub: service_pb2_grpc.WeighingServiceStub,
    metadata: tuple[tuple[str, str], ...],
    messages: list[service_pb2.StreamWeighingsRequest],
    number: int,
) -> None:
    stub.RecordWeighing(service_pb2.RecordWeighingRequest(record=messages[number].records[0]), metadata=metadata)


def _measure_streams(result: Result, sites: Mapping[str, Site], per_round: int, rounds: int, directory: Path) -> None:
    batches = per_round // BATCH_RECORDS
    # Another seed than that of the single calls: a record that is held already costs less.
    requests = harness.make_requests(
        (rounds * batches + WARM_BATCHES) * BATCH_RECORDS, BATCH_RECORDS, seed=harness.SEED + 1, options=STATIC_SCALES
    )
    for site in sites.values():
        site.stream(requests[:WARM_BATCHES], directory)
    names = list(sites)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = WARM_BATCHES + number * batches
        part = requests[first : first + batches]
        for turn in range(len(names)):
            name = names[(number + turn) % len(names)]
            rates[name].append(len(part) * BATCH_RECORDS / sites[name].stream(part, directory))
    for name, values in rates.items():
        result.figures[f"{name}_streamed_records_per_second"] = statistics.median(values)
    for name in (TOKEN, TLS):
        costs = [before / now for before, now in zip(rates[BEFORE], rates[name], strict=True)]
        result.figures |= {
            f"{name}_stream_cost": statistics.median(costs),
            f"{name}_stream_cost_min": min(costs),
            f"{name}_stream_cost_max": max(costs),
        }
