"""Measurement 4: the first page of a list and the day totals with few and with many rows."""

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
from google.protobuf.timestamp_pb2 import Timestamp

from bench import harness
from bench.harness import COUNTY, Result
from bench.stream_ingest import BATCH_RECORDS
from cli.platform_process import PlatformProcess
from services.common.access.tokens import bearer
from services.common.rpc_client import connect
from zhichao.weighing.v1 import service_pb2, service_pb2_grpc, weighing_pb2

CALLS = 200


def run(few: int = 10_000, many: int = 5_000_000) -> Result:
    """Measure with few rows, multiply them in the tables by SQL (a year of them), and measure again."""
    result = Result("list_scale", "each list with many rows at most 1.5 times the same list with few")
    with harness.scratch() as directory, PlatformProcess(COUNTY, directory / "county", log_format="json") as county:
        token, viewer = harness.register(county), harness.issue_viewer(county)
        harness.stream(county.address("weighing"), token, harness.make_requests(few, BATCH_RECORDS), directory)
        with (
            connect(county.address("weighing"), credentials=partial(bearer, viewer)) as channel,
            psycopg.connect(county.database_url("weighing"), autocommit=True) as connection,
        ):
            stub = service_pb2_grpc.WeighingServiceStub(channel)
            connection.execute("VACUUM ANALYZE")
            before = _measure(stub)
            _multiply(connection, many // few)
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")
            after = _measure(stub)
            row = connection.execute("SELECT count(*) FROM weighings").fetchone()
            result.figures["rows"] = float(row[0]) if row else 0.0
    for name, milliseconds in before.items():
        result.figures[f"{name}_few_milliseconds"] = milliseconds
        result.figures[f"{name}_many_milliseconds"] = after[name]
        result.figures[f"{name}_ratio"] = after[name] / milliseconds
    result.is_reached = all(value <= 1.5 for name, value in result.figures.items() if name.endswith("_ratio"))
    return result


def _measure(stub: service_pb2_grpc.WeighingServiceStub) -> dict[str, float]:
    newest = stub.ListWeighings(service_pb2.ListWeighingsRequest()).held_weighings[0].weighing
    until = newest.record.weigh_time.ToDatetime(tzinfo=UTC)
    day = (datetime.now(UTC) + timedelta(hours=8)).date().isoformat()
    hour_before = Timestamp()
    hour_before.FromDatetime(until - timedelta(hours=1))
    narrow = service_pb2.WeighingFilter
    # Pages as long as the few rows can fill, so that both times the same number of weighings is answered.
    filters = {
        "all": (narrow(), 50),
        "unit": (narrow(source_unit_id=newest.record.source_unit_id), 50),
        "plate": (narrow(plate_number=newest.plate_number), 1),
        "suspected": (narrow(verdicts=[weighing_pb2.VERDICT_SUSPECTED]), 5),
        "hour": (narrow(end_time=newest.record.weigh_time, start_time=hour_before), 50),
    }
    calls: dict[str, Callable[[], Any]] = {
        f"list_{name}": lambda one=one, size=size: stub.ListWeighings(  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
            service_pb2.ListWeighingsRequest(filter=one, page_size=size)
        )
        for name, (one, size) in filters.items()
    }
    calls["day_totals"] = lambda: stub.ListDayTotals(service_pb2.ListDayTotalsRequest(first_day=day, last_day=day))
    medians = {}
    for name, call in calls.items():
        for _ in range(20):
            call()
        taken = []
        for _ in range(CALLS):
            started = time.perf_counter()
            call()
            taken.append((time.perf_counter() - started) * 1000)
        medians[name] = statistics.median(taken)
    return medians


def _multiply(connection: psycopg.Connection, times: int) -> None:
    """Add copies of all rows, each copy some hours older; the journal's heads stay, as only lists are measured."""
    row = connection.execute("SELECT max(sequence) FROM journal_entries").fetchone()
    size = row[0] if row else 0
    for copy in range(1, times):
        shift = f"sequence + {copy * size}"
        connection.execute(
            f"INSERT INTO journal_entries SELECT origin, {shift}, entry, leaf FROM journal_entries"  # noqa: S608 - numbers of ours
            f" WHERE sequence <= {size}".encode()
        )
        connection.execute(
            f"INSERT INTO weighings SELECT origin, {shift}, weigh_time - interval '{copy} hours', receive_time,"  # noqa: S608 - numbers of ours
            " gross_weight_kg, verdict, severity, event, axle_count, quality_bits, limit_kg, excess_kg, source_unit_id,"
            f" weighing_point_id, scale_id, record_id || '.{copy}', plate_number FROM weighings"
            f" WHERE sequence <= {size}".encode()
        )
    connection.execute(
        "INSERT INTO day_totals SELECT day - n, origin, source_unit_id, weighing_count, compliant_count,"
        " undetermined_count, suspected_count, not_judged_count, no_plate_count, gross_weight_sum_kg"
        " FROM day_totals, generate_series(2, 365) AS n ON CONFLICT DO NOTHING"
    )
