"""Measurement 3: the reply to one weighing at 100 a second, against an empty RPC plus one bare commit at the same
pace.
"""

import time
from collections.abc import Callable

import psycopg
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench import harness
from bench.harness import COUNTY, Result
from cli.platform_process import PlatformProcess
from services.common.access.tokens import bearer
from services.common.rpc_client import connect
from zhichao.weighing.v1 import service_pb2, service_pb2_grpc

PER_SECOND = 100.0


def run(seconds: float = 20.0) -> Result:
    """Call in turn at an even pace, each 100 times a second: one weighing, one empty RPC, one commit."""
    result = Result("single_latency", "p50 at most 2 times an empty RPC plus one bare commit")
    count = int(seconds * PER_SECOND)
    messages = [service_pb2.StreamWeighingsRequest.FromString(one) for one in harness.make_requests(count + 100, 1)]
    with harness.scratch() as directory, PlatformProcess(COUNTY, directory / "county", log_format="json") as county:
        token = harness.register(county)
        with (
            connect(county.address("weighing"), credentials=lambda: bearer(token)) as channel,
            psycopg.connect(county.database_url("weighing")) as connection,
        ):
            weighing = service_pb2_grpc.WeighingServiceStub(channel)
            health = health_pb2_grpc.HealthStub(channel)
            connection.execute("CREATE TABLE bench_commit (number bigint)")
            connection.commit()

            def record(number: int) -> None:
                weighing.RecordWeighing(service_pb2.RecordWeighingRequest(record=messages[number].records[0]))

            def empty(_number: int) -> None:
                health.Check(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]  # grpc_health is untyped

            def commit(number: int) -> None:
                connection.execute("INSERT INTO bench_commit VALUES (%s)", (number,))
                connection.commit()

            calls: dict[str, Callable[[int], None]] = {"weighing": record, "empty_rpc": empty, "bare_commit": commit}
            for number in range(100):
                for call in calls.values():
                    call(number)
            measured: dict[str, list[float]] = {name: [] for name in calls}
            begun = time.perf_counter()
            for number in range(count):
                for turn, (name, call) in enumerate(calls.items()):
                    # Each comes after the same pause: a call right behind another one finds the processor awake.
                    due = begun + (number + turn / len(calls)) / PER_SECOND
                    time.sleep(max(due - time.perf_counter(), 0))
                    started = time.perf_counter()
                    call(number + 100)
                    measured[name].append((time.perf_counter() - started) * 1000)
    for name, values in measured.items():
        result.figures[f"{name}_p50_milliseconds"] = harness.percentile(values, 50)
        result.figures[f"{name}_p99_milliseconds"] = harness.percentile(values, 99)
    yardstick = result.figures["empty_rpc_p50_milliseconds"] + result.figures["bare_commit_p50_milliseconds"]
    result.figures["ratio_p50"] = result.figures["weighing_p50_milliseconds"] / yardstick
    result.is_reached = result.figures["ratio_p50"] <= 2
    return result
