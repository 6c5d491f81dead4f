"""Measurement 1: weighings streamed into one county, against binary COPY of the same rows into tables like the same
ones.
"""

import dataclasses
import statistics
import time
from pathlib import Path
from typing import Any

import psycopg

from bench import harness
from bench.harness import COUNTY, ENTRY_COLUMNS, Result
from cli.platform_process import PlatformProcess
from cli.simulate.options import FAULTLESS, TrafficOptions
from services.weighing.rows import COPY_COLUMNS

BATCH_RECORDS = 1_000
STATIC_SCALES = dataclasses.replace(FAULTLESS, axle_detail_rate=0.0)
"""What most source units have: whole-vehicle scales, which weigh no single axles."""


def run(records: int = 500_000, rounds: int = 5) -> Result:
    """Stream and copy in turn, so that both see the machine in the same mood; the ratio is taken round by round.

    Twice: trucks on static scales, and the simulator's mix, of which a fifth carries measured axles. The yardstick
    copies the same rows with as many per transaction as a message holds; copying 4,096 per transaction is shown beside
    it.
    """
    result = Result("stream_ingest", "records/s on static scales at least 0.6 of binary COPY")
    for name, options in (("static", STATIC_SCALES), ("mixed", FAULTLESS)):
        _measure(result, name, options, records // rounds, rounds)
    result.is_reached = result.figures["static_ratio"] >= 0.6
    return result


def _measure(result: Result, name: str, options: TrafficOptions, per_round: int, rounds: int) -> None:
    batches = per_round // BATCH_RECORDS
    requests = harness.make_requests((rounds * batches + 5) * BATCH_RECORDS, BATCH_RECORDS, options=options)
    streamed, copied, copied_large = [], [], []
    with harness.scratch() as directory, PlatformProcess(COUNTY, directory / "county", log_format="json") as county:
        token = harness.register(county)
        address = county.address("weighing")
        harness.stream(address, token, requests[:5], directory)
        with psycopg.connect(county.database_url("weighing")) as connection:
            for number in range(rounds):
                part = requests[5 + number * batches : 5 + (number + 1) * batches]
                first = harness.log_size(county, COUNTY) + 1
                streamed.append(len(part) * BATCH_RECORDS / harness.stream(address, token, part, directory))
                last = harness.log_size(county, COUNTY)
                copied.append(_copy(connection, first, last, BATCH_RECORDS, "bench_small"))
                copied_large.append(_copy(connection, first, last, 4_096, "bench_large"))
    ratios = [ours / theirs for ours, theirs in zip(streamed, copied, strict=True)]
    result.figures |= {
        f"{name}_streamed_records_per_second": statistics.median(streamed),
        f"{name}_copied_rows_per_second": statistics.median(copied),
        f"{name}_copied_4096_rows_per_second": statistics.median(copied_large),
        f"{name}_ratio": statistics.median(ratios),
        f"{name}_ratio_min": min(ratios),
        f"{name}_ratio_max": max(ratios),
        f"{name}_ratio_to_4096": statistics.median(
            ours / theirs for ours, theirs in zip(streamed, copied_large, strict=True)
        ),
    }


def _copy(connection: psycopg.Connection[Any], first: int, last: int, batch: int, prefix: str) -> float:
    for table in ("journal_entries", "weighings"):
        connection.execute(f"CREATE TABLE IF NOT EXISTS {prefix}_{table} (LIKE {table} INCLUDING ALL)".encode())
    contents = harness.copied_rows(connection, first, last, batch)
    connection.commit()
    started = time.perf_counter()
    for entries, weighings in contents:
        harness.copy_in(connection, f"{prefix}_journal_entries ({ENTRY_COLUMNS})", entries)
        harness.copy_in(connection, f"{prefix}_weighings ({COPY_COLUMNS})", weighings)
        connection.commit()
    return (last - first + 1) / (time.perf_counter() - started)


def memory(records: int = 500_000) -> Result:
    """Measurement 5: memory of the county's process while records stream in, with the one that prepares for it."""
    result = Result("memory", "flat, and at most 300 MB at its highest")
    step = records // 5
    with harness.scratch() as directory, PlatformProcess(COUNTY, directory / "county", log_format="json") as county:
        token = harness.register(county)
        pid = county.service_pid("weighing")
        peak_beside = 0.0
        megabytes = [harness.resident_bytes(pid)[0] / 1e6]
        for number in range(5):
            requests = harness.make_requests(step, BATCH_RECORDS, seed=harness.SEED + number)
            harness.stream(county.address("weighing"), token, requests, Path(directory))
            beside = [harness.resident_bytes(one) for one in harness.preparing_pids(pid)]
            peak_beside = max(peak_beside, sum(peak for _, peak in beside) / 1e6)
            megabytes.append((harness.resident_bytes(pid)[0] + sum(now for now, _ in beside)) / 1e6)
        peak = harness.resident_bytes(pid)[1] / 1e6
    result.figures = {
        "start_megabytes": megabytes[0],
        **{f"after_{(number + 1) * step}_megabytes": value for number, value in enumerate(megabytes[1:])},
        "peak_service_megabytes": peak,
        "peak_preparing_megabytes": peak_beside,
    }
    # Flat: caches fill for a while, but four times the records may not take a fifth more.
    result.is_reached = peak + peak_beside <= 300 and megabytes[-1] <= megabytes[1] * 1.2
    return result
